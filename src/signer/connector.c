#include "dkimroll/connector.h"

int connector_open(struct connector *connector, const struct connector_request *request, struct stream **ret_stream,
                   struct error *error) {
  return connector->ops->open(connector, request, ret_stream, error);
}

int stream_connected(struct stream *stream) {
  return stream->connector->ops->connected(stream);
}

ssize_t stream_read(struct stream *stream, void *octets, size_t size) {
  return stream->connector->ops->read(stream, octets, size);
}

ssize_t stream_write(struct stream *stream, const void *octets, size_t size) {
  return stream->connector->ops->write(stream, octets, size);
}

int stream_watch(struct stream *stream, unsigned events) {
  return stream->connector->ops->watch(stream, events);
}

void stream_close(struct stream **stream) {
  if (!*stream) return;
  (*stream)->connector->ops->close(*stream);
  *stream = NULL;
}

void connector_destroy(struct connector *connector) {
  if (connector) connector->ops->destroy(connector);
}
