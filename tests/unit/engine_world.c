/* The engine's world: what holds its models together, the real key jobs and the real store behind faults, and what tests ask it. */
#include "engine_world_parts.h"

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/keeper_worker.h"
#include "dkimroll/text.h"

void world_violate(struct world *world, const char *what, const char *name) {
  if (world->violations++ == 0) snprintf(world->violation, sizeof world->violation, "%s: %s", what, name);
}

void world_step(struct world *world) {
  if (world->steps_left && --world->steps_left == 0) loop_stop(world->loop);
}

/* ---- back ends, which answer late ---- */

static void pending_fire(void *context) {
  struct world_pending *pending = context;
  struct world *world = pending->world;
  pending->source = NULL;
  pending->answer(pending);
  free(pending);
  world_step(world);
}

int world_pending_start(const struct world_pending *template, int64_t at, void *ret, struct error *error) {
  struct world_pending *pending = malloc(sizeof *pending);
  *pending = *template;
  if (loop_at(pending->world->loop, at, pending_fire, pending, &pending->source)) {
    free(pending);
    return error_set(error, ERROR_SYSTEM, "no timer");
  }
  if (ret) *(struct world_pending **)ret = pending;
  return 0;
}

void world_pending_cancel(void *operation) {
  struct world_pending *pending = operation;
  loop_cancel(pending->world->loop, &pending->source);
  free(pending);
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
    const struct keeper_handlers handlers = {.items = world->handlers, .count = KEY_JOBS_COUNT + 1};
    struct reader request = {.data = job->payload.data, .size = job->payload.size};
    keeper_job_run(&handlers, job->kind, &request, &reply, &result);
    world->counts.generated += job->kind == KEEPER_GENERATE && !result.code;
    world->counts.copied += job->kind == KEEPER_COPY && !result.code;
    world->counts.destroyed += job->kind == KEEPER_DESTROY && !result.code;
  }
  job->done(job->context, &result, reply.data, reply.size);
  buffer_release(&job->payload);
  free(job);
  world_step(world);
}

static int keeper_take(struct keeper *keeper, enum keeper_job kind, const struct buffer *payload, int64_t deadline,
                       keeper_done *done, void *context, struct error *error) {
  struct world *world = WORLD_OF(keeper, keeper);
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

static uint64_t mix(uint64_t hash, uint64_t value) { return (hash ^ value) * 1099511628211u; /* FNV-1a, of whole numbers */ }

static uint64_t mix_known(uint64_t hash, int64_t moment) { return mix(hash, moment != TIME_UNSET); }

static uint64_t mix_key(uint64_t hash, const struct key *key) {
  const int64_t facts[] = {key->created_at, key->generated_at, key->published_at, key->right_at, key->confirmed_at, key->ready_at, key->revoke_at,
                           key->revoked_at, key->deleted_at, key->absent_at, key->files_seen_at, key->contested_at, key->compromised_at, key->lingers_until};
  hash = mix(mix(hash, (uint64_t)key->state), key->intent_open ? 1 + (uint64_t)key->intent : 0);
  hash = mix(mix(hash, key->failures), key->proof_failures);
  for (size_t i = 0; i < ARRAY_SIZE(facts); i++) hash = mix_known(hash, facts[i]);
  for (size_t i = 0; i < key->placement_count; i++) {
    const struct placement *placement = &key->placements[i];
    hash = mix_known(mix_known(mix_known(hash, placement->switched_at), placement->proved_at), placement->drained_at);
    hash = mix(mix(mix(hash, placement->file_made), placement->destroyed), placement->damage);
  }
  return hash;
}

static void note_situations(struct world *world, const struct store_commit *commit) {
  for (size_t i = 0; i < commit->lineage_count; i++) {
    const struct lineage *lineage = commit->lineages[i];
    uint64_t hash = mix(mix(14695981039346656037u, lineage->failures), lineage->rotate_requested);
    for (size_t j = 0; j < lineage->key_count; j++) hash = mix_key(hash, &lineage->keys[j]);
    world->situations[lineage->id % WORLD_SITUATIONS] = hash;
  }
}

uint64_t world_situation(const struct world *world) {
  uint64_t hash = 0;
  for (size_t i = 0; i < WORLD_SITUATIONS; i++) hash = mix(hash, world->situations[i]);
  return hash;
}

static int world_commit(struct store *store, const struct store_commit *commit, struct error *error) {
  struct world *world = WORLD_OF(store->ops, store_ops);
  world->counts.commits++;
  world_step(world);
  if (world->commits_left && --world->commits_left == 0) return error_set(error, ERROR_SYSTEM, "the disk is full");
  const int code = world->store_real->commit(store, commit, error);
  if (code == 0) note_situations(world, commit);
  return code;
}

static int world_claim(struct store *store, int64_t now, size_t limit, const char *const *domains, size_t domain_count,
                       const int64_t *open_ids, size_t open_count, struct lineage **ret_lineages, size_t *ret_count,
                       struct error *error) {
  struct world *world = WORLD_OF(store->ops, store_ops);
  if (now != TIME_NEVER) world->counts.turns++;
  return world->store_real->claim(store, now, limit, domains, domain_count, open_ids, open_count, ret_lineages,
                                  ret_count, error);
}

static void world_now(struct loop *loop, struct clock_reading *ret_reading) {
  struct world *world = WORLD_OF(loop->ops, loop_ops);
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
  world->observer.ops = &world_observer_ops;
  world->factory = (struct engine_factory){world_make_publisher, world_make_signer, world};
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
    struct world_name *name = world_name_of(world, line->selector, line->domain);
    if (!name->record || !text_equal(name->record, name->first))
      world_violate(world, "a domain signs with a key whose record is gone", name->name);
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
