/* A publisher of RFC 2136 over a primary server behind a fake transport. Zones come from a finder of this file, which the linker takes instead of the real one; which is
 * why it is a header: among the helpers, every test that asks for the real finder would get this one. */
#ifndef DKIMROLL_TESTS_PUBLISHER_STAGE_H
#define DKIMROLL_TESTS_PUBLISHER_STAGE_H

#include "fake_primary.h"

#include "dkimroll/publisher.h"
#include "dkimroll/zone.h"

enum { ITEMS_MAX = 100, DEADLINE_MS = 30000, FIND_MS = 10 };

/* --- the finder --- */

struct zone_search {
  struct zone_finder *finder;
  char name[DNS_NAME_TEXT_SIZE];
  zone_done *done;
  void *context;
  struct loop_source *timer;
};

struct zone_finder {
  struct loop *loop;
  size_t open;
};

/* What the finder was asked and shall say; reset by stage_new(). */
static struct {
  size_t asked, open_max;
  char known_zone[DNS_NAME_TEXT_SIZE];
  bool silent;       /* never answers */
  bool no_zone;      /* ERROR_NOT_FOUND */
  bool no_primary;   /* primary_address unknown */
  const char *owner; /* behind an alias */
  const char *zone;  /* NULL: what stands above _domainkey */
} finder_plan;

int zone_finder_new(struct loop *loop, struct transport *transport, struct entropy *entropy,
                    struct zone_finder **ret_finder, struct error *error) {
  (void)transport, (void)entropy, (void)error;
  *ret_finder = calloc(1, sizeof **ret_finder);
  assert_non_null(*ret_finder);
  (*ret_finder)->loop = loop;
  return 0;
}

void zone_finder_free(struct zone_finder *finder) {
  if (finder) assert_int_equal(finder->open, 0);
  free(finder);
}

static inline void search_over(void *context) {
  CLEANUP_FREE struct zone_search *search = context;
  struct zone_answer answer = {.ttl_negative = 60};
  const char *domain = strstr(search->name, "_domainkey.");
  search->finder->open--;
  text_copy(answer.owner, sizeof answer.owner, finder_plan.owner ? finder_plan.owner : search->name);
  text_copy(answer.zone, sizeof answer.zone,
            finder_plan.zone ? finder_plan.zone
            : domain         ? domain + strlen("_domainkey.")
                             : "example.com");
  address_from_octets((const uint8_t[]){192, 0, 2, 1}, 4, 53, &answer.primary_address);
  if (finder_plan.no_primary) {
    answer.primary_address.size = 0;
    error_set(&answer.primary_error, ERROR_NOT_FOUND, "ns1.example.com has no address");
  }
  if (finder_plan.no_zone) error_set(&answer.error, ERROR_NOT_FOUND, "no zone above %s", search->name);
  search->done(search->context, &answer);
}

int zone_find(struct zone_finder *finder, const char *name, const char *known_zone,
              const struct policy_publisher *publisher, int64_t deadline, zone_done *done, void *context,
              struct zone_search **ret_search, struct error *error) {
  (void)publisher, (void)deadline, (void)error;
  struct zone_search *search = calloc(1, sizeof *search);
  assert_non_null(search);
  *search = (struct zone_search){.finder = finder, .done = done, .context = context};
  text_copy(search->name, sizeof search->name, name);
  text_copy(finder_plan.known_zone, sizeof finder_plan.known_zone, known_zone ? known_zone : "");
  finder_plan.asked++;
  if (++finder->open > finder_plan.open_max) finder_plan.open_max = finder->open;
  if (!finder_plan.silent)
    assert_int_equal(loop_at(finder->loop, loop_boottime(finder->loop) + FIND_MS, search_over, search, &search->timer),
                     0);
  *ret_search = search;
  return 0;
}

void zone_cancel(struct zone_finder *finder, struct zone_search **search) {
  if (!*search) return;
  finder->open--;
  loop_cancel(finder->loop, &(*search)->timer);
  free(*search);
  *search = NULL;
}

struct stage {
  struct fake_primary fake;
  struct policy_publisher policy;
  struct publisher *publisher;
  struct publish_operation *operation;
  struct publish_item items[ITEMS_MAX];
  char names[ITEMS_MAX][96];
  struct publish_result results[ITEMS_MAX];
  size_t count, done;
  bool starting;
};

static char policy_name[] = "primary", policy_server[] = "192.0.2.9:5300", policy_zone[] = "example.com";

static inline struct stage *stage_new(size_t count, char *server, char *zone) {
  struct stage *stage = calloc(1, sizeof *stage);
  struct error error = {0};
  assert_non_null(stage);
  memset(&finder_plan, 0, sizeof finder_plan);
  fake_open(&stage->fake, 7);
  stage->policy =
      (struct policy_publisher){.name = policy_name, .type = PUBLISHER_RFC2136, .server = server, .zone = zone};
  stage->count = count;
  for (size_t i = 0; i < count; i++) {
    snprintf(stage->names[i], sizeof stage->names[i], "s%zu._domainkey.example.com", i);
    stage->items[i] =
        (struct publish_item){.change = PUBLISH_ADD, .name = stage->names[i], .record = "v=DKIM1; p=A", .ttl = 60};
  }
  assert_int_equal(publisher_rfc2136_new(stage->fake.loop, &stage->fake.transport, &stage->fake.random.entropy,
                                         &stage->policy, &stage->publisher, &error),
                   0);
  return stage;
}

static inline void stage_free(struct stage *stage) {
  publisher_destroy(stage->publisher);
  fake_close(&stage->fake);
  free(stage);
}

static inline void finished(void *context, const struct publish_result *results, size_t count) {
  struct stage *stage = context;
  assert_false(stage->starting); /* never from inside start */
  assert_int_equal(count, stage->count);
  memcpy(stage->results, results, count * sizeof *results);
  stage->operation = NULL;
  stage->done++;
  loop_stop(stage->fake.loop);
}

static inline int stage_start(struct stage *stage, struct error *error) {
  stage->starting = true;
  int code = publisher_start(stage->publisher, stage->items, stage->count,
                             loop_boottime(stage->fake.loop) + DEADLINE_MS, finished, stage, &stage->operation, error);
  stage->starting = false;
  return code;
}

static inline void stage_run(struct stage *stage) {
  struct error error = {0};
  assert_int_equal(stage_start(stage, &error), 0);
  assert_int_equal(loop_run(stage->fake.loop, &error), 0);
  assert_int_equal(stage->done, 1);
  stage->done = 0;
  /* Nothing of it is left that could call again. */
  assert_int_equal(loop_run(stage->fake.loop, &error), ERROR_NOT_FOUND);
  assert_int_equal(stage->done, 0);
}

static inline void assert_success(const struct stage *stage, size_t index, const char *zone, const char *owner,
                           const char *server) {
  const struct publish_result *result = &stage->results[index];
  if (result->error.code != 0) fail_msg("item %zu: %s", index, result->error.message);
  assert_string_equal(result->zone, zone);
  assert_string_equal(result->owner, owner);
  assert_string_equal(result->primary_server, server);
  assert_true(result->completed_at >= FAKE_START_WALL);
  assert_false(result->attested);
}

static inline void assert_failure(const struct stage *stage, size_t index, int code, const char *text) {
  const struct error *error = &stage->results[index].error;
  if (error->code != code || !strstr(error->message, text))
    fail_msg("item %zu: wanted %s with \"%s\", got %s: %s", index, error_code_name(code), text,
             error_code_name(error->code), error->message);
}

#endif
