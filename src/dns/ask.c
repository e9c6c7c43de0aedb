#include "dkimroll/ask.h"

#include <stdlib.h>

#include "dkimroll/text.h"

struct ask {
  const struct asker *asker;
  struct ask_request request;
  ask_done *done;
  void *context;
  size_t address;   /* index */
  unsigned attempt; /* of this address */
  bool tcp;
  struct message_query query;
  struct transport_exchange *exchange;
  struct message *message; /* the accepted answer, until done */
  struct error failure;    /* why the last attempt failed */
  int64_t started;         /* boottime */
};

static void ask_free(struct ask *ask) {
  transport_cancel(ask->asker->transport, &ask->exchange);
  message_free(ask->message);
  free(ask);
}

void ask_cancel(struct ask **ask) {
  if (!*ask) return;
  ask_free(*ask);
  *ask = NULL;
}

static void ask_finish(struct ask *ask, const struct error *error) {
  ask->done(ask->context, error->code ? NULL : ask->message, &ask->request.addresses[ask->address], error);
  ask_free(ask);
}

static int ask_send(struct ask *ask, struct error *error);

/* The next attempt: the same address again, TCP, the next address; false: that was the last. */
static bool ask_advance(struct ask *ask) {
  const bool hopeless = ask->failure.code == ERROR_NO_ROUTE || ask->failure.code == ERROR_REFUSED;
  if (!hopeless && !ask->tcp && ++ask->attempt < ask->request.attempts) return true;
  if (!hopeless && !ask->tcp && ask->request.tcp_at_last) {
    ask->tcp = true;
    return true;
  }
  if (ask->address + 1 == ask->request.address_count) return false;
  ask->address++;
  ask->attempt = 0;
  ask->tcp = false;
  return true;
}

static void ask_go_on(struct ask *ask) {
  struct error error = {0};
  const int64_t now = loop_boottime(ask->asker->loop);
  while (now < ask->request.deadline && ask_advance(ask)) {
    if (ask_send(ask, &error) == 0) return;
    ask->failure = error;
  }
  if (ask->failure.code == ERROR_TIMEOUT) {
    char text[ADDRESS_TEXT_SIZE];
    error_set(&ask->failure, ERROR_TIMEOUT, "no answer from %s in %lld s", address_format(&ask->request.addresses[ask->address], text),
              (long long)((now - ask->started + 500) / 1000));
  }
  ask_finish(ask, &ask->failure);
}

static bool ask_accept(void *context, const uint8_t *octets, size_t size) {
  struct ask *ask = context;
  struct message *message = NULL;
  struct error unused;
  if (message_parse(octets, size, &message, &unused)) return false;
  if (!message_answers(message, &ask->query)) {
    message_free(message);
    return false;
  }
  ask->message = message;
  return true;
}

static void ask_answered(struct ask *ask) {
  static const struct error success;
  const struct message *message = ask->message;
  const bool good = message->rcode == DNS_NOERROR || message->rcode == DNS_NXDOMAIN;
  if (message->truncated && !ask->tcp) {
    struct error error = {0};
    message_free(ask->message);
    ask->message = NULL;
    ask->tcp = true;
    if (ask_send(ask, &error) == 0) return;
    ask->failure = error;
    ask_go_on(ask);
  } else if (good || ask->request.any_rcode) {
    ask_finish(ask, &success);
  } else {
    char text[ADDRESS_TEXT_SIZE];
    error_set(&ask->failure, ERROR_REFUSED, "%s answers %s to %s", address_format(&ask->request.addresses[ask->address], text),
              message_rcode_name(message->rcode), ask->request.name);
    error_retryable(&ask->failure, true);
    message_free(ask->message);
    ask->message = NULL;
    ask_go_on(ask);
  }
}

static void ask_exchanged(void *context, const struct error *result) {
  struct ask *ask = context;
  ask->exchange = NULL;
  if (!result->code && ask->message) {
    ask_answered(ask);
    return;
  }
  ask->failure = *result;
  ask_go_on(ask);
}

static int ask_send(struct ask *ask, struct error *error) {
  uint8_t octets[MESSAGE_QUERY_MAX];
  size_t size = 0;
  const int64_t now = loop_boottime(ask->asker->loop);
  ask->query = (struct message_query){.name = ask->request.name,
                                      .type = ask->request.type,
                                      .id = entropy_u16(ask->asker->entropy),
                                      .recursion_desired = ask->request.recursion_desired,
                                      .dnssec_ok = !ask->request.recursion_desired};
  int result = message_build_query(&ask->query, octets, sizeof octets, &size, error);
  if (result) return result;
  int64_t deadline = now + ask->request.attempt_ms;
  if (deadline > ask->request.deadline) deadline = ask->request.deadline;
  const struct transport_request request = {.address = ask->request.addresses[ask->address],
                                            .protocol = ask->tcp ? TRANSPORT_TCP : TRANSPORT_UDP,
                                            .octets = octets,
                                            .size = size,
                                            .deadline = deadline};
  return transport_exchange(ask->asker->transport, &request, ask_accept, ask_exchanged, ask, &ask->exchange, error);
}

int ask_start(const struct asker *asker, const struct ask_request *request, ask_done *done, void *context, struct ask **ret_ask,
              struct error *error) {
  if (request->address_count == 0) return error_set(error, ERROR_NOT_FOUND, "there is no server that could be asked about %s", request->name);
  struct ask *ask = calloc(1, sizeof *ask);
  if (!ask) return error_set(error, ERROR_NO_MEMORY, "out of memory for a question");
  ask->asker = asker;
  ask->request = *request;
  ask->done = done;
  ask->context = context;
  ask->started = loop_boottime(asker->loop);
  int result = ask_send(ask, error);
  if (result) {
    ask_free(ask);
    return result;
  }
  *ret_ask = ask;
  return 0;
}
