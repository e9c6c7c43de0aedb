/* The publisher of RFC 2136: finds zone and primary of every item, has the run (update.h) bring the records there, and ends at the deadline. */
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/publisher.h"
#include "dkimroll/text.h"
#include "dkimroll/update.h"
#include "dkimroll/zone.h"

enum {
  FINDS_IN_FLIGHT_MAX = 32, /* zones looked for at once; the finder's cache then serves the rest of the same zones */
  DNS_PORT = 53,
};

LIST_HEAD(operations, publish_operation);

struct rfc2136 {
  struct publisher publisher; /* first: ops get it */
  struct update_link link;
  struct tsig_key *key;
  const struct policy_publisher *policy;
  struct zone_finder *finder;
  struct operations operations;
};

/* One search for the zone of one item. */
struct find {
  struct publish_operation *operation;
  size_t index;
  struct zone_search *search; /* NULL: free */
};

struct publish_operation {
  LIST_ENTRY(publish_operation) next;
  struct rfc2136 *owner;
  const struct publish_item *items;
  size_t count;
  struct publish_result *results;
  size_t next_item; /* the first that was not looked at */
  struct find finds[FINDS_IN_FLIGHT_MAX];
  struct update_run *run;
  struct loop_source *timer;  /* the deadline */
  struct loop_source *wakeup; /* begin, later finish */
  int64_t deadline;
  publisher_done *done;
  void *context;
};

static void cancel_finds(struct publish_operation *operation) {
  for (size_t i = 0; i < FINDS_IN_FLIGHT_MAX; i++) zone_cancel(operation->owner->finder, &operation->finds[i].search);
}

static void operation_free(struct publish_operation *operation) {
  struct loop *loop = operation->owner->link.loop;
  cancel_finds(operation);
  update_run_free(operation->run);
  loop_cancel(loop, &operation->timer);
  loop_cancel(loop, &operation->wakeup);
  free(operation->results);
  free(operation);
}

/* From the loop, so that nothing of the run is under way when the caller hears of it; cancel and destroy no longer know the operation then. */
static void operation_finish(void *context) {
  struct publish_operation *operation = context;
  operation->wakeup = NULL;
  LIST_REMOVE(operation, next);
  cancel_finds(operation);
  update_run_free(TAKE_PTR(operation->run));
  loop_cancel(operation->owner->link.loop, &operation->timer);
  operation->done(operation->context, operation->results, operation->count);
  free(operation->results);
  free(operation);
}

/* The run's last item ended. */
static void operation_complete(void *context) {
  struct publish_operation *operation = context;
  /* If there is no memory for this, the deadline's timer, which exists already, ends the operation. */
  if (!operation->wakeup)
    (void)!loop_defer(operation->owner->link.loop, operation_finish, operation, &operation->wakeup);
}

static void operation_timeout(void *context) {
  struct publish_operation *operation = context;
  operation->timer = NULL;
  update_run_end(operation->run);
  loop_cancel(operation->owner->link.loop, &operation->wakeup);
  operation_finish(operation);
}

/* What is known of an item's place: its own word, then the policy's. NULL: to be found. */
static const char *known_zone(const struct publish_operation *operation, const struct publish_item *item) {
  return item->zone ? item->zone : operation->owner->policy->zone;
}

static const char *known_server(const struct publish_operation *operation, const struct publish_item *item) {
  return item->primary_server ? item->primary_server : operation->owner->policy->server;
}

static void add_item(struct publish_operation *operation, size_t index, struct update_target *target) {
  const char *server = known_server(operation, &operation->items[index]);
  struct error error;
  if (server && address_parse(server, DNS_PORT, &target->server, &error) < 0)
    update_run_fail(operation->run, index, &error);
  else
    update_run_add(operation->run, index, target);
}

static void find_next(struct publish_operation *operation);

static void found(void *context, const struct zone_answer *answer) {
  struct find *find = context;
  struct publish_operation *operation = find->operation;
  const struct publish_item *item = &operation->items[find->index];
  struct update_target target = {.zone = item->zone ? item->zone : answer->zone,
                                 .owner = item->owner ? item->owner : answer->owner,
                                 .server = answer->primary_address};
  find->search = NULL;
  /* The name is not looked at here, so the most that it can be where the server keeps the TTL of its SOA to itself. */
  const int64_t ttl_negative = answer->ttl_negative > 0 ? answer->ttl_negative : answer->minimum;
  operation->results[find->index].ttl_negative = ttl_negative > 0 ? ttl_negative : 0;
  operation->results[find->index].ttl_alias = answer->ttl_alias > 0 ? answer->ttl_alias : 0;
  if (answer->error.code != 0)
    update_run_fail(operation->run, find->index, &answer->error);
  else if (answer->primary_address.size == 0 && !known_server(operation, item))
    update_run_fail(operation->run, find->index, &answer->primary_error);
  else
    add_item(operation, find->index, &target);
  find_next(operation);
}

static void start_find(struct publish_operation *operation, struct find *find, size_t index) {
  struct rfc2136 *owner = operation->owner;
  const struct publish_item *item = &operation->items[index];
  const char *name = item->owner ? item->owner : item->name;
  const char *zone = known_zone(operation, item);
  struct error error;
  *find = (struct find){.operation = operation, .index = index};
  /* A name outside the zone that the policy gives can only lie in it behind an alias: then the walk has to find out. */
  if (zone && !message_name_below(name, zone)) zone = NULL;
  if (zone_find(owner->finder, name, zone, owner->policy, operation->deadline, found, find, &find->search, &error) < 0)
    update_run_fail(operation->run, index, &error);
}

/* Places the items whose zone and server are known, and looks for those of the others, a bounded number at once. */
static void find_next(struct publish_operation *operation) {
  size_t slot = 0;
  while (operation->next_item < operation->count) {
    const struct publish_item *item = &operation->items[operation->next_item];
    const char *owner = item->owner ? item->owner : item->name;
    const char *zone = known_zone(operation, item);
    if (zone && known_server(operation, item) && (item->zone || message_name_below(owner, zone))) {
      add_item(operation, operation->next_item++, &(struct update_target){.zone = zone, .owner = owner});
      continue;
    }
    while (slot < FINDS_IN_FLIGHT_MAX && operation->finds[slot].search) slot++;
    if (slot == FINDS_IN_FLIGHT_MAX) return;
    start_find(operation, &operation->finds[slot], operation->next_item++);
  }
}

static void operation_begin(void *context) {
  struct publish_operation *operation = context;
  operation->wakeup = NULL;
  if (operation->count == 0)
    operation_complete(operation);
  else
    find_next(operation);
}

static int operation_prepare(struct publish_operation *operation, struct error *error) {
  struct rfc2136 *owner = operation->owner;
  operation->results = calloc(operation->count ? operation->count : 1, sizeof *operation->results);
  if (!operation->results) return error_set(error, ERROR_NO_MEMORY, "publishing: out of memory");
  int code = update_run_new(&owner->link, operation->items, operation->results, operation->count, operation->deadline,
                            operation_complete, operation, &operation->run, error);
  if (code < 0) return code;
  if (loop_at(owner->link.loop, operation->deadline, operation_timeout, operation, &operation->timer) < 0 ||
      loop_defer(owner->link.loop, operation_begin, operation, &operation->wakeup) < 0)
    return error_set(error, ERROR_NO_MEMORY, "publishing: no timer");
  return 0;
}

static int rfc2136_start(struct publisher *publisher, const struct publish_item *items, size_t count, int64_t deadline,
                         publisher_done *done, void *context, struct publish_operation **ret_operation,
                         struct error *error) {
  int code = publish_items_check(items, count, error);
  if (code < 0) return code;
  struct publish_operation *operation = calloc(1, sizeof *operation);
  if (!operation) return error_set(error, ERROR_NO_MEMORY, "publishing: out of memory");
  *operation = (struct publish_operation){.owner = (struct rfc2136 *)publisher,
                                          .items = items,
                                          .count = count,
                                          .deadline = deadline,
                                          .done = done,
                                          .context = context};
  code = operation_prepare(operation, error);
  if (code < 0) {
    operation_free(operation);
    return code;
  }
  LIST_INSERT_HEAD(&operation->owner->operations, operation, next);
  *ret_operation = operation;
  return 0;
}

static void rfc2136_cancel(struct publisher *publisher, struct publish_operation *operation) {
  (void)publisher;
  LIST_REMOVE(operation, next);
  operation_free(operation);
}

static void rfc2136_destroy(struct publisher *publisher) {
  struct rfc2136 *owner = (struct rfc2136 *)publisher;
  while (!LIST_EMPTY(&owner->operations)) rfc2136_cancel(publisher, LIST_FIRST(&owner->operations));
  zone_finder_free(owner->finder);
  tsig_key_free(owner->key);
  free(owner);
}

static const struct publisher_ops rfc2136_ops = {
    .start = rfc2136_start, .cancel = rfc2136_cancel, .destroy = rfc2136_destroy};

int publisher_rfc2136_new(struct loop *loop, struct transport *transport, struct entropy *entropy,
                          const struct policy_publisher *policy, struct publisher **ret_publisher,
                          struct error *error) {
  struct rfc2136 *owner = calloc(1, sizeof *owner);
  if (!owner) return error_set(error, ERROR_NO_MEMORY, "publisher %s: out of memory", policy->name);
  owner->publisher.ops = &rfc2136_ops;
  owner->policy = policy;
  owner->link = (struct update_link){.loop = loop, .transport = transport, .entropy = entropy};
  LIST_INIT(&owner->operations);
  int code = policy->tsig_file ? tsig_key_load(policy->tsig_file, &owner->key, error) : 0;
  if (code == 0) code = zone_finder_new(loop, transport, entropy, &owner->finder, error);
  if (code < 0) {
    rfc2136_destroy(&owner->publisher);
    return code;
  }
  owner->link.key = owner->key;
  *ret_publisher = &owner->publisher;
  return 0;
}
