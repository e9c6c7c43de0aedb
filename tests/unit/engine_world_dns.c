/* The engine's world: names, the servers that follow after their lag, and the publisher, which watches over what goes. */
#include "engine_world_parts.h"

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

/* ---- names ---- */

struct world_name *world_name(struct world *world, const char *name) {
  for (size_t i = 0; i < world->name_count; i++)
    if (text_equal_nocase(world->names[i].name, name)) return &world->names[i];
  assert_true(world->name_count < WORLD_NAMES_MAX);
  struct world_name *new = &world->names[world->name_count++];
  text_copy(new->name, sizeof new->name, name);
  return new;
}

static void name_set(struct world *world, struct world_name *name, const char *record) {
  free(name->before);
  name->before = name->record;
  name->record = record ? text_duplicate(record) : NULL;
  name->changed = loop_boottime(world->loop);
}

const char *world_name_at(const struct world *world, const struct world_name *name, int server) {
  if (world->wrong[server]) return "v=DKIM1; k=rsa; p=AAAA";
  return loop_boottime(world->loop) >= name->changed + world->lag[server] * 1000 ? name->record : name->before;
}

size_t world_records(const struct world *world, const char *domain) {
  char end[300];
  size_t count = 0;
  snprintf(end, sizeof end, "._domainkey.%s", domain);
  for (size_t i = 0; i < world->name_count; i++) {
    const size_t size = strlen(world->names[i].name), tail = strlen(end);
    count += world->names[i].record && size > tail && text_equal(world->names[i].name + size - tail, end);
  }
  return count;
}

struct world_name *world_name_of(struct world *world, const char *selector, const char *domain) {
  char name[400];
  snprintf(name, sizeof name, "%s._domainkey.%s", selector, domain);
  return world_name(world, name);
}

/* ---- their servers ---- */

static void observe_answer(struct world_pending *pending) {
  struct world *world = pending->world;
  const struct observe_item *items = pending->items;
  struct observe_result *results = calloc(pending->count, sizeof *results);
  struct observe_server *servers = calloc(pending->count * WORLD_SERVERS, sizeof *servers);
  for (size_t i = 0; i < pending->count; i++) {
    const struct world_name *name = world_name(world, items[i].name);
    results[i] = (struct observe_result){.servers = servers + i * WORLD_SERVERS,
                                         .server_count = WORLD_SERVERS,
                                         .ttl_negative = WORLD_NEGATIVE_TTL,
                                         .ttl_old = -1,
                                         .free = true};
    if (world->observe_fails) error_set(&results[i].error, ERROR_TIMEOUT, "no zone is found");
    if (world->too_many_servers && strstr(items[i].name, world->too_many_servers) && pending->kind != OBSERVE_SURVEY) {
      results[i].servers = world->crowd;
      results[i].server_count = ARRAY_SIZE(world->crowd);
      continue;
    }
    text_copy(results[i].zone, sizeof results[i].zone, "example");
    text_copy(results[i].owner, sizeof results[i].owner, items[i].name);
    for (int s = 0; s < WORLD_SERVERS; s++) {
      struct observe_server *server = &results[i].servers[s];
      const char *record = world_name_at(world, name, s);
      bool right = pending->kind == OBSERVE_PRESENT ? record && text_equal(record, items[i].record) : true;
      if (pending->kind == OBSERVE_ABSENT)
        right = !record || (!text_equal(record, items[i].record) && !text_equal(record, items[i].record_also));
      snprintf(server->host, sizeof server->host, "ns%d.example", s);
      snprintf(server->address, sizeof server->address, "192.0.2.%d:53", s + 1);
      text_copy(server->answer, sizeof server->answer, record ? record : "NXDOMAIN");
      server->verdict = right ? OBSERVE_RIGHT : OBSERVE_WRONG;
      server->at = loop_wall(world->loop);
      server->ttl = record ? 3600 : -1;
      server->ttl_negative = WORLD_NEGATIVE_TTL;
    }
  }
  ((observe_done *)pending->done)(pending->context, results, pending->count);
  /* What the engine keeps must be its own. */
  memset(servers, 0x55, pending->count * WORLD_SERVERS * sizeof *servers);
  free(servers);
  free(results);
}

static int observe_start(struct observer *observer, enum observe_kind kind, const struct observe_item *items,
                         size_t count, int64_t deadline, observe_done *done, void *context,
                         struct observe_operation **ret_operation, struct error *error) {
  struct world *world = WORLD_OF(observer, observer);
  (void)deadline;
  world->counts.observations++;
  const struct world_pending pending = {.world = world,
                                        .answer = observe_answer,
                                        .items = items,
                                        .count = count,
                                        .kind = kind,
                                        .done = (void *)done,
                                        .context = context};
  return world_pending_start(&pending, loop_boottime(world->loop) + world->answer_ms, ret_operation, error);
}
static void observe_cancel(struct observer *observer, struct observe_operation *operation) {
  (void)observer;
  world_pending_cancel(operation);
}
const struct observer_ops world_observer_ops = {.start = observe_start, .cancel = observe_cancel};

/* ---- publisher ---- */

struct fake_publisher {
  struct publisher publisher;
  struct world *world;
};

/* I1 and I2, seen from the outside: may this record go now? */
static void check_going(struct world *world, const struct world_name *name) {
  if (name->signed_at && !world->compromised && loop_wall(world->loop) < name->signed_at + WORLD_WINDOW)
    world_violate(world, "a record went too early", name->name);
}

static void publish_one(struct world *world, const struct publish_item *item, struct publish_result *result) {
  struct world_name *name = world_name(world, item->name);
  const char *wanted = item->change == PUBLISH_DELETE ? NULL : item->record;
  if (!world->no_tsig) result->attested = true;
  if (world->publish_fails && strstr(item->name, world->publish_fails)) {
    error_set(&result->error, world->publish_code, "the fake primary says no");
    return;
  }
  if (world->moved && strstr(item->name, world->moved)) {
    if (item->owner || item->zone) {
      error_set(&result->error, ERROR_REFUSED, "the name does not lie in the zone any more");
      return;
    }
    result->ttl_negative = WORLD_FOUND_TTL;
  }
  result->completed_at = loop_wall(world->loop);
  text_copy(result->zone, sizeof result->zone, "example");
  text_copy(result->owner, sizeof result->owner, item->name);
  text_copy(result->primary_server, sizeof result->primary_server, "192.0.2.1:53");
  if (item->change == PUBLISH_ATTEST) return;
  result->already = wanted && name->record ? text_equal(wanted, name->record) : !wanted && !name->record;
  if (result->already) return;
  if (item->change == PUBLISH_ADD ? name->record != NULL
                                  : !name->record || !text_equal(name->record, item->record_before)) {
    error_set(&result->error, ERROR_CONFLICT, "something else stands at %s", item->name);
    return;
  }
  if (item->change == PUBLISH_ADD) {
    if (name->was_ours && !text_equal(name->first, wanted)) world_violate(world, "a selector was used twice", name->name);
    if (!name->was_ours) name->first = text_duplicate(wanted);
    name->was_ours = true;
    world->counts.adds++;
  } else {
    check_going(world, name);
    world->counts.replaces += item->change == PUBLISH_REPLACE;
    world->counts.deletes += item->change == PUBLISH_DELETE;
  }
  name_set(world, name, wanted);
}

static void publish_answer(struct world_pending *pending) {
  struct publish_result *results = calloc(pending->count, sizeof *results);
  for (size_t i = 0; i < pending->count; i++) {
    if (pending->kind)
      error_set(&results[i].error, ERROR_TIMEOUT, "the deadline passed");
    else
      publish_one(pending->world, (const struct publish_item *)pending->items + i, &results[i]);
  }
  ((publisher_done *)pending->done)(pending->context, results, pending->count);
  memset(results, 0x55, pending->count * sizeof *results);
  free(results);
}

static int publish_start(struct publisher *publisher, const struct publish_item *items, size_t count, int64_t deadline,
                         publisher_done *done, void *context, struct publish_operation **ret_operation,
                         struct error *error) {
  struct world *world = ((struct fake_publisher *)publisher)->world;
  world->counts.publications++;
  const struct world_pending pending = {.world = world,
                                        .answer = publish_answer,
                                        .items = items,
                                        .count = count,
                                        .kind = world->publish_hangs,
                                        .done = (void *)done,
                                        .context = context};
  return world_pending_start(&pending, world->publish_hangs ? deadline : loop_boottime(world->loop) + world->answer_ms,
                       ret_operation, error);
}
static void publish_cancel(struct publisher *publisher, struct publish_operation *operation) {
  (void)publisher;
  world_pending_cancel(operation);
}
static void publish_destroy(struct publisher *publisher) {
  ((struct fake_publisher *)publisher)->world->open_back_ends--;
  free(publisher);
}
static const struct publisher_ops publish_ops = {
    .start = publish_start, .cancel = publish_cancel, .destroy = publish_destroy};

int world_make_publisher(void *context, const struct policy_publisher *policy, struct publisher **ret_publisher,
                          struct error *error) {
  struct world *world = context;
  if (world->no_publisher && text_equal(policy->name, world->no_publisher))
    return error_set(error, ERROR_NOT_FOUND, "no such TSIG file");
  if (world->secret_gone && text_equal(policy->tsig_file, world->secret_gone)) return error_set(error, ERROR_NOT_FOUND, "%s: no such TSIG file", policy->tsig_file);
  struct fake_publisher *publisher = calloc(1, sizeof *publisher);
  *publisher = (struct fake_publisher){.publisher.ops = &publish_ops, .world = world};
  world->open_back_ends++;
  *ret_publisher = &publisher->publisher;
  return 0;
}
