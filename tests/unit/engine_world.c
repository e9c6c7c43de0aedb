#include "engine_world.h"

#include <unistd.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/keeper_worker.h"
#include "dkimroll/text.h"

#define CONTAINER(pointer, field) ((struct world *)((char *)(uintptr_t)(pointer)-offsetof(struct world, field)))

static void violate(struct world *world, const char *what, const char *name) {
  if (world->violations++ == 0) snprintf(world->violation, sizeof world->violation, "%s: %s", what, name);
}

/* One callback of ours has run. */
static void step(struct world *world) {
  if (world->steps_left && --world->steps_left == 0) loop_stop(world->loop);
}

/* ---- DNS ---- */

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

static const char *name_at(const struct world *world, const struct world_name *name, int server) {
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

/* An operation of a back end that waits for its answer. */
struct pending {
  struct world *world;
  struct loop_source *source;
  void (*answer)(struct pending *pending);
  const void *items;
  size_t count;
  int kind;
  int signer;
  const char *signer_name;
  void *done, *context;
};

static void pending_fire(void *context) {
  struct pending *pending = context;
  struct world *world = pending->world;
  pending->source = NULL;
  pending->answer(pending);
  free(pending);
  step(world);
}

static int pending_start(const struct pending *template, int64_t at, void *ret, struct error *error) {
  struct pending *pending = malloc(sizeof *pending);
  *pending = *template;
  if (loop_at(pending->world->loop, at, pending_fire, pending, &pending->source)) {
    free(pending);
    return error_set(error, ERROR_SYSTEM, "no timer");
  }
  if (ret) *(struct pending **)ret = pending;
  return 0;
}

static void pending_cancel(void *operation) {
  struct pending *pending = operation;
  loop_cancel(pending->world->loop, &pending->source);
  free(pending);
}

static void observe_answer(struct pending *pending) {
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
      const char *record = name_at(world, name, s);
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
  struct world *world = CONTAINER(observer, observer);
  (void)deadline;
  world->counts.observations++;
  const struct pending pending = {.world = world,
                                  .answer = observe_answer,
                                  .items = items,
                                  .count = count,
                                  .kind = kind,
                                  .done = (void *)done,
                                  .context = context};
  return pending_start(&pending, loop_boottime(world->loop) + world->answer_ms, ret_operation, error);
}
static void observe_cancel(struct observer *observer, struct observe_operation *operation) {
  (void)observer;
  pending_cancel(operation);
}
static const struct observer_ops observe_ops = {.start = observe_start, .cancel = observe_cancel};

/* ---- publisher ---- */

struct fake_publisher {
  struct publisher publisher;
  struct world *world;
};

/* I1 and I2, seen from the outside: may this record go now? */
static void check_going(struct world *world, const struct world_name *name) {
  if (name->signed_at && loop_wall(world->loop) < name->signed_at + WORLD_WINDOW)
    violate(world, "a record went too early", name->name);
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
    if (name->was_ours && !text_equal(name->first, wanted)) violate(world, "a selector was used twice", name->name);
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

static void publish_answer(struct pending *pending) {
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
  const struct pending pending = {.world = world,
                                  .answer = publish_answer,
                                  .items = items,
                                  .count = count,
                                  .kind = world->publish_hangs,
                                  .done = (void *)done,
                                  .context = context};
  return pending_start(&pending, world->publish_hangs ? deadline : loop_boottime(world->loop) + world->answer_ms,
                       ret_operation, error);
}
static void publish_cancel(struct publisher *publisher, struct publish_operation *operation) {
  (void)publisher;
  pending_cancel(operation);
}
static void publish_destroy(struct publisher *publisher) {
  ((struct fake_publisher *)publisher)->world->open_back_ends--;
  free(publisher);
}
static const struct publisher_ops publish_ops = {
    .start = publish_start, .cancel = publish_cancel, .destroy = publish_destroy};

static int make_publisher(void *context, const struct policy_publisher *policy, struct publisher **ret_publisher,
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

/* ---- signers ---- */

struct fake_signer {
  struct signer signer;
  struct world *world;
  const char *name;
  int number;
};

static struct world_line *find_line(struct world *world, int signer, const char *domain) {
  for (size_t i = 0; i < world->line_count; i++)
    if (world->lines[i].signer == signer && text_equal(world->lines[i].domain, domain)) return &world->lines[i];
  assert_true(world->line_count < WORLD_NAMES_MAX);
  struct world_line *line = &world->lines[world->line_count++];
  line->signer = signer;
  text_copy(line->domain, sizeof line->domain, domain);
  return line;
}

const char *world_signs(const struct world *world, int signer, const char *domain) {
  for (size_t i = 0; i < world->line_count; i++)
    if (world->lines[i].signer == signer && text_equal(world->lines[i].domain, domain)) return world->lines[i].selector;
  return "";
}

void world_edit_tables(struct world *world, int signer, const char *domain, const char *selector) {
  struct world_line *line = find_line(world, signer, domain);
  text_copy(line->selector, sizeof line->selector, selector);
}

static struct world_name *name_of(struct world *world, const char *selector, const char *domain) {
  char name[400];
  snprintf(name, sizeof name, "%s._domainkey.%s", selector, domain);
  return world_name(world, name);
}

static void activate_one(struct pending *pending, const struct signer_item *item, struct signer_result *result) {
  struct world *world = pending->world;
  if (world->signer_down && text_equal(world->signer_down, pending->signer_name)) {
    error_set(&result->error, ERROR_UNREACHABLE, "nobody answers");
    return;
  }
  if ((world->signer_fails && text_equal(world->signer_fails, pending->signer_name)) ||
      (world->domain_fails && text_equal(world->domain_fails, item->domain))) {
    error_set(&result->error, ERROR_PROOF, "the fake signer does not sign");
    result->rolled_back = true;
    return;
  }
  struct world_line *line = find_line(world, pending->signer, item->domain);
  struct world_name *name = name_of(world, item->selector, item->domain);
  if (!item->key_path || access(item->key_path, R_OK))
    violate(world, "a table names a key file that is not there", item->key_path);
  for (int s = 0; s < WORLD_SERVERS; s++) {
    const char *record = name_at(world, name, s);
    if (!record) violate(world, "a key signs whose record a server does not have", name->name);
    /* F1: negative answers have left all caches. */
    if (loop_boottime(world->loop) < name->changed + (world->lag[s] + WORLD_NEGATIVE_TTL) * 1000)
      violate(world, "a key signs too early", name->name);
  }
  if (line->selector[0] && !text_equal(line->selector, item->selector))
    name_of(world, line->selector, item->domain)->signed_at = loop_wall(world->loop);
  world->counts.switches += !text_equal(line->selector, item->selector);
  text_copy(line->selector, sizeof line->selector, item->selector);
  name->signed_at = loop_wall(world->loop);
  result->switched_at = result->completed_at = loop_wall(world->loop);
}

static void prove_one(struct pending *pending, const struct signer_item *item, struct signer_result *result) {
  struct world *world = pending->world;
  const struct world_line *line = find_line(world, pending->signer, item->domain);
  if (world->signer_down && text_equal(world->signer_down, pending->signer_name))
    error_set(&result->error, ERROR_UNREACHABLE, "nobody answers");
  else if (!text_equal(line->selector, item->selector))
    error_set(&result->error, ERROR_PROOF, "it signs with \"%s\"", line->selector);
  else if (access(item->key_path, R_OK))
    violate(world, "a key is proved whose file is not there", item->key_path);
  else
    name_of(world, item->selector, item->domain)->signed_at = result->completed_at = loop_wall(world->loop);
}

static void signer_answer(struct pending *pending) {
  struct world *world = pending->world;
  const struct signer_item *items = pending->items;
  struct signer_result *results = calloc(pending->count, sizeof *results);
  for (size_t i = 0; i < pending->count; i++) {
    if (pending->kind == 0) {
      activate_one(pending, &items[i], &results[i]);
    } else if (pending->kind == 2) {
      prove_one(pending, &items[i], &results[i]);
    } else {
      if (text_equal(world_signs(world, pending->signer, items[i].domain), items[i].selector))
        violate(world, "the signing key was withdrawn", items[i].domain);
      results[i].completed_at = loop_wall(world->loop);
    }
  }
  ((signer_done *)pending->done)(pending->context, results, pending->count);
  free(results);
}

static int signer_begin(struct signer *signer, int kind, const struct signer_item *items, size_t count,
                        signer_done *done, void *context, struct signer_operation **ret_operation,
                        struct error *error) {
  struct fake_signer *fake = (struct fake_signer *)signer;
  const struct pending pending = {.world = fake->world,
                                  .answer = signer_answer,
                                  .items = items,
                                  .count = count,
                                  .kind = kind,
                                  .signer = fake->number,
                                  .signer_name = fake->name,
                                  .done = (void *)done,
                                  .context = context};
  return pending_start(&pending, loop_boottime(fake->world->loop) + fake->world->answer_ms, ret_operation, error);
}
static int signer_activate_start(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                                 signer_done *done, void *context, struct signer_operation **ret_operation,
                                 struct error *error) {
  (void)deadline;
  ((struct fake_signer *)signer)->world->counts.activations++;
  return signer_begin(signer, 0, items, count, done, context, ret_operation, error);
}
static int signer_withdraw_start(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                                 signer_done *done, void *context, struct signer_operation **ret_operation,
                                 struct error *error) {
  (void)deadline;
  ((struct fake_signer *)signer)->world->counts.withdrawals++;
  return signer_begin(signer, 1, items, count, done, context, ret_operation, error);
}
static int signer_prove_start(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                              signer_done *done, void *context, struct signer_operation **ret_operation,
                              struct error *error) {
  (void)deadline;
  ((struct fake_signer *)signer)->world->counts.proofs++;
  return signer_begin(signer, 2, items, count, done, context, ret_operation, error);
}
static void look_answer(struct pending *pending) {
  struct world *world = pending->world;
  struct signer_stamp stamp = {0};
  struct error error = {0};
  world->looks++;
  if (world->tables_digest) {
    text_copy(stamp.digest, sizeof stamp.digest, world->tables_digest);
    text_copy(stamp.state, sizeof stamp.state, world->tables_digest);
  } else {
    error_set(&error, ERROR_PERMISSION, "nobody may look");
  }
  ((signer_looked *)pending->done)(pending->context, &stamp, &error);
}
static int signer_look_start(struct signer *signer, const char *known_state, int64_t deadline, signer_looked *done,
                             void *context, struct signer_operation **ret_operation, struct error *error) {
  struct fake_signer *fake = (struct fake_signer *)signer;
  const struct pending pending = {
      .world = fake->world, .answer = look_answer, .signer = fake->number, .done = (void *)done, .context = context};
  (void)known_state;
  (void)deadline;
  return pending_start(&pending, loop_boottime(fake->world->loop) + fake->world->answer_ms, ret_operation, error);
}
static void signer_cancel_one(struct signer *signer, struct signer_operation *operation) {
  (void)signer;
  pending_cancel(operation);
}
static void signer_end(struct signer *signer) {
  ((struct fake_signer *)signer)->world->open_back_ends--;
  free(signer);
}
static const struct signer_ops signer_ops = {.activate = signer_activate_start,
                                             .withdraw = signer_withdraw_start,
                                             .prove = signer_prove_start,
                                             .look = signer_look_start,
                                             .cancel = signer_cancel_one,
                                             .destroy = signer_end};

static int make_signer(void *context, const struct policy_signer *policy, struct signer **ret_signer,
                       struct error *error) {
  struct world *world = context;
  (void)error;
  struct fake_signer *signer = calloc(1, sizeof *signer);
  *signer = (struct fake_signer){
      .signer.ops = &signer_ops, .world = world, .name = policy->name, .number = text_equal(policy->name, "second")};
  world->open_back_ends++;
  *ret_signer = &signer->signer;
  return 0;
}

/* ---- keeper: the real jobs on real files, answered late ---- */

struct job {
  struct world *world;
  enum keeper_job kind;
  struct buffer payload;
  keeper_done *done;
  void *context;
};

/* The tables of this world are models, so it says itself who names a file. */
static int run_users(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  const struct world *world = context;
  if (world->users_fail) return error_set(error, ERROR_SYSTEM, "a table cannot be read");
  const uint32_t count = reader_u32(request);
  buffer_add_u32(reply, count);
  for (uint32_t i = 0; i < count; i++) {
    CLEANUP_FREE char *path = reader_text_field(request);
    buffer_add_text_field(reply, text_equal(path, world->named_path) ? "KeyTable, line 1" : "");
  }
  return 0;
}

static void job_fire(void *context) {
  struct job *job = context;
  struct world *world = job->world;
  CLEANUP(buffer_release) struct buffer reply = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  struct error result = {0};
  if (world->keeper_dead) {
    error_set(&result, ERROR_UNREACHABLE, "the keeper has ended");
  } else {
    const struct keeper_handlers handlers = {world->handlers, KEY_JOBS_COUNT + 1};
    struct reader request = {.data = job->payload.data, .size = job->payload.size};
    keeper_job_run(&handlers, job->kind, &request, &reply, &result);
    world->counts.generated += job->kind == KEEPER_GENERATE && !result.code;
    world->counts.copied += job->kind == KEEPER_COPY && !result.code;
    world->counts.destroyed += job->kind == KEEPER_DESTROY && !result.code;
  }
  job->done(job->context, &result, reply.data, reply.size);
  buffer_release(&job->payload);
  free(job);
  step(world);
}

static int keeper_take(struct keeper *keeper, enum keeper_job kind, const struct buffer *payload, int64_t deadline,
                       keeper_done *done, void *context, struct error *error) {
  struct world *world = CONTAINER(keeper, keeper);
  (void)deadline;
  (void)error;
  struct job *job = calloc(1, sizeof *job);
  *job = (struct job){.world = world,
                      .kind = kind,
                      .payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX),
                      .done = done,
                      .context = context};
  buffer_add(&job->payload, payload->data, payload->size);
  assert_int_equal(loop_at(world->loop, loop_boottime(world->loop) + world->answer_ms, job_fire, job, NULL), 0);
  return 0;
}
static const struct keeper_ops keeper_ops = {.submit = keeper_take};

/* ---- store and clock, with faults in between ---- */

static int world_commit(struct store *store, const struct store_commit *commit, struct error *error) {
  struct world *world = CONTAINER(store->ops, store_ops);
  world->counts.commits++;
  step(world);
  if (world->commits_left && --world->commits_left == 0) return error_set(error, ERROR_SYSTEM, "the disk is full");
  return world->store_real->commit(store, commit, error);
}

static int world_claim(struct store *store, int64_t now, size_t limit, const char *const *domains, size_t domain_count,
                       const int64_t *open_ids, size_t open_count, struct lineage **ret_lineages, size_t *ret_count,
                       struct error *error) {
  struct world *world = CONTAINER(store->ops, store_ops);
  if (now != TIME_NEVER) world->counts.turns++;
  return world->store_real->claim(store, now, limit, domains, domain_count, open_ids, open_count, ret_lineages,
                                  ret_count, error);
}

static void world_now(struct loop *loop, struct clock_reading *ret_reading) {
  struct world *world = CONTAINER(loop->ops, loop_ops);
  world->loop_real->now(loop, ret_reading);
  ret_reading->synchronised = !world->unsynchronised;
  if (world->no_boot_id) ret_reading->boot_id[0] = '\0';
}

/* ---- the whole ---- */

static char *policy_text(const struct world *world, const char *domains) {
  static const char text[] = "%3$spolicies: {one: {keys: {main: {algorithm: ed25519}}, %4$s}}\n"
                             "publishers: {primary: {server: \"192.0.2.1\"%5$s}, other: {server: \"192.0.2.2\"}}\n"
                             "signers:\n"
                             "  first: {key-table: %1$s/first/KeyTable, signing-table: %1$s/first/SigningTable, "
                             "key-directory: %1$s/first/%%d, owner: \"root:root\", milter: \"unix:/x\"}\n"
                             "  second: {key-table: %1$s/second/KeyTable, signing-table: %1$s/second/SigningTable, "
                             "key-directory: %1$s/second/%%d, owner: \"root:root\", milter: \"unix:/y\"}\n"
                             "domain-defaults: {policy: one, publisher: primary, signers: [first]}\n"
                             "domains: {%2$s}\n";
  const char *const limits = world->limits ? world->limits : "", *const rules = world->rules ? world->rules : "rotate-every: 30d", *const secret = world->secret ? world->secret : "";
  const size_t size = sizeof text + 6 * strlen(world->place.path) + strlen(domains) + strlen(limits) + strlen(rules) + strlen(secret);
  char *whole = malloc(size);
  assert_non_null(whole);
  snprintf(whole, size, text, world->place.path, domains, limits, rules, secret);
  return whole;
}

void world_sync(struct world *world, const char *domains) {
  CLEANUP_FREE char *text = policy_text(world, domains);
  struct policy_findings findings = {0};
  struct policy *policy = NULL;
  struct error error = {0};
  struct store_sync_report report = {0};
  const struct store_policy_stamp stamp = {.digest = "digest"};
  int result = policy_parse("p.yaml", text, strlen(text), &policy, &findings, &error);
  for (size_t i = 0; i < findings.count; i++)
    print_error("%u: %s\n", findings.items[i].place.line, findings.items[i].message);
  policy_findings_release(&findings);
  assert_int_equal(result, 0);
  result = world->store->ops->sync(world->store, policy, &stamp, loop_wall(world->loop), &report, &error);
  if (result) fail_msg("%s", error.message);
  policy_free(policy);
}

void world_make(struct world *world, const char *domains) {
  struct error error = {0};
  const struct clock_reading start = {.wall = WORLD_NOW, .boottime = 1000, .synchronised = true, .boot_id = "boot-one"};
  workplace_make(&world->place, "/tmp");
  world->answer_ms = 50;
  world->names = calloc(WORLD_NAMES_MAX, sizeof *world->names);
  world->lines = calloc(WORLD_NAMES_MAX, sizeof *world->lines);
  assert_true(world->names && world->lines);
  entropy_seed(&world->entropy, 1);
  assert_int_equal(key_roots_add(&world->roots, world->place.path, &error), 0);
  key_jobs_handlers(&world->roots, world->handlers);
  world->handlers[KEY_JOBS_COUNT] = (struct keeper_handler){.job = KEEPER_KEY_USERS, .run = run_users, .context = world};
  assert_int_equal(loop_virtual_new(&start, &world->loop, &error), 0);
  world->loop_real = world->loop->ops;
  world->loop_ops = *world->loop_real;
  world->loop_ops.now = world_now;
  world->loop->ops = &world->loop_ops;
  if (store_sqlite_open(":memory:", false, &world->store, &error)) fail_msg("%s", error.message);
  world->store_real = world->store->ops;
  world->store_ops = *world->store_real;
  world->store_ops.commit = world_commit;
  world->store_ops.claim = world_claim;
  world->store->ops = &world->store_ops;
  world->keeper.ops = &keeper_ops;
  world->observer.ops = &observe_ops;
  world->factory = (struct engine_factory){make_publisher, make_signer, world};
  world_sync(world, domains);
}

static void drain_end(void *context) {
  loop_stop(context);
}

void world_remove(struct world *world) {
  struct error error = {0};
  /* Jobs of an engine that is gone are answered all the same. */
  assert_int_equal(
      loop_at(world->loop, loop_boottime(world->loop) + 10 * world->answer_ms, drain_end, world->loop, NULL), 0);
  assert_int_equal(loop_run(world->loop, &error), 0);
  assert_int_equal(world->open_back_ends, 0);
  store_close(world->store);
  loop_destroy(world->loop);
  key_roots_release(&world->roots);
  for (size_t i = 0; i < world->name_count; i++) {
    free(world->names[i].record);
    free(world->names[i].before);
    free(world->names[i].first);
  }
  free(world->names);
  free(world->lines);
  workplace_remove(&world->place);
}

/* I1 at every event: whatever signs has its record on every server, as its key says. */
static void listener(void *context, const struct event *event) {
  struct world *world = context;
  (void)event;
  for (size_t i = 0; i < world->line_count && !world->unwatched; i++) {
    const struct world_line *line = &world->lines[i];
    if (!line->selector[0]) continue; /* an operator took it away */
    struct world_name *name = name_of(world, line->selector, line->domain);
    if (!name->record || !text_equal(name->record, name->first))
      violate(world, "a domain signs with a key whose record is gone", name->name);
  }
  if (world->stop_at_event && world->engine) engine_stop(world->engine);
}

int world_run_setup(struct world *world, struct engine_setup setup, struct error *error) {
  setup.loop = world->loop;
  setup.store = world->store;
  setup.keeper = &world->keeper;
  setup.observer = &world->observer;
  setup.entropy = &world->entropy.entropy;
  setup.factory = &world->factory;
  setup.listener = listener;
  setup.listener_context = world;
  int result = engine_new(&setup, &world->engine, error);
  if (result) return result;
  result = engine_run(world->engine, error);
  engine_summarise(world->engine, &world->summary);
  engine_free(world->engine);
  world->engine = NULL;
  return result;
}

int world_run(struct world *world, int64_t horizon, struct error *error) {
  return world_run_setup(world, (struct engine_setup){.horizon = horizon}, error);
}

void world_run_well(struct world *world, int64_t horizon) {
  struct error error = {0};
  if (world_run(world, horizon, &error)) fail_msg("%s", error.message);
}

void world_live(struct world *world, int days) {
  world_run_well(world, (int64_t)days * WORLD_DAY);
  if (world->violations) fail_msg("%zu violations, first: %s", world->violations, world->violation);
}

void world_request(struct world *world, enum store_request_kind kind, const char *domain) {
  struct error error = {0};
  struct store_request request = {.kind = kind,
                                  .domain = (char *)(uintptr_t)domain,
                                  .until = TIME_NEVER,
                                  .asked_at = WORLD_NOW,
                                  .asked_by = (char[]){"test"}};
  if (world->store->ops->request(world->store, &request, &error)) fail_msg("%s", error.message);
}

static int add_states(void *context, const void *row) {
  struct buffer *text = context;
  const struct lineage *lineage = row;
  for (size_t i = 0; i < lineage->key_count; i++)
    buffer_format(text, "%s%s", text->size ? " " : "", key_state_name(lineage->keys[i].state));
  return 0;
}

char *world_states(struct world *world, const char *domain) {
  struct buffer text = BUFFER_WITH_MAXIMUM(4096);
  struct error error = {0};
  const struct store_filter filter = {.domain = domain};
  buffer_add_text(&text, "");
  if (world->store->ops->select(world->store, STORE_SELECT_LINEAGES, &filter, add_states, &text, &error))
    fail_msg("%s", error.message);
  return buffer_take_text(&text);
}

static int take_next(void *context, const void *row) {
  *(int64_t *)context = ((const struct lineage *)row)->next_moment;
  return 0;
}

int64_t world_next(struct world *world, const char *domain) {
  struct error error = {0};
  int64_t next = TIME_UNSET;
  const struct store_filter filter = {.domain = domain};
  if (world->store->ops->select(world->store, STORE_SELECT_LINEAGES, &filter, take_next, &next, &error))
    fail_msg("%s", error.message);
  return next;
}

struct event_count {
  const char *kind;
  size_t count;
};
static int count_event(void *context, const void *row) {
  struct event_count *search = context;
  search->count += !search->kind || text_equal(((const struct event *)row)->kind, search->kind);
  return 0;
}

size_t world_events(struct world *world, const char *domain, const char *kind) {
  struct error error = {0};
  struct event_count search = {.kind = kind};
  const struct store_filter filter = {.domain = domain};
  if (world->store->ops->select(world->store, STORE_SELECT_EVENTS, &filter, count_event, &search, &error))
    fail_msg("%s", error.message);
  return search.count;
}

int world_setup(void **state) {
  *state = calloc(1, sizeof(struct world));
  return *state ? 0 : -1;
}

int world_teardown(void **state) {
  struct world *world = *state;
  if (world->loop) world_remove(world);
  free(world);
  return 0;
}
