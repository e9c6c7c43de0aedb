#include "dkimroll/observe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/ask.h"
#include "dkimroll/observe_judge.h"
#include "dkimroll/text.h"
#include "dkimroll/zone.h"

enum { UDP_ATTEMPTS = 3, SIBLING_LETTERS = 16 };

struct dns_observer {
  struct observer observer;
  struct asker asker;
  struct zone_finder *finder;
  struct observe_operation *operations;
  size_t in_flight; /* questions of all operations */
};

/* One question to one server about one item: its name, or with SURVEY its random sibling. */
struct observe_query {
  struct observe_operation *operation;
  struct observed_item *item;
  size_t server;
  bool sibling;
  bool finished;
  struct address address;
  struct ask *ask;
  struct observe_finding finding;
  struct observe_query *next; /* waiting to be sent */
};

struct observed_item {
  struct observe_operation *operation;
  const struct observe_item *item;
  struct observe_result *result;
  struct zone_search *search;
  bool is_signed;
  char sibling[DNS_NAME_TEXT_SIZE];
  struct observe_query *queries; /* owned */
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
  struct observe_query *waiting, *waiting_last;
  struct loop_source *finish;
  struct observe_operation *previous, *next;
};

static void operation_free(struct observe_operation *operation) {
  struct dns_observer *observer = operation->observer;
  loop_cancel(observer->asker.loop, &operation->finish);
  for (size_t i = 0; i < operation->count; i++) {
    struct observed_item *item = &operation->items[i];
    zone_cancel(observer->finder, &item->search);
    for (size_t j = 0; j < item->query_count; j++) {
      if (item->queries[j].ask) observer->in_flight--;
      ask_cancel(&item->queries[j].ask);
      observe_finding_release(&item->queries[j].finding);
    }
    free(item->queries);
    free(operation->results[i].servers);
  }
  if (operation->previous)
    operation->previous->next = operation->next;
  else
    observer->operations = operation->next;
  if (operation->next) operation->next->previous = operation->previous;
  free(operation->items);
  free(operation->results);
  free(operation);
}

static void operation_finish(void *context) {
  struct observe_operation *operation = context;
  operation->finish = NULL;
  operation->done(operation->context, operation->results, operation->count);
  operation_free(operation);
}

/* The end comes from the loop: the last answer may have arrived inside of a call that still uses the operation. */
static void item_finished(struct observe_operation *operation) {
  if (--operation->pending > 0) return;
  if (loop_defer(operation->observer->asker.loop, operation_finish, operation, &operation->finish)) operation_finish(operation);
}

/* A host that is right over one family is right: the other family has no route from here, which says nothing about the server. */
static void survey_summarise(struct observed_item *item) {
  struct observe_result *result = item->result;
  bool any = false;
  result->free = true;
  for (size_t i = 0; i + 1 < item->query_count; i += 2) {
    const struct observe_finding *name = &item->queries[i].finding, *sibling = &item->queries[i + 1].finding;
    if (!name->usable || !sibling->usable) continue;
    any = true;
    const int64_t old = name->ttl_largest > sibling->ttl_largest ? name->ttl_largest : sibling->ttl_largest;
    if (old > result->ttl_old) result->ttl_old = old;
    if (observe_same(name, sibling)) continue;
    result->free = false;
    result->servers[item->queries[i].server].verdict = OBSERVE_WRONG;
    observe_describe(name, result->foreign);
  }
  if (!any) result->free = false;
}

static void item_summarise(struct observed_item *item) {
  struct observe_result *result = item->result;
  for (size_t i = 0; i < item->query_count; i++) {
    const int64_t negative = item->queries[i].finding.ttl_negative;
    if (item->queries[i].finding.usable && negative > result->ttl_negative) result->ttl_negative = negative;
  }
  if (item->operation->kind == OBSERVE_SURVEY) survey_summarise(item);
}

static void query_finished(struct observe_query *query) {
  struct observed_item *item = query->item;
  query->finished = true;
  if (--item->pending > 0) return;
  item_summarise(item);
  item_finished(item->operation);
}

static void send_waiting(struct dns_observer *observer);

static void query_failed(struct observe_query *query, const struct error *error) {
  struct observe_server *server = &query->item->result->servers[query->server];
  if (query->sibling && server->verdict != OBSERVE_RIGHT) return;
  server->verdict = error->code == ERROR_NO_ROUTE ? OBSERVE_NO_ROUTE : OBSERVE_SILENT;
  text_copy(server->answer, sizeof server->answer, error->message);
}

static void query_answered(void *context, const struct message *message, const struct address *from, const struct error *error) {
  struct observe_query *query = context;
  struct dns_observer *observer = query->operation->observer;
  struct observed_item *item = query->item;
  struct observe_server *server = &item->result->servers[query->server];
  struct error failure = *error;
  (void)from;
  query->ask = NULL;
  observer->in_flight--;
  server->at = loop_wall(observer->asker.loop);
  if (!failure.code) {
    const char *owner = query->sibling ? item->sibling : item->result->owner;
    if (observe_find(message, owner, server->at, &query->finding, &failure)) failure.code = ERROR_NO_MEMORY;
  }
  if (failure.code)
    query_failed(query, &failure);
  else if (!query->sibling)
    observe_judge(&query->finding, query->operation->kind, item->item, item->is_signed, server);
  query_finished(query);
  send_waiting(observer);
}

static void query_send(struct observe_query *query) {
  struct observe_operation *operation = query->operation;
  struct dns_observer *observer = operation->observer;
  struct error error = {0};
  const struct ask_request request = {.addresses = &query->address,
                                      .address_count = 1,
                                      .name = query->sibling ? query->item->sibling : query->item->result->owner,
                                      .type = DNS_TYPE_TXT,
                                      .any_rcode = true,
                                      .tcp_at_last = true,
                                      .attempts = UDP_ATTEMPTS,
                                      .attempt_ms = OBSERVE_ATTEMPT_MS,
                                      .deadline = operation->deadline};
  if (ask_start(&observer->asker, &request, query_answered, query, &query->ask, &error) == 0) {
    observer->in_flight++;
    return;
  }
  query->item->result->servers[query->server].at = loop_wall(observer->asker.loop);
  query_failed(query, &error);
  query_finished(query);
}

static void send_waiting(struct dns_observer *observer) {
  for (struct observe_operation *operation = observer->operations; operation; operation = operation->next) {
    while (operation->waiting && observer->in_flight < OBSERVE_QUERIES_IN_FLIGHT_MAX) {
      struct observe_query *query = operation->waiting;
      operation->waiting = query->next;
      if (!operation->waiting) operation->waiting_last = NULL;
      query_send(query);
    }
  }
}

static void query_enqueue(struct observe_query *query) {
  struct observe_operation *operation = query->operation;
  if (operation->waiting_last)
    operation->waiting_last->next = query;
  else
    operation->waiting = query;
  operation->waiting_last = query;
}

/* A label that nobody has: what the servers say of it is what they say of any name that does not exist. */
static void make_sibling(struct observed_item *item, struct entropy *entropy) {
  static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
  char label[SIBLING_LETTERS + 1];
  const char *parent = message_name_parent(item->result->owner);
  for (size_t i = 0; i < SIBLING_LETTERS; i++) label[i] = letters[entropy_below(entropy, i == 0 ? 26 : sizeof letters - 1)];
  label[SIBLING_LETTERS] = '\0';
  if (snprintf(item->sibling, sizeof item->sibling, "%s.%s", label, parent) >= (int)sizeof item->sibling)
    text_copy(item->sibling, sizeof item->sibling, parent);
}

static int prepare_queries(struct observed_item *item, const struct zone_answer *answer, struct error *error) {
  struct observe_operation *operation = item->operation;
  struct observe_result *result = item->result;
  const size_t each = operation->kind == OBSERVE_SURVEY ? 2 : 1;
  result->servers = calloc(answer->server_count + 1, sizeof *result->servers);
  item->queries = calloc(answer->server_count * each + 1, sizeof *item->queries);
  if (!result->servers || !item->queries) return error_set(error, ERROR_NO_MEMORY, "out of memory for an observation");
  result->server_count = answer->server_count;
  for (size_t i = 0; i < answer->server_count; i++) {
    struct observe_server *server = &result->servers[i];
    text_copy(server->host, sizeof server->host, answer->servers[i].host);
    address_format(&answer->servers[i].address, server->address);
    server->ttl = server->ttl_negative = -1;
    server->verdict = OBSERVE_RIGHT;
    for (size_t j = 0; j < each; j++) {
      struct observe_query *query = &item->queries[item->query_count++];
      *query = (struct observe_query){
          .operation = operation, .item = item, .server = i, .sibling = j == 1, .address = answer->servers[i].address};
    }
  }
  item->pending = item->query_count;
  return 0;
}

static void zone_found(void *context, const struct zone_answer *answer) {
  struct observed_item *item = context;
  struct observe_operation *operation = item->operation;
  struct observe_result *result = item->result;
  item->search = NULL;
  result->error = answer->error;
  if (!result->error.code) {
    text_copy(result->zone, sizeof result->zone, answer->zone);
    text_copy(result->owner, sizeof result->owner, answer->owner);
    text_copy(result->primary, sizeof result->primary, answer->primary);
    result->ttl_negative = answer->ttl_negative;
    result->ttl_old = answer->ttl_alias;
    item->is_signed = answer->is_signed;
    if (operation->kind == OBSERVE_SURVEY) make_sibling(item, operation->observer->asker.entropy);
    if (prepare_queries(item, answer, &result->error)) item->pending = 0;
  }
  if (item->pending == 0) {
    item_finished(operation);
    return;
  }
  for (size_t i = 0; i < item->query_count; i++) query_enqueue(&item->queries[i]);
  send_waiting(operation->observer);
}

static int begin_items(struct observe_operation *operation, const struct observe_item *items, struct error *error) {
  for (size_t i = 0; i < operation->count; i++) {
    struct observed_item *item = &operation->items[i];
    *item = (struct observed_item){.operation = operation, .item = &items[i], .result = &operation->results[i]};
    operation->results[i].ttl_negative = operation->results[i].ttl_old = -1;
  }
  operation->pending = operation->count;
  for (size_t i = 0; i < operation->count; i++) {
    int result = zone_find(operation->observer->finder, items[i].name, items[i].zone, items[i].publisher, operation->deadline, zone_found,
                           &operation->items[i], &operation->items[i].search, error);
    if (result) return result;
  }
  return 0;
}

static int dns_start(struct observer *base, enum observe_kind kind, const struct observe_item *items, size_t count, int64_t deadline,
                     observe_done *done, void *context, struct observe_operation **ret_operation, struct error *error) {
  struct dns_observer *observer = (struct dns_observer *)base;
  if (count == 0 || count > OBSERVE_ITEMS_MAX) return error_set(error, ERROR_INVALID, "an observation of %zu names", count);
  struct observe_operation *operation = calloc(1, sizeof *operation);
  if (!operation) return error_set(error, ERROR_NO_MEMORY, "out of memory for an observation");
  operation->observer = observer;
  operation->kind = kind;
  operation->deadline = deadline;
  operation->done = done;
  operation->context = context;
  operation->next = observer->operations;
  if (operation->next) operation->next->previous = operation;
  observer->operations = operation;
  operation->items = calloc(count, sizeof *operation->items);
  operation->results = calloc(count, sizeof *operation->results);
  int result = operation->items && operation->results ? 0 : error_set(error, ERROR_NO_MEMORY, "out of memory for an observation");
  if (!result) {
    operation->count = count;
    result = begin_items(operation, items, error);
  }
  if (result) {
    operation_free(operation);
    return result;
  }
  *ret_operation = operation;
  return 0;
}

static void dns_cancel(struct observer *base, struct observe_operation *operation) {
  (void)base;
  operation_free(operation);
}

static void dns_destroy(struct observer *base) {
  struct dns_observer *observer = (struct dns_observer *)base;
  while (observer->operations) operation_free(observer->operations);
  zone_finder_free(observer->finder);
  free(observer);
}

static const struct observer_ops dns_ops = {dns_start, dns_cancel, dns_destroy};

int observer_dns_new(struct loop *loop, struct transport *transport, struct entropy *entropy, struct observer **ret_observer, struct error *error) {
  struct dns_observer *observer = calloc(1, sizeof *observer);
  if (!observer) return error_set(error, ERROR_NO_MEMORY, "out of memory for the observer");
  observer->observer.ops = &dns_ops;
  observer->asker = (struct asker){loop, transport, entropy};
  int result = zone_finder_new(loop, transport, entropy, &observer->finder, error);
  if (result) {
    free(observer);
    return result;
  }
  *ret_observer = &observer->observer;
  return 0;
}

int observer_start(struct observer *observer, enum observe_kind kind, const struct observe_item *items, size_t count, int64_t deadline,
                   observe_done *done, void *context, struct observe_operation **ret_operation, struct error *error) {
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
