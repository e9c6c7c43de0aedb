/* Queries of an update run: what stands at a name before the change, and whether it shows afterwards. */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "dkimroll/update_state.h"
#include "dkimroll/update_work.h"

enum { NAME_MAX_TEXT = DNS_NAME_TEXT_SIZE - 3 /* 253 characters (RFC 1035 2.3.4) */ };

static const char *queried_name(const struct update_item *item) {
  return item->sibling ? item->sibling : item->result->owner;
}

static void fail_conflict(struct update_item *item, const struct message *answer) {
  struct error error;
  update_state_conflict(item->change, item->result->owner, answer, &error);
  error_context(&error, "%s", item->zone->server->text);
  update_item_fail(item, &error);
}

/* Whether a foreign record is one, or a wildcard's, shows at a name that nobody uses. */
static void ask_sibling(struct update_item *item, struct update_reply *reply) {
  struct entropy *entropy = item->run->link.entropy;
  const char *parent = message_name_parent(item->result->owner);
  item->sibling =
      text_format("dkimroll-%04x%04x%04x.%s", entropy_u16(entropy), entropy_u16(entropy), entropy_u16(entropy), parent);
  if (!item->sibling || strlen(item->sibling) > NAME_MAX_TEXT) {
    fail_conflict(item, reply->message);
    return;
  }
  item->answer = TAKE_PTR(reply->message);
  update_item_read(item);
}

static void forget_before(struct update_item *item) {
  free(TAKE_PTR(item->before));
  item->before_size = 0;
}

static void judge_sibling(struct update_item *item, const struct message *sibling_answer) {
  CLEANUP_FREE char *sibling = TAKE_PTR(item->sibling);
  struct message *answer = TAKE_PTR(item->answer);
  if (update_state_same(answer, item->result->owner, sibling_answer, sibling)) {
    forget_before(item);
    update_item_ready(item);
  } else {
    fail_conflict(item, answer);
  }
  message_free(answer);
}

/* The change names the record as the server holds it: its strings may be cut elsewhere than ours. Without one it is an addition. */
static int remember_before(struct update_item *item, const struct message *answer) {
  const struct message_record *record = update_state_find_before(item->change, item->result->owner, answer);
  forget_before(item);
  if (!record) return 0;
  uint8_t *copy = malloc(record->rdata_size ? record->rdata_size : 1);
  if (!copy) return -1;
  memcpy(copy, record->rdata, record->rdata_size);
  item->before = copy;
  item->before_size = record->rdata_size;
  return 0;
}

static void judge_before(struct update_item *item, struct update_reply *reply) {
  struct error error;
  switch (update_state_judge(item->change, item->result->owner, reply->message)) {
  case UPDATE_STATE_WANTED: update_item_succeed(item); break;
  case UPDATE_STATE_BEFORE:
    if (remember_before(item, reply->message) == 0) {
      update_item_ready(item);
      break;
    }
    error_set(&error, ERROR_NO_MEMORY, "publishing %s: out of memory", item->result->owner);
    update_item_fail(item, &error);
    break;
  case UPDATE_STATE_FOREIGN:
    if (item->change->change == PUBLISH_DELETE)
      fail_conflict(item, reply->message);
    else
      ask_sibling(item, reply);
    break;
  }
}

/* NOERROR is not applied: what the server said, and what it shows instead. */
static void explain_unconfirmed(struct update_item *item, const struct message *answer, enum update_state state) {
  const char *owner = item->result->owner;
  struct error *error = &item->result->error;
  bool delete = item->change->change == PUBLISH_DELETE;
  if (state == UPDATE_STATE_FOREIGN) {
    update_state_conflict(item->change, owner, answer, error);
    error_context(error, "%s said NOERROR to the update, but did not apply it or something came in between",
                  item->zone->server->text);
    return;
  }
  error_set(error, ERROR_REFUSED, "%s said NOERROR to the update of %s, but still %s", item->zone->server->text, owner,
            delete ? "shows the record" : "does not show the record");
  error_remedy(error,
               "BIND drops without a word what exceeds a limit such as TXT(1) in update-policy, and shows changes of "
               "zones with inline-signing "
               "late. Look into its log for %s.",
               owner);
  error_retryable(error, true);
}

static void judge_after(struct update_item *item, const struct message *answer) {
  enum update_state state = update_state_judge(item->change, item->result->owner, answer);
  if (state == UPDATE_STATE_WANTED) {
    update_item_succeed(item);
    return;
  }
  explain_unconfirmed(item, answer, state);
  if (loop_boottime(item->run->link.loop) >= item->confirm_until)
    update_item_fail(item, &item->result->error);
  else
    update_item_read_after(
        item, update_pause_ms(item->run, UPDATE_CONFIRM_PAUSE_MS, UPDATE_CONFIRM_PAUSE_MAX_MS, item->pauses++));
}

static void read_refused(struct update_item *item, const struct update_answer *answer) {
  struct update_server *server = item->zone->server;
  struct update_verdict verdict;
  update_item_explain(item, answer, &verdict);
  item->result->error = verdict.error;
  if (verdict.reaction == UPDATE_RETRY && ++item->attempts < UPDATE_ATTEMPTS_MAX) {
    update_item_read_after(item, update_pause_ms(item->run, UPDATE_PAUSE_MS, UPDATE_PAUSE_MAX_MS, item->pauses++));
  } else {
    struct update_zone *zone = item->zone;
    update_item_fail(item, &verdict.error);
    if (verdict.scope == UPDATE_OF_ZONE) update_zone_fail(zone, &verdict.error);
    if (verdict.scope == UPDATE_OF_SERVER) update_server_fail(server, &verdict.error);
  }
}

/* No reply at all: the server gets a pause, the query goes to the end of the queue. */
static void read_unanswered(struct update_item *item, struct error *error) {
  error_context(error, "looking at %s", item->result->owner);
  update_server_trouble(item->zone->server, error);
  if (item->phase != UPDATE_PHASE_DONE) update_item_read(item);
}

static void read_done(void *context, struct update_reply *reply) {
  struct update_item *item = context;
  struct update_server *server = item->zone->server;
  const struct update_answer *answer = &reply->answer;
  bool useful = answer->rcode == DNS_NOERROR || answer->rcode == DNS_NXDOMAIN;
  item->exchange = NULL;
  server->in_flight--;
  if (reply->error.code == 0 || reply->doubted) update_server_answered(server, reply);
  if (reply->error.code != 0 && !reply->doubted)
    read_unanswered(item, &reply->error);
  else if (reply->doubted || !useful || !reply->message->authoritative)
    read_refused(item, answer);
  else if (item->sibling)
    judge_sibling(item, reply->message);
  else if (item->phase == UPDATE_PHASE_CONFIRMING)
    judge_after(item, reply->message);
  else
    judge_before(item, reply);
  update_server_pump(server);
}

void update_read_send(struct update_item *item) {
  const struct update_link *link = &item->run->link;
  struct update_server *server = item->zone->server;
  uint8_t octets[MESSAGE_QUERY_MAX + UPDATE_TSIG_MAX];
  /* DO: in a signed zone the answer holds what a validating resolver would get. */
  const struct message_query query = {.name = queried_name(item), .type = DNS_TYPE_TXT, .dnssec_ok = true};
  int64_t deadline = loop_boottime(link->loop) + UPDATE_QUERY_MS;
  struct update_request request = {.address = &server->address,
                                   .octets = octets,
                                   .capacity = sizeof octets,
                                   .query = &query,
                                   .deadline = deadline < item->run->deadline ? deadline : item->run->deadline};
  struct error error;
  if (message_build_query(&query, octets, sizeof octets, &request.size, &error) < 0) {
    update_item_fail(item, &error);
  } else if (update_exchange_start(link, &request, read_done, item, &item->exchange, &error) < 0) {
    read_unanswered(item, &error);
  } else {
    server->in_flight++;
  }
}
