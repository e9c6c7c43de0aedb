#include "dkimroll/observe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/ask.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/observe_work.h"
#include "dkimroll/text.h"

struct dns_observer {
  struct observer observer;
  struct observe_queue queue;
  struct zone_finder *finder;
  LIST_HEAD(, observe_operation) operations;
};

struct observed_item {
  struct observe_operation *operation;
  const struct observe_item *item;
  struct observe_result *result;
  struct zone_search *search;
  bool finished;
  bool is_signed;
  char sibling[DNS_NAME_TEXT_SIZE];
  struct observe_query *queries; /* owned; SURVEY: two for each server, name and sibling */
  size_t query_count, pending;
};

struct observe_operation {
  struct dns_observer *observer;
  enum observe_kind kind;
  struct observed_item *items;
  struct observe_result *results;
  size_t count, pending;
  int64_t deadline;
  observe_done *done;
  void *context;
  struct loop_source *timer;  /* the deadline */
  struct loop_source *finish; /* all is known */
  LIST_ENTRY(observe_operation) next;
};

static struct loop *loop_of(const struct observe_operation *operation) {
  return operation->observer->queue.asker.loop;
}

/* --- the end --- */

/* Nothing calls back any more; the observer does not know it any more. */
static void operation_detach(struct observe_operation *operation) {
  struct dns_observer *observer = operation->observer;
  for (size_t i = 0; i < operation->count; i++) {
    struct observed_item *item = &operation->items[i];
    zone_cancel(observer->finder, &item->search);
    for (size_t j = 0; j < item->query_count; j++) observe_queue_cancel(&observer->queue, &item->queries[j]);
  }
  loop_cancel(loop_of(operation), &operation->timer);
  loop_cancel(loop_of(operation), &operation->finish);
  LIST_REMOVE(operation, next);
}

static void operation_free(struct observe_operation *operation) {
  for (size_t i = 0; i < operation->count; i++) {
    struct observed_item *item = &operation->items[i];
    for (size_t j = 0; j < item->query_count; j++) observe_finding_release(&item->queries[j].finding);
    free(item->queries);
    free(operation->results[i].servers);
  }
  free(operation->items);
  free(operation->results);
  free(operation);
}

/* From the loop, so that nothing of the operation is under way when its owner hears of the end. The owner may destroy
 * the observer. */
static void operation_finish(void *context) {
  struct observe_operation *operation = context;
  operation->finish = NULL;
  operation_detach(operation);
  operation->done(operation->context, operation->results, operation->count);
  operation_free(operation);
}

static void item_finished(struct observed_item *item) {
  struct observe_operation *operation = item->operation;
  item->finished = true;
  if (--operation->pending > 0 || operation->finish) return;
  /* If there is no memory for this, the deadline ends it. */
  (void)!loop_defer(loop_of(operation), operation_finish, operation, &operation->finish);
}

/* --- what the answers of all servers say together --- */

/* The name's answer was judged when it came; the random sibling tells what it would be if nobody had made the name. */
static void survey_server(struct observed_item *item, const struct observe_finding *name,
                          const struct observe_finding *sibling, struct observe_server *server) {
  struct observe_result *result = item->result;
  if (server->verdict != OBSERVE_RIGHT) return;
  if (!sibling->usable) {
    server->verdict = OBSERVE_SILENT;
    text_copy(server->answer, sizeof server->answer, "no usable answer about a random name beside it");
    return;
  }
  result->ttl_old = time_max(result->ttl_old, time_max(name->ttl_largest, sibling->ttl_largest));
  if (observe_same(name, sibling)) return;
  server->verdict = OBSERVE_WRONG;
  observe_describe(name, result->foreign);
}

static void survey_summarise(struct observed_item *item) {
  struct observe_result *result = item->result;
  bool right = false, wrong = false;
  for (size_t i = 0; i < result->server_count; i++) {
    survey_server(item, &item->queries[2 * i].finding, &item->queries[2 * i + 1].finding, &result->servers[i]);
    right |= result->servers[i].verdict == OBSERVE_RIGHT;
    wrong |= result->servers[i].verdict == OBSERVE_WRONG;
  }
  result->free = right && !wrong;
}

/* A signature from one server shows that the zone is signed, whatever the one said that was asked for its SOA. */
static void require_signatures(struct observed_item *item) {
  bool is_signed = item->is_signed;
  for (size_t i = 0; i < item->query_count; i++)
    is_signed |= item->queries[i].finding.signature != OBSERVE_SIGNATURE_NONE;
  for (size_t i = 0; is_signed && !item->is_signed && i < item->query_count; i++) {
    struct observe_server *server = &item->result->servers[item->queries[i].server];
    if (server->verdict == OBSERVE_RIGHT)
      observe_judge(&item->queries[i].finding, OBSERVE_PRESENT, item->item, true, server);
  }
}

static void item_summarise(struct observed_item *item) {
  struct observe_result *result = item->result;
  for (size_t i = 0; i < item->query_count; i++)
    result->ttl_negative = time_max(result->ttl_negative, item->queries[i].finding.ttl_negative);
  if (item->operation->kind == OBSERVE_SURVEY) survey_summarise(item);
  if (item->operation->kind == OBSERVE_PRESENT) require_signatures(item);
}

/* --- answers --- */

/* The address stands beside the answer already. */
static void describe_failure(struct observe_server *server, const struct error *error) {
  static const char over_tcp[] = " over TCP";
  const char *text = error->message;
  if (text_starts(text, server->address)) {
    const char *rest = text + strlen(server->address);
    if (text_starts(rest, over_tcp)) rest += strlen(over_tcp);
    if (text_starts(rest, ": ")) text = rest + strlen(": ");
  }
  text_copy(server->answer, sizeof server->answer, text);
  server->verdict = error->code == ERROR_NO_ROUTE ? OBSERVE_NO_ROUTE : OBSERVE_SILENT;
}

static void query_answered(struct observe_query *query, struct observe_finding *finding, const struct error *error) {
  struct observed_item *item = query->item;
  struct observe_operation *operation = item->operation;
  struct observe_server *server = &item->result->servers[query->server];
  query->finished = true;
  if (!error->code) query->finding = *finding;
  /* Not to have been able to ask says nothing about the server: the whole look is to be done again. */
  if (ask_failed_here(error) && !item->result->error.code) item->result->error = *error;
  if (!query->sibling) {
    server->at = loop_wall(loop_of(operation));
    if (error->code)
      describe_failure(server, error);
    else
      observe_judge(&query->finding, operation->kind, item->item, item->is_signed, server);
  }
  if (--item->pending > 0) return;
  item_summarise(item);
  item_finished(item);
}

/* --- the way there --- */

/* A label that nobody has: what the servers say of it is what they say of any name that does not exist. */
static void make_sibling(struct observed_item *item, struct entropy *entropy) {
  static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
  char label[OBSERVE_SIBLING_LETTERS + 1] = {0};
  const char *parent = message_name_parent(item->result->owner);
  for (size_t i = 0; i < OBSERVE_SIBLING_LETTERS; i++)
    label[i] = letters[entropy_below(entropy, i == 0 ? 26 : sizeof letters - 1)];
  const int size = snprintf(item->sibling, sizeof item->sibling, "%s.%s", label, parent);
  if (size <= ZONE_NAME_MAX) return;
  /* A very long name leaves no room for that; fewer letters are random enough. */
  const int kept = OBSERVE_SIBLING_LETTERS - (size - ZONE_NAME_MAX);
  label[kept > 0 ? kept : 1] = '\0';
  (void)!snprintf(item->sibling, sizeof item->sibling, "%s.%s", label, parent);
}

static int prepare_queries(struct observed_item *item, const struct zone_answer *answer, struct error *error) {
  struct observe_operation *operation = item->operation;
  struct observe_result *result = item->result;
  const size_t each = operation->kind == OBSERVE_SURVEY ? 2 : 1;
  result->servers = calloc(answer->server_count + 1, sizeof *result->servers);
  item->queries = calloc(answer->server_count * each + 1, sizeof *item->queries);
  if (!result->servers || !item->queries) return error_set(error, ERROR_NO_MEMORY, "out of memory for an observation");
  for (size_t i = 0; i < answer->server_count; i++) {
    const struct zone_server *found = &answer->servers[i];
    struct observe_server *server = &result->servers[i];
    text_copy(server->host, sizeof server->host, found->host);
    if (found->address.size > 0)
      address_format(&found->address, server->address);
    else
      text_copy(server->address, sizeof server->address, "unknown");
    server->ttl = server->ttl_negative = -1;
    server->verdict = OBSERVE_SILENT;
    for (size_t j = 0; j < each; j++)
      item->queries[item->query_count++] =
          (struct observe_query){.item = item,
                                 .server = i,
                                 .sibling = j == 1,
                                 .address = found->address,
                                 .name = j == 1 ? item->sibling : result->owner,
                                 .zone = result->zone,
                                 .finding = {.ttl = -1, .ttl_negative = -1, .ttl_largest = -1},
                                 .deadline = operation->deadline,
                                 .answered = query_answered};
  }
  result->server_count = answer->server_count;
  item->pending = item->query_count;
  return 0;
}

static void zone_found(void *context, const struct zone_answer *answer) {
  struct observed_item *item = context;
  struct observe_operation *operation = item->operation;
  struct observe_queue *queue = &operation->observer->queue;
  struct observe_result *result = item->result;
  item->search = NULL;
  result->error = answer->error;
  if (!result->error.code) {
    text_copy(result->zone, sizeof result->zone, answer->zone);
    text_copy(result->owner, sizeof result->owner, answer->owner);
    text_copy(result->primary, sizeof result->primary, answer->primary);
    result->ttl_negative = answer->ttl_negative;
    result->ttl_old = operation->kind == OBSERVE_SURVEY ? answer->ttl_alias : -1;
    item->is_signed = answer->is_signed;
    if (operation->kind == OBSERVE_SURVEY) make_sibling(item, queue->asker.entropy);
    (void)!prepare_queries(item, answer, &result->error);
  }
  if (item->pending == 0) {
    item_finished(item);
    return;
  }
  for (size_t i = 0; i < item->query_count; i++) observe_queue_add(queue, &item->queries[i]);
  observe_queue_pump(queue);
}

/* What has no answer now gets none. */
static void operation_timeout(void *context) {
  struct observe_operation *operation = context;
  const int64_t now = loop_wall(loop_of(operation));
  operation->timer = NULL;
  for (size_t i = 0; i < operation->count; i++) {
    struct observed_item *item = &operation->items[i];
    if (item->finished) continue;
    if (item->query_count == 0)
      error_set(&item->result->error, ERROR_TIMEOUT, "the servers of %s were not found before the deadline",
                item->item->name);
    for (size_t j = 0; j < item->query_count; j++) {
      const struct observe_query *query = &item->queries[j];
      struct observe_server *server = &item->result->servers[query->server];
      if (query->finished || query->sibling) continue;
      server->at = now;
      text_copy(server->answer, sizeof server->answer,
                query->ask ? "no answer before the deadline" : "not asked, for want of time");
    }
    item_summarise(item);
  }
  loop_cancel(loop_of(operation), &operation->finish);
  operation_finish(operation);
}

static void begin_items(struct observe_operation *operation, const struct observe_item *items) {
  for (size_t i = 0; i < operation->count; i++) {
    struct observed_item *item = &operation->items[i];
    *item = (struct observed_item){.operation = operation, .item = &items[i], .result = &operation->results[i]};
    item->result->ttl_negative = item->result->ttl_old = -1;
  }
  operation->pending = operation->count;
  for (size_t i = 0; i < operation->count; i++) {
    struct observed_item *item = &operation->items[i];
    if (zone_find_servers(operation->observer->finder, items[i].name, items[i].zone, items[i].publisher,
                          operation->deadline, zone_found, item, &item->search, &item->result->error))
      item_finished(item);
  }
}

static int operation_new(struct dns_observer *observer, size_t count, struct observe_operation **ret_operation,
                         struct error *error) {
  if (count == 0 || count > OBSERVE_ITEMS_MAX)
    return error_set(error, ERROR_INVALID, "an observation of %zu names, not 1 to %d", count, OBSERVE_ITEMS_MAX);
  struct observe_operation *operation = calloc(1, sizeof *operation);
  if (!operation) return error_set(error, ERROR_NO_MEMORY, "out of memory for an observation");
  operation->observer = observer;
  operation->items = calloc(count, sizeof *operation->items);
  operation->results = calloc(count, sizeof *operation->results);
  if (!operation->items || !operation->results) {
    operation_free(operation);
    return error_set(error, ERROR_NO_MEMORY, "out of memory for an observation");
  }
  operation->count = count;
  *ret_operation = operation;
  return 0;
}

static int dns_start(struct observer *base, enum observe_kind kind, const struct observe_item *items, size_t count,
                     int64_t deadline, observe_done *done, void *context, struct observe_operation **ret_operation,
                     struct error *error) {
  struct observe_operation *operation = NULL;
  int result = operation_new((struct dns_observer *)base, count, &operation, error);
  if (!operation) return result;
  operation->kind = kind;
  operation->deadline = deadline;
  operation->done = done;
  operation->context = context;
  result = loop_at(loop_of(operation), deadline, operation_timeout, operation, &operation->timer);
  if (result) {
    operation_free(operation);
    return error_set(error, result, "the event loop takes no timer");
  }
  LIST_INSERT_HEAD(&operation->observer->operations, operation, next);
  begin_items(operation, items);
  *ret_operation = operation;
  return 0;
}

static void dns_cancel(struct observer *base, struct observe_operation *operation) {
  (void)base;
  operation_detach(operation);
  operation_free(operation);
}

static void dns_destroy(struct observer *base) {
  struct dns_observer *observer = (struct dns_observer *)base;
  struct observe_operation *operation;
  while ((operation = LIST_FIRST(&observer->operations))) dns_cancel(base, operation);
  zone_finder_free(observer->finder);
  free(observer);
}

int observer_dns_new(struct loop *loop, struct transport *transport, struct entropy *entropy,
                     struct observer **ret_observer, struct error *error) {
  static const struct observer_ops ops = {dns_start, dns_cancel, dns_destroy};
  struct dns_observer *observer = calloc(1, sizeof *observer);
  if (!observer) return error_set(error, ERROR_NO_MEMORY, "out of memory for the observer");
  observer->observer.ops = &ops;
  LIST_INIT(&observer->operations);
  observe_queue_init(&observer->queue, &(struct asker){loop, transport, entropy});
  int result = zone_finder_new(loop, transport, entropy, &observer->finder, error);
  if (result) {
    free(observer);
    return result;
  }
  *ret_observer = &observer->observer;
  return 0;
}

int observer_start(struct observer *observer, enum observe_kind kind, const struct observe_item *items, size_t count,
                   int64_t deadline, observe_done *done, void *context, struct observe_operation **ret_operation,
                   struct error *error) {
  return observer->ops->start(observer, kind, items, count, deadline, done, context, ret_operation, error);
}

void observer_cancel(struct observer *observer, struct observe_operation **operation) {
  if (!*operation) return;
  observer->ops->cancel(observer, *operation);
  *operation = NULL;
}

void observer_destroy(struct observer *observer) {
  if (observer) observer->ops->destroy(observer);
}
