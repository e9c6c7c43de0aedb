#include "observe_rig.h"

int observe_rig_setup(void **state) {
  static char name[] = "primary";
  static char resolver[] = RESOLVER;
  static char *resolvers[] = {resolver};
  struct stage *stage = calloc(1, sizeof *stage);
  struct error error = {0};
  assert_non_null(stage);
  world_open(&stage->world);
  build_internet(stage->world);
  stage->publisher = (struct policy_publisher){.name = name, .resolvers = resolvers, .resolver_count = 1};
  assert_int_equal(observer_dns_new(stage->world->loop, &stage->world->transport, &stage->world->random.entropy,
                                    &stage->observer, &error),
                   0);
  *state = stage;
  return 0;
}

static void forget_results(struct stage *stage) {
  for (size_t i = 0; i < stage->count; i++) free(stage->results[i].servers);
  stage->count = 0;
}

int observe_rig_teardown(void **state) {
  struct stage *stage = *state;
  forget_results(stage);
  world_assert_discretion(stage->world);
  observer_destroy(stage->observer);
  world_close(stage->world);
  free(stage);
  return 0;
}

void note_observed(void *context, const struct observe_result *results, size_t count) {
  struct stage *stage = context;
  forget_results(stage);
  for (size_t i = 0; i < count; i++) {
    stage->results[i] = results[i];
    stage->results[i].servers = calloc(results[i].server_count + 1, sizeof *results[i].servers);
    assert_non_null(stage->results[i].servers);
    if (results[i].server_count > 0)
      memcpy(stage->results[i].servers, results[i].servers, results[i].server_count * sizeof *results[i].servers);
  }
  stage->count = count;
  stage->done++;
  if (stage->destroy) {
    observer_destroy(stage->observer);
    stage->observer = NULL;
  }
  loop_stop(stage->world->loop);
}

void start_round(struct stage *stage, enum observe_kind kind, size_t count, int64_t milliseconds) {
  struct error error = {0};
  stage->operation = NULL;
  int code =
      observer_start(stage->observer, kind, stage->items, count, loop_boottime(stage->world->loop) + milliseconds,
                     note_observed, stage, &stage->operation, &error);
  if (code) fail_msg("%s", error.message);
  assert_non_null(stage->operation);
}

void await_round(struct stage *stage) {
  struct error error = {0};
  const size_t before = stage->done;
  if (loop_run(stage->world->loop, &error)) fail_msg("%s", error.message);
  assert_int_equal(stage->done, before + 1);
}

void run_round(struct stage *stage, enum observe_kind kind, size_t count, int64_t milliseconds) {
  start_round(stage, kind, count, milliseconds);
  await_round(stage);
}

const struct observe_result *look_at(struct stage *stage, enum observe_kind kind, const struct observe_item *item) {
  stage->items[0] = *item;
  stage->items[0].publisher = &stage->publisher;
  run_round(stage, kind, 1, DEADLINE_MS);
  if (stage->results[0].error.code) fail_msg("%s", stage->results[0].error.message);
  return &stage->results[0];
}

const struct observe_result *look(struct stage *stage, enum observe_kind kind, const char *record) {
  return look_at(stage, kind, &(struct observe_item){.name = NAME, .record = record});
}

const struct observe_server *server_of(const struct observe_result *result, const char *address) {
  for (size_t i = 0; i < result->server_count; i++)
    if (text_starts(result->servers[i].address, address)) return &result->servers[i];
  fail_msg("no server %s", address);
  abort();
}

void assert_says(const struct observe_result *result, const char *address, enum observe_verdict verdict, const char *answer) {
  const struct observe_server *server = server_of(result, address);
  if (server->verdict != verdict || !text_equal(server->answer, answer))
    fail_msg("%s: verdict %d, \"%s\"", address, (int)server->verdict, server->answer);
}

struct world_record *publish(struct stage *stage, const char *text) {
  return world_add(stage->world, "example.com", NAME, 3600, DNS_TYPE_TXT, text);
}

void publish_at(struct stage *stage, const char *server, const char *text) {
  publish(stage, text)->server = world_server(stage->world, server)->text;
}

struct world_server *set_fault(struct stage *stage, const char *server, enum server_fault fault) {
  world_server(stage->world, server)->fault = fault;
  return world_server(stage->world, server);
}
