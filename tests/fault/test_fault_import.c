/* Each call fails once while an import finds what there is, and while it writes down what it judged: all of it is adopted or nothing is. */
#include "../unit/import_rig.h"

#include "fault.h"

/* As a script leaves it, with a key somewhere else, one that no table names, two entries of one key, and a line for other senders. */
static const struct import_scene SCENE = {.domains = "a.test: {}, b.test: {}, c.test: {}",
                                          .key_table = SCRIPT_KEYS "odd b.test:s:/else/where/key.pem\n"
                                                                   "c1 c.test:c:/k/keys/c.test/c.private\nc2 c.test:c:/k/keys/c.test/c.private\n"
                                                                   "c3 c.test:c3:/k/keys/c.test/c3.private\n",
                                          .signing_table = SCRIPT_SIGNING "\n*@b.test odd\n*@c.test c2\nx{2}@c.test c3\n"};
static const char SPARE[] = "- a.test:rspamd:/k/keys/a.test/rspamd.private";

static void scene_open(struct import_rig *rig) {
  import_rig_open(rig, &SCENE);
  import_rig_add_key(rig, 0, 0, SPARE);
}

static void judged_begin(void *context) {
  static const struct store_policy_stamp stamp = {.digest = "x"};
  struct import_rig *rig = context;
  scene_open(rig);
  import_rig_find(rig);
  import_judge(&rig->import);
  assert_int_equal(store_sqlite_open(":memory:", false, &rig->import.session.store, &rig->error), 0);
  struct store *store = rig->import.session.store;
  assert_int_equal(store->ops->sync(store, rig->policy, &stamp, NOW, NULL, &rig->error), 0);
}

static int apply_act(void *context, struct error *error) { return import_apply(&((struct import_rig *)context)->import, error); }

struct adopted {
  size_t active, retired, others, elsewhere;
};

static int count_adopted(void *context, const void *row) {
  struct adopted *adopted = context;
  const struct lineage *lineage = row;
  for (size_t i = 0; i < lineage->key_count; i++) {
    const struct key *key = &lineage->keys[i];
    adopted->active += key->state == KEY_ACTIVE;
    adopted->retired += key->state == KEY_RETIRED;
    adopted->others += key->state != KEY_ACTIVE && key->state != KEY_RETIRED;
    adopted->elsewhere += key->placement_count == 1 && text_equal(key->placements[0].signer->key_directory, "/else/where");
  }
  return 0;
}

static void apply_check(void *context, bool whole) {
  static const struct store_filter all;
  struct import_rig *rig = context;
  struct adopted adopted = {0};
  struct store *store = rig->import.session.store;
  assert_int_equal(store->ops->select(store, STORE_SELECT_LINEAGES, &all, count_adopted, &adopted, &rig->error), 0);
  assert_int_equal(adopted.active, whole ? 3 : 0);
  assert_int_equal(adopted.retired, whole ? 2 : 0);
  assert_int_equal(adopted.elsewhere, whole ? 1 : 0);
  assert_int_equal(adopted.others, 0);
}

static void rig_end(void *context) { import_rig_close(context); }

static void test_fault_import__all_is_adopted_or_nothing(void **state) {
  (void)state;
  struct import_rig rig;
  const struct fault_workload workload = {.name = "import applied", .context = &rig, .begin = judged_begin, .act = apply_act, .check = apply_check, .end = rig_end};
  fault_each(&workload);
}

static void found_begin(void *context) {
  struct import_rig *rig = context;
  scene_open(rig);
  assert_int_equal(table_parse(TABLE_SIGNING_REFILE, "/k/SigningTable", text_duplicate(SCENE.signing_table), strlen(SCENE.signing_table),
                               &rig->import.signers[0].survey.signing, &rig->error),
                   0);
  assert_int_equal(table_parse(TABLE_SIGNING_REFILE, "/o/SigningTable", text_duplicate(""), 0, &rig->import.signers[1].survey.signing, &rig->error), 0);
}

static int find_act(void *context, struct error *error) {
  struct import *import = &((struct import_rig *)context)->import;
  int result = 0;
  import->error = error;
  for (size_t i = 0; i < 2 && !result; i++) result = import_index(&import->signers[i], error);
  if (!result) result = import_find_keys(import, error);
  for (size_t i = 0; i < import->domain_count && !result; i++) result = import_find_signing(import, &import->domains[i], error);
  return result ? result : error->code;
}

/* Whoever was not told of a failure sees every key, and which one signs. */
static void find_check(void *context, bool whole) {
  struct import_rig *rig = context;
  if (!whole) return;
  assert_int_equal(rig->import.key_count, 7);
  assert_string_equal(import_rig_domain(rig, "a.test")->signs->selector, "server-20260101");
  assert_string_equal(import_rig_domain(rig, "b.test")->signs->selector, "s");
  assert_string_equal(import_rig_key(rig, "c.test", "c")->at[0]->name, "c2");
  for (size_t i = 0; i < rig->import.key_count; i++) assert_non_null(rig->import.keys[i].expected);
}

static void test_fault_import__everything_is_found_or_it_is_said_that_not(void **state) {
  (void)state;
  struct import_rig rig;
  const struct fault_workload workload = {
      .name = "import found", .context = &rig, .begin = found_begin, .act = find_act, .check = find_check, .end = rig_end, .once = true};
  fault_each(&workload);
}

/* The newest key was revoked. */
static void seen_begin(void *context) {
  struct import_rig *rig = context;
  scene_open(rig);
  import_rig_find(rig);
  struct import_key *const newest = import_rig_key(rig, "a.test", "server-20260701");
  import_rig_serve(newest, "v=DKIM1; k=ed25519; p=", "v=DKIM1; k=ed25519; p=");
}

static int judge_act(void *context, struct error *error) {
  struct import *import = &((struct import_rig *)context)->import;
  import->error = error;
  import_judge(import);
  return error->code;
}

static void judge_check(void *context, bool whole) {
  struct import_rig *rig = context;
  if (!whole) return;
  expect_fate(rig, "a.test", "server-20260101", IMPORT_ACTIVE);
  expect_fate(rig, "a.test", "server-20260401", IMPORT_RETIRED);
  expect_fate(rig, "a.test", "server-20260701", IMPORT_REVOKED);
  expect_fate(rig, "a.test", "rspamd", IMPORT_RESERVED);
  expect_fate(rig, "b.test", "s", IMPORT_ACTIVE);
  expect_fate(rig, "c.test", "c", IMPORT_ACTIVE);
  expect_left(rig, "c.test", "c3", "which is no sender of c.test in the policy", "write a line for each address");
  for (size_t i = 0; i < rig->import.key_count; i++) assert_false(rig->import.keys[i].alien);
  assert_false(import_rig_domain(rig, "a.test")->signs->replace);
}

static void test_fault_import__no_key_is_judged_by_what_could_not_be_read(void **state) {
  (void)state;
  struct import_rig rig;
  const struct fault_workload workload = {
      .name = "import judged", .context = &rig, .begin = seen_begin, .act = judge_act, .check = judge_check, .end = rig_end, .once = true};
  fault_each(&workload);
}

#define FAULT_TEST(name) cmocka_unit_test_teardown(test_fault_import__##name, fault_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      FAULT_TEST(all_is_adopted_or_nothing),
      FAULT_TEST(everything_is_found_or_it_is_said_that_not),
      FAULT_TEST(no_key_is_judged_by_what_could_not_be_read),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
