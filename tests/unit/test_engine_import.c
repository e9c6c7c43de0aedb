/* Adopted keys in the engine: they are replaced like any other, and a key file that others use stays until nobody does. */
#include "engine_world.h"

#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/keypair.h"
#include "dkimroll/record.h"
#include "dkimroll/survey.h"
#include "dkimroll/text.h"

#define RECORD "v=DKIM1; h=sha256; k=rsa; n=by hand; p=AAAA"

static int copy_row(void *context, const void *row) {
  struct error error = {0};
  return lineage_copy(row, context, &error);
}

struct found {
  const char *domain, *selector, *path, *key_name;
  const char *record; /* NULL: RECORD */
  enum key_state state;
  bool unserved, good; /* good: no successor is asked for */
};

/* As import writes it. A key that signs does so in the world, too. */
static void adopt(struct world *world, const struct found *found) {
  struct error error = {0};
  struct lineage lineage = {0};
  struct event_list events = {0};
  const struct store_filter filter = {.domain = found->domain};
  assert_int_equal(world->store->ops->select(world->store, STORE_SELECT_LINEAGES, &filter, copy_row, &lineage, &error), 0);
  struct policy_signer version = *lineage.signers[0];
  if (found->key_name) version.key_name = (char *)(uintptr_t)found->key_name;
  const struct adoption_place place = {.signer_id = found->key_name ? 0 : lineage.signer_ids[0],
                                       .signer = found->key_name ? &version : lineage.signers[0],
                                       .key_path = found->path,
                                       .named = found->state == KEY_ACTIVE,
                                       .signs = found->state == KEY_ACTIVE};
  const struct sighting_report sighting = {
      .host = "ns1", .address = "192.0.2.1:53", .right = true, .at = WORLD_NOW, .ttl = 3600, .ttl_negative = -1, .answer = "it"};
  const struct adoption adoption = {.selector = found->selector,
                                    .algorithm = KEY_ALGORITHM_RSA,
                                    .bits = 1024,
                                    .state = found->state,
                                    .record = found->record ? found->record : RECORD,
                                    .unserved = found->unserved,
                                    .replace = found->state == KEY_ACTIVE && !found->good,
                                    .since = WORLD_NOW - WORLD_DAY,
                                    .ttl = 3600,
                                    .ttl_negative = WORLD_NEGATIVE_TTL,
                                    .places = &place,
                                    .place_count = 1,
                                    .sightings = &sighting,
                                    .sighting_count = 1,
                                    .reason = "found"};
  if (lifecycle_adopt(&lineage, &adoption, WORLD_NOW, &events, &error)) fail_msg("%s", error.message);
  struct lineage *const rows[] = {&lineage};
  const struct store_commit commit = {.lineages = rows, .lineage_count = 1, .events = events.items, .event_count = events.count};
  if (world->store->ops->commit(world->store, &commit, &error)) fail_msg("%s", error.message);
  event_list_release(&events);
  lineage_release(&lineage);
}

static void play_record(struct world *world, const char *domain, const char *selector, const char *text) {
  CLEANUP_FREE char *name = text_format("%s._domainkey.%s", selector, domain);
  struct world_name *record = &world->names[world->name_count++];
  text_copy(record->name, sizeof record->name, name);
  record->record = text_duplicate(text);
  record->first = text_duplicate(text);
  record->was_ours = true;
  record->signed_at = WORLD_NOW;
  struct world_line *line = &world->lines[world->line_count++];
  text_copy(line->domain, sizeof line->domain, domain);
  text_copy(line->selector, sizeof line->selector, selector);
}

static void play(struct world *world, const char *domain, const char *selector) {
  play_record(world, domain, selector, RECORD);
}

static char *make_file(struct world *world, const char *name) {
  char *path = workplace_path(&world->place, name);
  workplace_write(path, "-----BEGIN PRIVATE KEY-----\n", 0600);
  return path;
}

static bool exists(const char *path) {
  return access(path, F_OK) == 0;
}

static int look_reason(void *context, const void *row) {
  const struct event *event = row;
  const char *const *wanted = context;
  return text_equal(event->selector, wanted[0]) && event->reason && strstr(event->reason, wanted[1]) ? 1 : 0;
}

static bool was_told(struct world *world, const char *domain, const char *selector, const char *reason) {
  const char *wanted[] = {selector, reason};
  const struct store_filter filter = {.domain = domain};
  struct error error = {0};
  return world->store->ops->select(world->store, STORE_SELECT_EVENTS, &filter, look_reason, wanted, &error) == 1;
}

static void test_engine_import__an_adopted_key_is_replaced_revoked_as_it_was_served_and_destroyed(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  CLEANUP_FREE char *path = make_file(world, "mail.private");
  play(world, "a.example", "mail");
  adopt(world, &(struct found){.domain = "a.example", .selector = "mail", .path = path, .state = KEY_ACTIVE, .key_name = "odd"});
  world_run_well(world, 6 * 3600);
  assert_string_not_equal(world_signs(world, 0, "a.example"), "mail");
  assert_true(exists(path));
  assert_string_equal(world_name(world, "mail._domainkey.a.example")->record, RECORD);
  world_live(world, 60);
  assert_null(world_name(world, "mail._domainkey.a.example")->record);
  assert_false(exists(path));
  assert_true(was_told(world, "a.example", "mail", "private key destroyed"));
  assert_int_equal(world->summary.failures, 0);
}

static void test_engine_import__a_file_of_two_goes_with_the_last_of_them(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}, b.example: {}");
  CLEANUP_FREE char *path = make_file(world, "shared.private");
  adopt(world, &(struct found){.domain = "a.example", .selector = "s", .path = path, .state = KEY_RETIRED, .unserved = true});
  play(world, "b.example", "s");
  adopt(world, &(struct found){.domain = "b.example", .selector = "s", .path = path, .state = KEY_ACTIVE});
  world_run_well(world, 6 * 3600);
  assert_true(was_told(world, "a.example", "s", "its private key file stays: others use it"));
  assert_true(exists(path));
  world_live(world, 60);
  assert_false(exists(path));
  assert_true(was_told(world, "b.example", "s", "private key destroyed"));
}

static void test_engine_import__two_that_end_together_leave_no_file_behind(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}, b.example: {}, c.example: {}");
  CLEANUP_FREE char *path = make_file(world, "shared.private");
  for (const char *const *domain = (const char *const[]){"a.example", "b.example", "c.example", NULL}; *domain; domain++)
    adopt(world, &(struct found){.domain = *domain, .selector = "s", .path = path, .state = KEY_RETIRED, .unserved = true});
  world_live(world, 1);
  assert_false(exists(path));
  assert_int_equal(world->counts.destroyed, 1);
  assert_true(was_told(world, "a.example", "s", "stays") && was_told(world, "c.example", "s", "private key destroyed"));
}

/* Somebody gave another domain the file of a key that dkimroll made. */
static void test_engine_import__a_file_that_was_lent_to_another_domain_is_not_destroyed(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}, b.example: {}");
  world_request(world, REQUEST_HOLD, "b.example");
  world_live(world, 1);
  CLEANUP_FREE char *path = text_format("%s/first/a.example/%s.private", world->place.path, world_signs(world, 0, "a.example"));
  assert_true(exists(path));
  play(world, "b.example", "lent");
  adopt(world, &(struct found){.domain = "b.example", .selector = "lent", .path = path, .state = KEY_ACTIVE});
  world_live(world, 120);
  assert_true(exists(path));
  assert_string_equal(world_signs(world, 0, "b.example"), "lent");
  assert_true(world_events(world, "a.example", "failed") > 0);
}

static void test_engine_import__a_file_that_a_table_of_others_names_stays(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  CLEANUP_FREE char *path = make_file(world, "theirs.private");
  world->named_path = path;
  adopt(world, &(struct found){.domain = "a.example", .selector = "s", .path = path, .state = KEY_RETIRED, .unserved = true});
  world_live(world, 1);
  assert_true(exists(path));
  assert_int_equal(world->counts.destroyed, 0);
  assert_true(was_told(world, "a.example", "s", "its private key file stays: others use it"));
}

static void test_engine_import__without_the_keepers_word_nothing_is_destroyed(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  CLEANUP_FREE char *path = make_file(world, "x.private");
  world->users_fail = true;
  adopt(world, &(struct found){.domain = "a.example", .selector = "s", .path = path, .state = KEY_RETIRED, .unserved = true});
  world_run_well(world, 3600);
  assert_true(exists(path));
  assert_true(world->summary.failures > 0);
  world->users_fail = false;
  world_live(world, 1);
  assert_false(exists(path));
}

static void test_engine_import__a_key_without_a_file_ends_too(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  adopt(world, &(struct found){.domain = "a.example", .selector = "s", .path = NULL, .state = KEY_RETIRED, .unserved = true});
  world_live(world, 1);
  assert_true(was_told(world, "a.example", "s", "its private key stands in a KeyTable itself"));
  assert_int_equal(world->counts.destroyed, 0);
}

/* Each proof of it was an alarm that there is no file "(null)", and a new key took over as soon as caches allowed. */
static void test_engine_import__a_key_without_a_file_is_proved_by_its_signature_alone(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  play(world, "a.example", "s");
  adopt(world, &(struct found){.domain = "a.example", .selector = "s", .path = NULL, .state = KEY_ACTIVE, .good = true});
  const unsigned before = world->counts.proofs;
  world_live(world, 5);
  assert_true(world->counts.proofs - before >= 4);
  assert_int_equal(world_events(world, "a.example", "alarm"), 0);
  assert_string_equal(world_signs(world, 0, "a.example"), "s");
}

/* Its entry in KeyTable is none that could be written again. */
static void test_engine_import__a_key_without_a_file_that_does_not_sign_any_more_gets_a_successor(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  play(world, "a.example", "s");
  adopt(world, &(struct found){.domain = "a.example", .selector = "s", .path = NULL, .state = KEY_ACTIVE, .good = true});
  world_live(world, 1);
  world_edit_tables(world, 0, "a.example", "");
  world_live(world, 2);
  assert_string_not_equal(world_signs(world, 0, "a.example"), "s");
  assert_string_not_equal(world_signs(world, 0, "a.example"), "");
  assert_int_equal(world_events(world, "a.example", "alarm"), 1);
  assert_false(was_told(world, "a.example", "s", "out of memory"));
}

/* A repair wrote an entry of the policy's name beside the one that was found, which kept the key file for ever, or was in the way of its own line. */
static void test_engine_import__a_line_that_is_gone_is_written_again_under_the_name_that_was_found(void **state) {
  struct world *world = *state;
  world_make(world, "a.example: {}");
  struct error error = {0};
  CLEANUP(keypair_public_release) struct keypair_public pair = {0};
  CLEANUP_FREE char *record = NULL;
  CLEANUP_FREE char *path = workplace_path(&world->place, "mail.private");
  const struct file_rights rights = {.owner = getuid(), .group = getgid(), .mode = 0600};
  assert_int_equal(keypair_generate(KEY_ALGORITHM_ED25519, 256, path, &rights, &pair, &error), 0);
  assert_int_equal(record_build(KEY_ALGORITHM_ED25519, pair.public_key, pair.public_key_size, &record, &error), 0);
  play_record(world, "a.example", "mail", record);
  adopt(world, &(struct found){.domain = "a.example", .selector = "mail", .path = path, .record = record, .state = KEY_ACTIVE, .key_name = "odd", .good = true});
  for (int time = 0; time < 2; time++) {
    world_live(world, 1);
    assert_int_equal(world_events(world, "a.example", "alarm"), time);
    world_edit_tables(world, 0, "a.example", "");
    world->lines[0].key_name[0] = '\0';
    world_live(world, 1);
    assert_string_equal(world_signs(world, 0, "a.example"), "mail");
    assert_string_equal(world->lines[0].key_name, "odd");
    assert_true(world->lines[0].adopted);
    assert_int_equal(world_events(world, "a.example", "healed"), time + 1);
  }
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_engine_import__##name, world_setup, world_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(an_adopted_key_is_replaced_revoked_as_it_was_served_and_destroyed),
      TEST(a_file_of_two_goes_with_the_last_of_them),
      TEST(two_that_end_together_leave_no_file_behind),
      TEST(a_file_that_was_lent_to_another_domain_is_not_destroyed),
      TEST(a_file_that_a_table_of_others_names_stays),
      TEST(without_the_keepers_word_nothing_is_destroyed),
      TEST(a_key_without_a_file_ends_too),
      TEST(a_line_that_is_gone_is_written_again_under_the_name_that_was_found),
      TEST(a_key_without_a_file_is_proved_by_its_signature_alone),
      TEST(a_key_without_a_file_that_does_not_sign_any_more_gets_a_successor),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
