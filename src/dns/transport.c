#include "dkimroll/transport.h"

int transport_exchange(struct transport *transport, const struct transport_request *request, transport_accept *accept,
                       transport_done *done, void *context, struct transport_exchange **ret_exchange,
                       struct error *error) {
  return transport->ops->exchange(transport, request, accept, done, context, ret_exchange, error);
}

void transport_cancel(struct transport *transport, struct transport_exchange **exchange) {
  if (!*exchange) return;
  transport->ops->cancel(transport, *exchange);
  *exchange = NULL;
}

void transport_destroy(struct transport *transport) {
  if (transport) transport->ops->destroy(transport);
}
