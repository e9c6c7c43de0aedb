/* Each call under the store fails once: memory, statements, files. What was committed is there whole, nothing else is, and the same store goes on. */
#include "../unit/store_rig.h"

#include <unistd.h>

#include "fault.h"

#define THREE "a.example: {}, b.example: {policy: two, signers: [local, other]}, c.example: {publisher: second}"

struct desk {
  struct rig rig;
  struct policy *policy;
  size_t lineages, events; /* before the attempt */
  int64_t number;
};

static void desk_begin(void *context) {
  struct desk *desk = context;
  workplace_make(&desk->rig.place, "/tmp");
  desk->rig.path = workplace_path(&desk->rig.place, "lib/state.db");
  desk->policy = rig_policy(THREE);
}

static void desk_end(void *context) {
  struct desk *desk = context;
  store_close(desk->rig.store);
  desk->rig.store = NULL;
  workplace_remove(&desk->rig.place);
  free(desk->rig.path);
  policy_free(desk->policy);
  desk->policy = NULL;
}

static int desk_sync(struct desk *desk, struct store *store, const char *digest, struct error *error) {
  struct store_file_stamp file = {.path = (char *)"/etc/dkimroll/policy.yaml", .size = 1};
  struct store_policy_stamp stamp = {.files = &file, .file_count = 1};
  struct store_sync_report report = {0};
  text_copy(stamp.digest, sizeof stamp.digest, digest);
  return store->ops->sync(store, desk->policy, &stamp, RIG_NOW, &report, error);
}

static void assert_integrity(const struct desk *desk) {
  assert_int_equal(rig_number(desk->rig.path, "SELECT (SELECT integrity_check FROM pragma_integrity_check) = 'ok'"), 1);
  assert_int_equal(rig_number(desk->rig.path, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
}

/* ---- a store that is made ---- */

static int make_act(void *context, struct error *error) {
  struct desk *desk = context;
  struct store *store = NULL;
  int code = store_sqlite_open(desk->rig.path, false, &store, error);
  if (code == 0) code = store->ops->lease(store, "test", RIG_NOW, error);
  if (code == 0) code = desk_sync(desk, store, "digest", error);
  store_close(store);
  return code;
}

static void make_check(void *context, bool whole) {
  struct desk *desk = context;
  struct store *store = NULL;
  struct error error = {0};
  if (!whole) {
    /* A reader finds a store, or is told that nothing has run yet, or that its tables are not all there yet (ERROR_CONFIG: between two steps of the schema). */
    const int code = store_sqlite_open(desk->rig.path, true, &store, &error);
    if (code && code != ERROR_NOT_FOUND && code != ERROR_CONFLICT && code != ERROR_CONFIG) fail_msg("%s", error.message);
    if (!code) assert_true(rig_count(store, STORE_SELECT_LINEAGES, NULL) % 4 == 0);
    store_close(store);
    return;
  }
  store = rig_open(desk->rig.path, true);
  assert_int_equal(rig_count(store, STORE_SELECT_LINEAGES, NULL), 4);
  store_close(store);
  assert_integrity(desk);
}

static void test_fault_store__a_store_is_made_at_the_next_attempt(void **state) {
  (void)state;
  struct desk desk = {0};
  const struct fault_workload workload = {
      .name = "store made", .context = &desk, .begin = desk_begin, .act = make_act, .check = make_check, .end = desk_end};
  fault_each(&workload);
}

/* ---- work ---- */

static void work_begin(void *context) {
  struct desk *desk = context;
  struct error error = {0};
  desk_begin(desk);
  desk->rig.store = rig_open(desk->rig.path, false);
  rig_check(desk_sync(desk, desk->rig.store, "digest", &error), &error);
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(desk->rig.store);
  for (size_t i = 0; i < claim.count; i++) {
    struct key *key = rig_add_key(&claim.items[i], claim.items[i].slot, KEY_PUBLISHED);
    key->record = text_duplicate("v=DKIM1; k=ed25519; p=AAAA");
    key->sightings = calloc(1, sizeof *key->sightings);
    key->sighting_count = 1;
    text_copy(key->sightings[0].host, sizeof key->sightings[0].host, "ns1.example");
    rig_commit(desk->rig.store, &claim.items[i]);
  }
  desk->events = rig_count(desk->rig.store, STORE_SELECT_EVENTS, NULL);
  desk->number = 0;
}

/* One turn: all lineages, an event each, the clock, a request done, a resource. */
static int commit_act(void *context, struct error *error) {
  struct desk *desk = context;
  struct store *store = desk->rig.store;
  struct lineage *lineages[8];
  struct event events[8];
  CLEANUP(rig_claim_release) struct rig_claim claim = {0};
  int code = store->ops->claim(store, TIME_NEVER, STORE_CLAIM_MAX, NULL, 0, NULL, 0, &claim.items, &claim.count, error);
  if (code) return code;
  assert_int_equal(claim.count, 4);
  for (size_t i = 0; i < claim.count; i++) {
    lineages[i] = &claim.items[i];
    lineages[i]->failures++;
    lineages[i]->keys[0].sightings[0].count++;
    events[i] = (struct event){.at = RIG_NOW, .lineage_id = lineages[i]->id, .domain = lineages[i]->domain, .kind = (char *)"count"};
  }
  const struct store_clock clock = {.boot_id = "boot", .wall = RIG_NOW};
  const struct store_resource resource = {.name = (char *)"dns 192.0.2.53:53", .failures = 1};
  const struct store_commit commit = {.lineages = lineages,
                                      .lineage_count = claim.count,
                                      .events = events,
                                      .event_count = claim.count,
                                      .clock = &clock,
                                      .resources = &resource,
                                      .resource_count = 1};
  return store->ops->commit(store, &commit, error);
}

/* All of it or nothing of it. */
static void commit_check(void *context, bool whole) {
  struct desk *desk = context;
  CLEANUP(rig_claim_release) struct rig_claim claim = rig_claim_all(desk->rig.store);
  assert_int_equal(claim.count, 4);
  const unsigned number = claim.items[0].failures;
  for (size_t i = 0; i < claim.count; i++) {
    assert_int_equal(claim.items[i].failures, number);
    assert_int_equal(claim.items[i].key_count, 1);
    assert_int_equal(claim.items[i].keys[0].sightings[0].count, number);
    assert_string_equal(claim.items[i].keys[0].record, "v=DKIM1; k=ed25519; p=AAAA");
  }
  assert_int_equal(rig_count(desk->rig.store, STORE_SELECT_EVENTS, NULL), desk->events + 4 * number);
  if (whole) assert_int_equal(number, desk->number + 1);
  desk->number = number;
  if (whole) assert_integrity(desk);
}

static void test_fault_store__a_commit_is_whole_or_not_at_all(void **state) {
  (void)state;
  struct desk desk = {0};
  const struct fault_workload workload = {
      .name = "commit", .context = &desk, .begin = work_begin, .act = commit_act, .check = commit_check, .end = desk_end};
  fault_each(&workload);
}

static int sync_act(void *context, struct error *error) {
  struct desk *desk = context;
  return desk_sync(desk, desk->rig.store, "other digest", error);
}

static void sync_begin(void *context) {
  struct desk *desk = context;
  work_begin(desk);
  policy_free(desk->policy);
  desk->policy = rig_policy("a.example: {policy: two}, c.example: {publisher: second}, d.example: {signers: [other]}");
  desk->lineages = rig_count(desk->rig.store, STORE_SELECT_LINEAGES, NULL);
}

static void sync_check(void *context, bool whole) {
  struct desk *desk = context;
  const size_t lineages = rig_count(desk->rig.store, STORE_SELECT_LINEAGES, NULL);
  const int64_t unmanaged = rig_number(desk->rig.path, "SELECT count(*) FROM lineage WHERE managed = 0");
  const int64_t digests = rig_number(desk->rig.path, "SELECT count(*) FROM meta WHERE value = 'other digest'");
  /* a.example has a second slot, d.example is new; both slots of b.example are unmanaged. */
  if (lineages == desk->lineages && !whole) {
    assert_int_equal(unmanaged, 0);
    assert_int_equal(digests, 0);
    return;
  }
  assert_int_equal(lineages, desk->lineages + 2);
  assert_int_equal(unmanaged, 2);
  assert_int_equal(digests, 1);
  assert_integrity(desk);
}

static void test_fault_store__a_policy_is_compiled_whole_or_not_at_all(void **state) {
  (void)state;
  struct desk desk = {0};
  const struct fault_workload workload = {
      .name = "sync", .context = &desk, .begin = sync_begin, .act = sync_act, .check = sync_check, .end = desk_end};
  fault_each(&workload);
}

static int request_act(void *context, struct error *error) {
  struct desk *desk = context;
  struct store_request request = {.kind = REQUEST_HOLD,
                                  .domain = (char *)"a.example",
                                  .reason = (char *)"holiday",
                                  .until = TIME_NEVER,
                                  .asked_at = RIG_NOW,
                                  .asked_by = (char *)"root"};
  return desk->rig.store->ops->request(desk->rig.store, &request, error);
}

static void request_check(void *context, bool whole) {
  struct desk *desk = context;
  const size_t count = rig_count(desk->rig.store, STORE_SELECT_REQUESTS, NULL);
  assert_true(count <= 1 || !whole || count == 2);
  if (whole) assert_true(count > 0);
}

static void test_fault_store__a_wish_is_written_down_or_refused(void **state) {
  (void)state;
  struct desk desk = {0};
  const struct fault_workload workload = {
      .name = "request", .context = &desk, .begin = work_begin, .act = request_act, .check = request_check, .end = desk_end, .place = "store "};
  fault_each(&workload);
}

/* ---- reading ---- */

/* Counts rows and the octets of what they hold, so that a text that was lost shows. */
struct sum {
  size_t rows, octets;
};

static size_t length_of(const char *text) { return text ? strlen(text) : 0; }

static int sum_lineage(void *context, const void *row) {
  struct sum *sum = context;
  const struct lineage *lineage = row;
  sum->rows++;
  sum->octets += length_of(lineage->domain) + length_of(lineage->slot) + length_of(lineage->failure) + lineage->signer_count;
  for (size_t i = 0; i < lineage->key_count; i++)
    sum->octets += length_of(lineage->keys[i].record) + length_of(lineage->keys[i].sightings[0].host) + length_of(lineage->keys[i].selector);
  return 0;
}

static int sum_event(void *context, const void *row) {
  struct sum *sum = context;
  const struct event *event = row;
  sum->rows++;
  sum->octets += length_of(event->domain) + length_of(event->slot) + length_of(event->kind) + length_of(event->reason);
  return 0;
}

static int sum_request(void *context, const void *row) {
  struct sum *sum = context;
  const struct store_request *request = row;
  sum->rows++;
  sum->octets += length_of(request->domain) + length_of(request->reason) + length_of(request->asked_by);
  return 0;
}

static int sum_text(void *context, const void *row) {
  struct sum *sum = context;
  sum->rows++;
  sum->octets += length_of(row);
  return 0;
}

static int read_all(struct store *store, struct sum *sum, struct error *error) {
  const struct store_filter all = {0}, a = {.domain = "a.example"};
  struct store_policy_stamp stamp = {0};
  struct store_clock clock;
  int64_t next;
  int code = store->ops->select(store, STORE_SELECT_LINEAGES, &all, sum_lineage, sum, error);
  if (code == 0) code = store->ops->select(store, STORE_SELECT_EVENTS, &all, sum_event, sum, error);
  if (code == 0) code = store->ops->select(store, STORE_SELECT_REQUESTS, &all, sum_request, sum, error);
  if (code == 0) code = store->ops->select(store, STORE_SELECT_SELECTORS, &a, sum_text, sum, error);
  if (code == 0) code = store->ops->next_moment(store, &next, &stamp, &clock, error);
  for (size_t i = 0; i < stamp.file_count && code == 0; i++) sum->octets += length_of(stamp.files[i].path) + length_of(stamp.digest);
  store_policy_stamp_release(&stamp);
  return code;
}

static int read_act(void *context, struct error *error) {
  struct desk *desk = context;
  struct store *store = NULL;
  struct sum sum = {0};
  int code = store_sqlite_open(desk->rig.path, true, &store, error);
  if (code == 0) code = read_all(store, &sum, error);
  store_close(store);
  if (code) return code;
  /* A read that succeeds has read everything: the sum of the first, which no fault disturbed, is that of all. */
  if (desk->number == 0) desk->number = (int64_t)(sum.rows * 1000000 + sum.octets);
  assert_int_equal(desk->number, sum.rows * 1000000 + sum.octets);
  return 0;
}

static void read_begin(void *context) {
  struct desk *desk = context;
  struct error error = {0};
  const int64_t known = desk->number;
  work_begin(desk);
  rig_check(request_act(desk, &error), &error);
  desk->number = known;
}

static void test_fault_store__what_is_read_is_whole_or_an_error(void **state) {
  (void)state;
  struct desk desk = {0};
  const struct fault_workload workload = {.name = "reading", .context = &desk, .begin = read_begin, .act = read_act, .end = desk_end};
  fault_each(&workload);
}

#define FAULT_TEST(name) cmocka_unit_test_teardown(test_fault_store__##name, fault_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      FAULT_TEST(a_store_is_made_at_the_next_attempt),
      FAULT_TEST(a_commit_is_whole_or_not_at_all),
      FAULT_TEST(a_policy_is_compiled_whole_or_not_at_all),
      FAULT_TEST(a_wish_is_written_down_or_refused),
      FAULT_TEST(what_is_read_is_whole_or_an_error),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
