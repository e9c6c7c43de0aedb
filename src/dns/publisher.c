/* Publishers: thin callers of the ops table, and what all of them share. */
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

static int check_item(const struct publish_item *item, struct error *error) {
  bool record = item->change == PUBLISH_ADD || item->change == PUBLISH_REPLACE;
  bool before = item->change == PUBLISH_DELETE || item->change == PUBLISH_REPLACE;
  bool known = record || before || item->change == PUBLISH_ATTEST;
  if (known && item->name && record == !!item->record && before == !!item->record_before) return 0;
  return error_set(error, ERROR_INVALID, "publishing %s: change %d without the records that belong to it",
                   item->name ? item->name : "a record without a name", (int)item->change);
}

int publish_items_check(const struct publish_item *items, size_t count, struct error *error) {
  if (count > PUBLISH_ITEMS_MAX)
    return error_set(error, ERROR_LIMIT, "publishing %zu records at once, more than %d", count, PUBLISH_ITEMS_MAX);
  for (size_t i = 0; i < count; i++) {
    int code = check_item(&items[i], error);
    if (code < 0) return code;
  }
  return 0;
}

size_t publisher_batch_maximum(const struct policy_publisher *policy) {
  enum { CALLS_IN_ROW = 32 };
  return policy->type == PUBLISHER_COMMAND ? (size_t)policy->parallel * CALLS_IN_ROW : 0;
}

int64_t publisher_seconds(const struct policy_publisher *policy) {
  enum { LOOKS_SECONDS = 40 }; /* the look before, and what is left of the last one after */
  switch (policy->type) {
  case PUBLISHER_COMMAND: return LOOKS_SECONDS + 4 * policy->timeout + policy->wait;
  case PUBLISHER_ZONEFILE: return LOOKS_SECONDS + 2 * policy->timeout + policy->wait;
  case PUBLISHER_RFC2136: break;
  }
  return 0;
}
