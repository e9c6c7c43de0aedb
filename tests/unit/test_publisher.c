/* The RFC 2136 publisher above update runs: where items go, how operations begin and end. Zones come from a finder of this file, which the linker takes
 * instead of the real one. */
#include "fake_primary.h"

#include "dkimroll/publisher.h"
#include "dkimroll/zone.h"
#include "workplace.h"

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

/* What the finder was asked and shall say; reset by setup(). */
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

static void search_over(void *context) {
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

/* --- a loop that runs out of memory --- */

struct short_loop {
  struct loop loop;
  struct loop *inner;
  size_t left; /* so many timers succeed, then one fails, then they succeed again */
  bool failed;
};

static bool runs_out(struct short_loop *loop) {
  if (loop->failed || loop->left-- > 0) return false;
  return loop->failed = true;
}

static void short_now(struct loop *loop, struct clock_reading *ret_reading) {
  loop_now(((struct short_loop *)loop)->inner, ret_reading);
}

static int short_at(struct loop *loop, int64_t boottime, loop_callback *callback, void *context,
                    struct loop_source **ret_source) {
  struct short_loop *self = (struct short_loop *)loop;
  return runs_out(self) ? ERROR_NO_MEMORY : loop_at(self->inner, boottime, callback, context, ret_source);
}

static int short_defer(struct loop *loop, loop_callback *callback, void *context, struct loop_source **ret_source) {
  struct short_loop *self = (struct short_loop *)loop;
  return runs_out(self) ? ERROR_NO_MEMORY : loop_defer(self->inner, callback, context, ret_source);
}

static void short_cancel(struct loop *loop, struct loop_source *source) {
  loop_cancel(((struct short_loop *)loop)->inner, &source);
}

static const struct loop_ops short_ops = {
    .now = short_now, .at = short_at, .defer = short_defer, .cancel = short_cancel};

/* --- the stage --- */

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

static struct stage *stage_new(size_t count, char *server, char *zone) {
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

static void stage_free(struct stage *stage) {
  publisher_destroy(stage->publisher);
  fake_close(&stage->fake);
  free(stage);
}

static void finished(void *context, const struct publish_result *results, size_t count) {
  struct stage *stage = context;
  assert_false(stage->starting); /* never from inside start */
  assert_int_equal(count, stage->count);
  memcpy(stage->results, results, count * sizeof *results);
  stage->operation = NULL;
  stage->done++;
  loop_stop(stage->fake.loop);
}

static int stage_start(struct stage *stage, struct error *error) {
  stage->starting = true;
  int code = publisher_start(stage->publisher, stage->items, stage->count,
                             loop_boottime(stage->fake.loop) + DEADLINE_MS, finished, stage, &stage->operation, error);
  stage->starting = false;
  return code;
}

static void stage_run(struct stage *stage) {
  struct error error = {0};
  assert_int_equal(stage_start(stage, &error), 0);
  assert_int_equal(loop_run(stage->fake.loop, &error), 0);
  assert_int_equal(stage->done, 1);
  stage->done = 0;
  /* Nothing of it is left that could call again. */
  assert_int_equal(loop_run(stage->fake.loop, &error), ERROR_NOT_FOUND);
  assert_int_equal(stage->done, 0);
}

static void assert_success(const struct stage *stage, size_t index, const char *zone, const char *owner,
                           const char *server) {
  const struct publish_result *result = &stage->results[index];
  if (result->error.code != 0) fail_msg("item %zu: %s", index, result->error.message);
  assert_string_equal(result->zone, zone);
  assert_string_equal(result->owner, owner);
  assert_string_equal(result->primary_server, server);
  assert_true(result->completed_at >= FAKE_START_WALL);
  assert_false(result->attested);
}

static void assert_failure(const struct stage *stage, size_t index, int code, const char *text) {
  const struct error *error = &stage->results[index].error;
  if (error->code != code || !strstr(error->message, text))
    fail_msg("item %zu: wanted %s with \"%s\", got %s: %s", index, error_code_name(code), text,
             error_code_name(error->code), error->message);
}

/* --- where items go --- */

static void test_publisher__zone_and_server_are_discovered(void **state) {
  (void)state;
  struct stage *stage = stage_new(ITEMS_MAX, NULL, NULL);
  stage_run(stage);
  for (size_t i = 0; i < ITEMS_MAX; i++) assert_success(stage, i, "example.com", stage->names[i], "192.0.2.1:53");
  assert_int_equal(finder_plan.asked, ITEMS_MAX);
  assert_in_range(finder_plan.open_max, 2, 64);
  stage_free(stage);
}

static void test_publisher__what_the_policy_says_is_not_searched(void **state) {
  (void)state;
  struct stage *stage = stage_new(2, policy_server, policy_zone);
  stage_run(stage);
  assert_success(stage, 1, "example.com", stage->names[1], "192.0.2.9:5300");
  assert_int_equal(finder_plan.asked, 0);
  stage_free(stage);
}

static void test_publisher__what_the_item_says_wins_over_the_policy(void **state) {
  (void)state;
  struct stage *stage = stage_new(1, policy_server, policy_zone);
  stage->items[0].zone = "provider.example";
  stage->items[0].owner = "s0.customer.provider.example";
  stage->items[0].primary_server = "[2001:db8::1]:53";
  stage_run(stage);
  assert_success(stage, 0, "provider.example", "s0.customer.provider.example", "[2001:db8::1]:53");
  assert_int_equal(finder_plan.asked, 0);
  assert_non_null(fake_find(&stage->fake, "s0.customer.provider.example", DNS_TYPE_TXT, "v=DKIM1; p=A"));
  stage_free(stage);
}

static void test_publisher__the_policys_server_wins_over_the_mname(void **state) {
  (void)state;
  struct stage *stage = stage_new(1, policy_server, NULL);
  finder_plan.no_primary = true;
  stage_run(stage);
  assert_success(stage, 0, "example.com", stage->names[0], "192.0.2.9:5300");
  assert_int_equal(finder_plan.asked, 1);
  stage_free(stage);
}

static void test_publisher__a_known_zone_is_told_to_the_finder(void **state) {
  (void)state;
  struct stage *stage = stage_new(1, NULL, policy_zone);
  stage_run(stage);
  assert_success(stage, 0, "example.com", stage->names[0], "192.0.2.1:53");
  assert_string_equal(finder_plan.known_zone, "example.com");
  stage_free(stage);
}

static void test_publisher__a_record_behind_an_alias_goes_where_it_lives(void **state) {
  (void)state;
  struct stage *stage = stage_new(1, NULL, NULL);
  finder_plan.owner = "s0.customer.provider.example";
  finder_plan.zone = "provider.example";
  stage_run(stage);
  assert_success(stage, 0, "provider.example", "s0.customer.provider.example", "192.0.2.1:53");
  stage_free(stage);
}

/* The policy's zone is the provider's, the customer's name leads there by an alias. */
static void test_publisher__a_name_outside_the_policys_zone_is_searched(void **state) {
  (void)state;
  static char provider[] = "provider.example";
  struct stage *stage = stage_new(1, policy_server, provider);
  finder_plan.owner = "s0.customer.provider.example";
  finder_plan.zone = "provider.example";
  stage_run(stage);
  assert_string_equal(finder_plan.known_zone, "");
  assert_success(stage, 0, "provider.example", "s0.customer.provider.example", "192.0.2.9:5300");
  stage_free(stage);
}

static void test_publisher__a_name_outside_its_own_zone_is_an_error(void **state) {
  (void)state;
  struct stage *stage = stage_new(2, policy_server, NULL);
  stage->items[0].zone = "example.org";
  stage_run(stage);
  assert_failure(stage, 0, ERROR_NOT_FOUND, "does not lie in the zone example.org");
  assert_success(stage, 1, "example.com", stage->names[1], "192.0.2.9:5300");
  stage_free(stage);
}

static void test_publisher__no_zone_is_told(void **state) {
  (void)state;
  struct stage *stage = stage_new(3, NULL, NULL);
  finder_plan.no_zone = true;
  stage_run(stage);
  for (size_t i = 0; i < 3; i++) assert_failure(stage, i, ERROR_NOT_FOUND, "no zone above s");
  stage_free(stage);
}

static void test_publisher__a_primary_without_address_is_told(void **state) {
  (void)state;
  struct stage *stage = stage_new(1, NULL, NULL);
  finder_plan.no_primary = true;
  stage_run(stage);
  assert_failure(stage, 0, ERROR_NOT_FOUND, "ns1.example.com has no address");
  stage_free(stage);
}

static void test_publisher__a_server_that_is_no_address_is_told(void **state) {
  (void)state;
  struct stage *stage = stage_new(2, policy_server, policy_zone);
  stage->items[0].primary_server = "ns1.example.com";
  stage_run(stage);
  assert_failure(stage, 0, ERROR_INVALID, "ns1.example.com");
  assert_success(stage, 1, "example.com", stage->names[1], "192.0.2.9:5300");
  stage_free(stage);
}

/* --- begin and end --- */

static void test_publisher__no_items_are_done_at_once_but_later(void **state) {
  (void)state;
  struct stage *stage = stage_new(0, policy_server, policy_zone);
  stage_run(stage);
  stage_free(stage);
}

static void test_publisher__changes_without_their_records_are_refused(void **state) {
  (void)state;
  static const struct publish_item wrong[] = {
      {.change = PUBLISH_ADD, .name = "s._domainkey.example.com"},
      {.change = PUBLISH_ADD, .name = "s._domainkey.example.com", .record = "a", .record_before = "b"},
      {.change = PUBLISH_REPLACE, .name = "s._domainkey.example.com", .record = "a"},
      {.change = PUBLISH_DELETE, .name = "s._domainkey.example.com", .record = "a", .record_before = "b"},
      {.change = PUBLISH_ADD, .record = "a"},
      {.name = "s._domainkey.example.com", .record = "a", .record_before = "b"},
  };
  struct stage *stage = stage_new(1, policy_server, policy_zone);
  for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
    struct error error = {0};
    stage->items[0] = wrong[i];
    assert_int_equal(stage_start(stage, &error), ERROR_INVALID);
    assert_null(stage->operation);
  }
  stage_free(stage);
}

static void test_publisher__too_many_items_are_refused(void **state) {
  (void)state;
  struct stage *stage = stage_new(0, policy_server, policy_zone);
  CLEANUP_FREE struct publish_item *items = calloc(PUBLISH_ITEMS_MAX + 1, sizeof *items);
  struct error error = {0};
  assert_int_equal(
      publisher_start(stage->publisher, items, PUBLISH_ITEMS_MAX + 1, 1, finished, stage, &stage->operation, &error),
      ERROR_LIMIT);
  stage_free(stage);
}

static int lose_all(struct fake_primary *fake, const struct transport_request *request, const struct message *message) {
  (void)fake, (void)request, (void)message;
  return FAKE_LOSE_REQUEST;
}

static void test_publisher__the_deadline_ends_every_item(void **state) {
  (void)state;
  struct stage *stage = stage_new(80, NULL, NULL);
  finder_plan.silent = true;
  stage_run(stage);
  assert_int_equal(loop_boottime(stage->fake.loop), FAKE_START_BOOT + DEADLINE_MS);
  for (size_t i = 0; i < stage->count; i++) assert_failure(stage, i, ERROR_TIMEOUT, "its zone was not found in time");
  stage_free(stage);
  stage = stage_new(80, policy_server, policy_zone);
  stage->fake.decide = lose_all;
  stage_run(stage);
  for (size_t i = 0; i < stage->count; i++) assert_failure(stage, i, ERROR_TIMEOUT, "192.0.2.9:5300");
  stage_free(stage);
}

static void test_publisher__a_deadline_in_the_past_still_answers(void **state) {
  (void)state;
  struct stage *stage = stage_new(2, policy_server, policy_zone);
  struct error error = {0};
  assert_int_equal(
      publisher_start(stage->publisher, stage->items, stage->count, 1, finished, stage, &stage->operation, &error), 0);
  assert_int_equal(loop_run(stage->fake.loop, &error), 0);
  assert_int_equal(stage->done, 1);
  assert_int_equal(stage->results[0].error.code, ERROR_TIMEOUT);
  stage_free(stage);
}

static void stop(void *context) {
  loop_stop(((struct stage *)context)->fake.loop);
}

/* At every moment of an operation: cancelled, it never calls back; so with the publisher destroyed under it. */
static void test_publisher__an_operation_can_be_cancelled_at_any_moment(void **state) {
  (void)state;
  for (int64_t moment = 0; moment < 80; moment++) {
    struct stage *stage = stage_new(60, NULL, NULL);
    struct error error = {0};
    assert_int_equal(loop_at(stage->fake.loop, FAKE_START_BOOT + moment, stop, stage, NULL), 0);
    assert_int_equal(stage_start(stage, &error), 0);
    assert_int_equal(loop_run(stage->fake.loop, &error), 0);
    size_t done = stage->done;
    if (moment % 2) {
      publisher_cancel(stage->publisher, &stage->operation);
      assert_null(stage->operation);
    } else {
      publisher_destroy(TAKE_PTR(stage->publisher));
    }
    while (loop_run(stage->fake.loop, &error) == 0) {
    }
    assert_int_equal(stage->done, done);
    stage_free(stage);
  }
}

static int busy_server(struct fake_primary *fake, const struct transport_request *request,
                       const struct message *message) {
  (void)request;
  return entropy_below(&fake->random.entropy, 4) == 0 && message->opcode == 0 ? DNS_SERVFAIL : FAKE_OBEY;
}

/* Whichever timer cannot be made: start says so, or done comes once, at the latest at the deadline. */
static void test_publisher__running_out_of_timers_ends_in_time(void **state) {
  (void)state;
  size_t refused = 0, incomplete = 0;
  for (size_t n = 0; n < 40; n++) {
    struct stage *stage = stage_new(30, policy_server, policy_zone);
    struct short_loop loop = {.loop = {.ops = &short_ops}, .inner = stage->fake.loop, .left = n};
    struct error error = {0};
    publisher_destroy(TAKE_PTR(stage->publisher));
    assert_int_equal(publisher_rfc2136_new(&loop.loop, &stage->fake.transport, &stage->fake.random.entropy,
                                           &stage->policy, &stage->publisher, &error),
                     0);
    stage->fake.decide = busy_server;
    if (stage_start(stage, &error) < 0) {
      refused++;
    } else {
      assert_int_equal(loop_run(stage->fake.loop, &error), 0);
      assert_int_equal(stage->done, 1);
      assert_true(loop_boottime(stage->fake.loop) <= FAKE_START_BOOT + DEADLINE_MS);
      for (size_t i = 0; i < stage->count; i++) {
        incomplete += stage->results[i].error.code != 0;
        assert_true(stage->results[i].error.code != 0 || fake_count(&stage->fake, stage->names[i], DNS_TYPE_TXT) == 1);
      }
    }
    stage_free(stage);
  }
  assert_int_equal(refused, 2);
  assert_true(incomplete > 0);
}

static void test_publisher__operations_run_side_by_side(void **state) {
  (void)state;
  struct stage *stage = stage_new(50, policy_server, policy_zone);
  struct error error = {0};
  assert_int_equal(stage_start(stage, &error), 0);
  assert_int_equal(stage_start(stage, &error), 0);
  while (stage->done < 2) assert_int_equal(loop_run(stage->fake.loop, &error), 0);
  for (size_t i = 0; i < stage->count; i++) {
    assert_success(stage, i, "example.com", stage->names[i], "192.0.2.9:5300");
    assert_int_equal(fake_count(&stage->fake, stage->names[i], DNS_TYPE_TXT), 1);
  }
  stage_free(stage);
}

static void test_publisher__a_tsig_file_that_others_can_read_is_refused(void **state) {
  (void)state;
  struct stage *stage = stage_new(0, policy_server, policy_zone);
  struct workplace folder;
  struct publisher *publisher = NULL;
  struct error error = {0};
  workplace_make(&folder, "/tmp");
  CLEANUP_FREE char *path = workplace_path(&folder, "key");
  workplace_write(path, "hmac-sha256:dkimroll:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", 0644);
  stage->policy.tsig_file = path;
  assert_int_equal(publisher_rfc2136_new(stage->fake.loop, &stage->fake.transport, &stage->fake.random.entropy,
                                         &stage->policy, &publisher, &error),
                   ERROR_PERMISSION);
  assert_non_null(strstr(error.message, path));
  assert_null(publisher);
  workplace_remove(&folder);
  stage_free(stage);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_publisher__zone_and_server_are_discovered),
      cmocka_unit_test(test_publisher__what_the_policy_says_is_not_searched),
      cmocka_unit_test(test_publisher__what_the_item_says_wins_over_the_policy),
      cmocka_unit_test(test_publisher__the_policys_server_wins_over_the_mname),
      cmocka_unit_test(test_publisher__a_known_zone_is_told_to_the_finder),
      cmocka_unit_test(test_publisher__a_record_behind_an_alias_goes_where_it_lives),
      cmocka_unit_test(test_publisher__a_name_outside_the_policys_zone_is_searched),
      cmocka_unit_test(test_publisher__a_name_outside_its_own_zone_is_an_error),
      cmocka_unit_test(test_publisher__no_zone_is_told),
      cmocka_unit_test(test_publisher__a_primary_without_address_is_told),
      cmocka_unit_test(test_publisher__a_server_that_is_no_address_is_told),
      cmocka_unit_test(test_publisher__no_items_are_done_at_once_but_later),
      cmocka_unit_test(test_publisher__changes_without_their_records_are_refused),
      cmocka_unit_test(test_publisher__too_many_items_are_refused),
      cmocka_unit_test(test_publisher__the_deadline_ends_every_item),
      cmocka_unit_test(test_publisher__a_deadline_in_the_past_still_answers),
      cmocka_unit_test(test_publisher__an_operation_can_be_cancelled_at_any_moment),
      cmocka_unit_test(test_publisher__running_out_of_timers_ends_in_time),
      cmocka_unit_test(test_publisher__operations_run_side_by_side),
      cmocka_unit_test(test_publisher__a_tsig_file_that_others_can_read_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
