/* Publishers: thin callers of the ops table. */
#include "dkimroll/publisher.h"

int publisher_start(struct publisher *publisher, const struct publish_item *items, size_t count, int64_t deadline,
                    publisher_done *done, void *context, struct publish_operation **ret_operation,
                    struct error *error) {
  return publisher->ops->start(publisher, items, count, deadline, done, context, ret_operation, error);
}

void publisher_cancel(struct publisher *publisher, struct publish_operation **operation) {
  if (!*operation) return;
  publisher->ops->cancel(publisher, *operation);
  *operation = NULL;
}

void publisher_destroy(struct publisher *publisher) {
  if (publisher) publisher->ops->destroy(publisher);
}
