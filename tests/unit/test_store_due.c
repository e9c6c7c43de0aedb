/* What is due and what is claimed of it, in which order; requests are due at once. */
#include "store_rig.h"

/* Sets the moments of a, b, c, d. */
static void set_moments(struct store *store, const int64_t moments[4]) {
  static const char *const domains[] = {"a.example", "b.example", "c.example", "d.example"};
  rig_sync(store, "a.example: {}, b.example: {}, c.example: {}, d.example: {}", RIG_NOW);
  for (size_t i = 0; i < 4; i++) {
    CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_domain(store, domains[i]);
    claim.items[0].next_moment = moments[i];
    rig_commit(store, &claim.items[0]);
  }
}

static void assert_claimed(const struct rig_claim *claim, const char *expected) {
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(1024);
  for (size_t i = 0; i < claim->count; i++) buffer_format(&text, "%.1s", claim->items[i].domain);
  assert_string_equal(text.data ? (const char *)text.data : "", expected);
}

static void test_store__the_most_urgent_are_claimed_first(void **state) {
  struct rig *rig = *state;
  set_moments(rig->store, (int64_t[]){30, 10, TIME_NEVER, 20});
  assert_true(rig_next_moment(rig->store) == 10);
  CLEANUP(rig_claim_release) struct rig_claim none = rig_claim_at(rig->store, 9);
  assert_claimed(&none, "");
  CLEANUP(rig_claim_release) struct rig_claim due = rig_claim_at(rig->store, 29);
  assert_claimed(&due, "bd");
  CLEANUP(rig_claim_release) struct rig_claim all = rig_claim_at(rig->store, 30);
  assert_claimed(&all, "bda");
  CLEANUP(rig_claim_release) struct rig_claim one = rig_claim_due(rig->store, &(struct rig_due){.now = 30, .limit = 1});
  assert_claimed(&one, "b");

  const int64_t open[] = {all.items[2].id, all.items[0].id};
  CLEANUP(rig_claim_release) struct rig_claim rest = rig_claim_due(rig->store, &(struct rig_due){.now = 30, .limit = 1, .open = open, .open_count = 2});
  assert_claimed(&rest, "d");
}

static void test_store__a_claim_for_named_domains_takes_these_by_urgency_and_once(void **state) {
  struct rig *rig = *state;
  static const char *const named[] = {"a.example", "d.example", "a.example", "unknown.example", "b.example"};
  set_moments(rig->store, (int64_t[]){30, 10, 5, 20});
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_due(rig->store, &(struct rig_due){.now = 40, .limit = 10, .domains = named, .domain_count = 5});
  assert_claimed(&claim, "bda");
  CLEANUP(rig_claim_release) struct rig_claim first = rig_claim_due(rig->store, &(struct rig_due){.now = 40, .limit = 2, .domains = named, .domain_count = 5});
  assert_claimed(&first, "bd");
}

static void test_store__what_was_forgotten_is_never_due(void **state) {
  struct rig *rig = *state;
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_new(rig->store, "a.example: {}");
  claim.items[0].forgotten = true;
  rig_commit(rig->store, &claim.items[0]);
  assert_true(rig_next_moment(rig->store) == TIME_NEVER);
  CLEANUP(rig_claim_release) struct rig_claim again = rig_claim_all(rig->store);
  assert_int_equal(again.count, 0);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_LINEAGES, NULL), 0);
}

static void test_store__lineages_are_woken_a_few_at_a_time(void **state) {
  struct rig *rig = *state;
  struct store_wake wake = {.limit = 2, .at = RIG_NOW + 5};
  const struct store_commit commit = {.wake = &wake};
  rig_sync(rig->store, "a.example: {}, b.example: {}, c.example: {}", RIG_NOW);
  assert_int_equal(rig_sql(rig->path, "UPDATE lineage SET next_moment = 1900000000 WHERE id <> 2"), SQLITE_OK);
  rig_commit_rows(rig->store, &commit);
  assert_int_equal(wake.last, 2);
  assert_int_equal(rig_number(rig->path, "SELECT next_moment FROM lineage WHERE id = 1"), RIG_NOW + 5);
  assert_int_equal(rig_number(rig->path, "SELECT next_moment FROM lineage WHERE id = 2"), RIG_NOW); /* sooner */
  assert_int_equal(rig_number(rig->path, "SELECT next_moment FROM lineage WHERE id = 3"), 1900000000);
  wake.after = wake.last;
  rig_commit_rows(rig->store, &commit);
  assert_int_equal(wake.last, 3);
  assert_int_equal(rig_number(rig->path, "SELECT next_moment FROM lineage WHERE id = 3"), RIG_NOW + 5);
  wake.after = wake.last;
  rig_commit_rows(rig->store, &commit);
  assert_true(wake.last == STORE_ALL_WOKEN);
}

static int check_request(void *context, const void *row) {
  const struct store_request *request = row;
  const struct store_request *expected = context;
  assert_true(request->id == expected->id && request->kind == expected->kind && request->until == expected->until);
  assert_true(request->asked_at == expected->asked_at);
  assert_string_equal(request->domain, expected->domain);
  assert_string_equal(request->reason, expected->reason);
  assert_string_equal(request->asked_by, expected->asked_by);
  return 0;
}

static void test_store__a_request_is_due_until_it_is_done(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  struct store_request hold = {.kind = REQUEST_HOLD,
                               .domain = (char *)"a.example",
                               .reason = (char *)"audit",
                               .until = TIME_NEVER,
                               .asked_at = RIG_NOW + 9,
                               .asked_by = (char *)"root (pid 1)"};
  struct store_request second = {
      .kind = REQUEST_ROTATE, .domain = (char *)"a.example", .until = TIME_UNSET, .asked_at = 1};
  set_moments(rig->store, (int64_t[]){TIME_NEVER, TIME_NEVER, TIME_NEVER, TIME_NEVER});
  rig_check(rig->store->ops->request(rig->store, &hold, &error), &error);
  assert_true(rig_next_moment(rig->store) <= RIG_NOW); /* although the clock was later when it was asked */
  rig_select(rig->store, STORE_SELECT_REQUESTS, NULL, check_request, &hold);
  const struct store_commit commit = {.requests_done = &hold.id, .request_done_count = 1};
  rig_commit_rows(rig->store, &commit);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_REQUESTS, NULL), 0);
  assert_true(rig_next_moment(rig->store) == TIME_NEVER);
  rig_check(rig->store->ops->request(rig->store, &second, &error), &error);
  assert_true(second.id > hold.id);
}

static void test_store__a_request_for_an_unknown_domain_is_refused(void **state) {
  struct rig *rig = *state;
  struct error error = {0};
  struct store_request request = {.id = 77, .kind = REQUEST_ROTATE, .domain = (char *)"x.example", .asked_at = 1};
  rig_sync(rig->store, "a.example: {}", RIG_NOW);
  assert_int_equal(rig->store->ops->request(rig->store, &request, &error), ERROR_NOT_FOUND);
  assert_non_null(strstr(error.message, "x.example"));
  assert_true(request.id == 77);
  assert_int_equal(rig_count(rig->store, STORE_SELECT_REQUESTS, NULL), 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(test_store__##name, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {
      TEST(the_most_urgent_are_claimed_first),
      TEST(a_claim_for_named_domains_takes_these_by_urgency_and_once),
      TEST(what_was_forgotten_is_never_due),
      TEST(lineages_are_woken_a_few_at_a_time),
      TEST(a_request_is_due_until_it_is_done),
      TEST(a_request_for_an_unknown_domain_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
