#include "zone_rig.h"

int zone_rig_setup(void **state) {
  static char name[] = "primary";
  static char resolver[] = RESOLVER;
  static char *resolvers[] = {resolver};
  struct stage *stage = calloc(1, sizeof *stage);
  struct error error = {0};
  assert_non_null(stage);
  world_open(&stage->world);
  build_internet(stage->world);
  stage->publisher = (struct policy_publisher){.name = name, .resolvers = resolvers, .resolver_count = 1};
  assert_int_equal(zone_finder_new(stage->world->loop, &stage->world->transport, &stage->world->random.entropy,
                                   &stage->finder, &error),
                   0);
  *state = stage;
  return 0;
}

int zone_rig_teardown(void **state) {
  struct stage *stage = *state;
  world_assert_discretion(stage->world);
  zone_finder_free(stage->finder);
  world_close(stage->world);
  free(stage);
  return 0;
}

void note_found(void *context, const struct zone_answer *answer) {
  struct stage *stage = context;
  stage->answer = *answer;
  stage->failed += answer->error.code != 0;
  if (answer->server_count > 0) memcpy(stage->servers, answer->servers, answer->server_count * sizeof *answer->servers);
  stage->answer.servers = stage->servers;
  if (stage->free_finder) {
    zone_finder_free(stage->finder);
    stage->finder = NULL;
  }
  if (++stage->done == stage->stop_at) loop_stop(stage->world->loop);
}

void begin_search(struct stage *stage, const char *name, int64_t deadline, struct zone_search **ret_search) {
  struct error error = {0};
  assert_int_equal(zone_find_servers(stage->finder, name, NULL, &stage->publisher, deadline, note_found, stage,
                                     ret_search, &error),
                   0);
}

void run_loop(struct stage *stage) {
  struct error error = {0};
  if (loop_run(stage->world->loop, &error)) fail_msg("%s", error.message);
}

void find_known(struct stage *stage, const char *name, const char *known_zone) {
  struct zone_search *search = NULL;
  struct error error = {0};
  stage->done = 0;
  stage->stop_at = 1;
  int code = zone_find_servers(stage->finder, name, known_zone, &stage->publisher,
                               loop_boottime(stage->world->loop) + DEADLINE_MS, note_found, stage, &search, &error);
  if (code) fail_msg("%s", error.message);
  assert_int_equal(stage->done, 0);
  run_loop(stage);
}

void find_name(struct stage *stage, const char *name) {
  find_known(stage, name, NULL);
}

void find_primary(struct stage *stage, const char *name) {
  struct zone_search *search = NULL;
  struct error error = {0};
  stage->done = 0;
  stage->stop_at = 1;
  assert_int_equal(zone_find(stage->finder, name, NULL, &stage->publisher,
                             loop_boottime(stage->world->loop) + DEADLINE_MS, note_found, stage, &search, &error),
                   0);
  run_loop(stage);
}

void find_example(struct stage *stage) {
  find_name(stage, NAME);
  assert_found(stage, "example.com", NAME);
}

void assert_found(const struct stage *stage, const char *zone, const char *owner) {
  if (stage->answer.error.code) fail_msg("%s", stage->answer.error.message);
  assert_string_equal(stage->answer.zone, zone);
  assert_string_equal(stage->answer.owner, owner);
}

void assert_failed(const struct stage *stage, int code, const char *part) {
  assert_int_equal(stage->answer.error.code, code);
  if (!strstr(stage->answer.error.message, part)) fail_msg("\"%s\" lacks \"%s\"", stage->answer.error.message, part);
  assert_true(stage->answer.error.remedy[0]);
}

bool has_server(const struct stage *stage, const char *host, const char *address) {
  char text[ADDRESS_TEXT_SIZE];
  for (size_t i = 0; i < stage->answer.server_count; i++) {
    const struct zone_server *server = &stage->servers[i];
    if (!text_equal(server->host, host)) continue;
    if (!address && server->address.size == 0) return true;
    if (address && server->address.size > 0 && text_equal(address_format(&server->address, text), address)) return true;
  }
  return false;
}

void delegate_domainkey(struct world *world) {
  world_zone(world, "_domainkey.example.com", 60, 60, "keys.example.com");
  delegate(world, "example.com", "_domainkey.example.com", "keys.example.com", KEYS);
  world_serve(world, KEYS, "_domainkey.example.com");
}
