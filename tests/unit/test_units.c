/* Drop-ins from the policy's paths, on hosts that lie in folders. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"
#include "dkimroll/units.h"
#include "workplace.h"

struct host {
  struct workplace folder;
  struct units units;
  struct units_signers signers; /* of an earlier policy */
  struct policy *policy;
};

static int setup(void **state) {
  struct host *host = calloc(1, sizeof *host);
  workplace_make(&host->folder, "/tmp");
  *state = host;
  return 0;
}

static int teardown(void **state) {
  struct host *host = *state;
  units_release(&host->units);
  units_signers_release(&host->signers);
  policy_free(host->policy);
  workplace_remove(&host->folder);
  free(host);
  return 0;
}

static void put(const struct host *host, const char *path, const char *text) { workplace_put(&host->folder, path, text); }

/* As they are installed. */
static void install(const struct host *host) {
  put(host, "lib/systemd/system/dkimroll-keeper@.service", "[Service]\nReadWritePaths=-/etc/dkimkeys -/etc/opendkim -/var/lib/opendkim\n");
  put(host, "lib/systemd/system/dkimroll.service", "[Service]\nStateDirectory=dkimroll\nInaccessiblePaths=-/etc/dkimkeys -/etc/opendkim\n");
  put(host, "lib/systemd/system/dkimroll-run.service", "[Service]\nStateDirectory=dkimroll\nInaccessiblePaths=-/etc/dkimkeys -/etc/opendkim\n");
}

static void find(struct host *host, const char *keys, const char *table, const char *more) {
  struct policy_findings findings = {0};
  struct error error = {0};
  CLEANUP_FREE char *text = text_format("policies: {one: {}}\npublishers: {primary: {server: \"192.0.2.1\"%s}}\n"
                                        "signers: {local: {key-table: %s/KeyTable, signing-table: \"refile:%s/SigningTable\", key-directory: %s, milter: \"inet:8891@127.0.0.1\"}}\n"
                                        "domains: {a.example: {policy: one, publisher: primary, signers: [local]}}\n",
                                        more, table, table, keys);
  units_release(&host->units);
  policy_free(host->policy);
  host->policy = NULL;
  if (policy_parse("p.yaml", text, strlen(text), &host->policy, &findings, &error)) fail_msg("%s: %s", error.message, findings.count ? findings.items[0].message : "");
  policy_findings_release(&findings);
  if (units_find(host->folder.path, host->policy, &host->signers, &host->units, &error)) fail_msg("%s", error.message);
}

static bool has(const struct host *host, const char *unit, const char *line) {
  for (size_t i = 0; i < host->units.count; i++)
    for (size_t j = 0; j < host->units.units[i].line_count; j++)
      if (text_equal(host->units.units[i].name, unit) && text_equal(host->units.units[i].lines[j].text, line)) return true;
  return false;
}

static size_t lines(const struct host *host) {
  size_t count = 0;
  for (size_t i = 0; i < host->units.count; i++) count += host->units.units[i].line_count;
  return count;
}

static void test_units__the_usual_places_need_nothing(void **state) {
  struct host *host = *state;
  install(host);
  find(host, "/etc/dkimkeys/keys/%d", "/etc/dkimkeys", "");
  assert_int_equal(host->units.count, 3);
  assert_int_equal(lines(host), 0);
}

static void test_units__without_units_there_is_nothing_to_add_to(void **state) {
  struct host *host = *state;
  find(host, "/srv/keys/%d", "/srv/tables", "");
  assert_int_equal(host->units.count, 0);
}

static void test_units__keys_and_tables_elsewhere_are_opened_for_the_keeper_and_hidden_from_the_others(void **state) {
  struct host *host = *state;
  install(host);
  find(host, "/srv/keys/%d", "/srv/tables", "");
  assert_true(has(host, "dkimroll-keeper@.service", "ReadWritePaths=-/srv/keys"));
  assert_true(has(host, "dkimroll-keeper@.service", "ReadWritePaths=-/srv/tables"));
  assert_true(has(host, "dkimroll.service", "InaccessiblePaths=-/srv/keys"));
  assert_true(has(host, "dkimroll-run.service", "InaccessiblePaths=-/srv/keys"));
  assert_int_equal(lines(host), 4);
  assert_true(host->units.note_count > 0); /* they do not exist, and a unit cannot make them */
}

static void made_with(struct host *host, const char *text) {
  struct error error = {0};
  host->signers.items = reallocarray(host->signers.items, host->signers.count + 1, sizeof *host->signers.items);
  assert_non_null(host->signers.items);
  if (policy_signer_parse(text, &host->signers.items[host->signers.count], &error)) fail_msg("%s", error.message);
  host->signers.count++;
}

/* Their files and lines are removed where they are. */
static void test_units__the_places_of_keys_that_live_stay_open_after_the_policy_changed(void **state) {
  struct host *host = *state;
  install(host);
  made_with(host, "{\"local\": {\"type\": \"opendkim\", \"key-table\": \"/srv/old/KeyTable\", \"signing-table\": \"refile:/srv/old/SigningTable\", "
                  "\"key-directory\": \"/srv/mail/%d\", \"milter\": \"unix:/gone/socket\"}}");
  find(host, "/etc/dkimkeys/keys/%d", "/etc/dkimkeys", "");
  assert_true(has(host, "dkimroll-keeper@.service", "ReadWritePaths=-/srv/mail"));
  assert_true(has(host, "dkimroll-keeper@.service", "ReadWritePaths=-/srv/old"));
  assert_true(has(host, "dkimroll.service", "InaccessiblePaths=-/srv/mail"));
  assert_true(has(host, "dkimroll-run.service", "InaccessiblePaths=-/srv/mail"));
  assert_int_equal(lines(host), 4);
}

static void test_units__what_a_drop_in_of_somebody_else_opens_is_open(void **state) {
  struct host *host = *state;
  install(host);
  put(host, "etc/systemd/system/dkimroll-keeper@.service.d/override.conf", "[Service]\nReadWritePaths=/srv\n");
  put(host, "run/systemd/system/dkimroll-run.service.d/x.conf", "[Service]\nInaccessiblePaths=/srv/keys/\n");
  find(host, "/srv/keys/%d", "/srv/tables", "");
  assert_false(has(host, "dkimroll-keeper@.service", "ReadWritePaths=-/srv/keys"));
  assert_false(has(host, "dkimroll-keeper@.service", "ReadWritePaths=-/srv/tables"));
  assert_false(has(host, "dkimroll-run.service", "InaccessiblePaths=-/srv/keys"));
  assert_true(has(host, "dkimroll.service", "InaccessiblePaths=-/srv/keys"));
  /* "/srv" does not open "/srvx", and an empty assignment takes back what stood before it. */
  find(host, "/srvx/keys/%d", "/srv/tables", "");
  assert_true(has(host, "dkimroll-keeper@.service", "ReadWritePaths=-/srvx/keys"));
  put(host, "etc/systemd/system/dkimroll-keeper@.service.d/zero.conf", "[Service]\nReadWritePaths=\n");
  find(host, "/srv/keys/%d", "/srv/tables", "");
  assert_true(has(host, "dkimroll-keeper@.service", "ReadWritePaths=-/srv/keys"));
}

static void test_units__our_own_drop_in_is_made_again_as_it_was(void **state) {
  struct host *host = *state;
  install(host);
  find(host, "/srv/keys/%d", "/srv/tables", "");
  for (size_t i = 0; i < host->units.count; i++) {
    CLEANUP_FREE char *path = units_path(&host->units, &host->units.units[i]);
    CLEANUP_FREE char *text = units_format(&host->units.units[i]);
    assert_false(units_has_line(&host->units.units[i], &host->units.units[i].lines[0]));
    put(host, path + strlen(host->folder.path) + 1, text);
  }
  find(host, "/srv/keys/%d", "/srv/tables", "");
  assert_int_equal(lines(host), 4);
  for (size_t i = 0; i < host->units.count; i++) {
    CLEANUP_FREE char *text = units_format(&host->units.units[i]);
    assert_string_equal(text, host->units.units[i].ours);
    for (size_t j = 0; j < host->units.units[i].line_count; j++) assert_true(units_has_line(&host->units.units[i], &host->units.units[i].lines[j]));
  }
}

static void test_units__a_credential_is_loaded_unless_somebody_does(void **state) {
  struct host *host = *state;
  install(host);
  find(host, "/etc/dkimkeys/keys/%d", "/etc/dkimkeys", ", tsig-file: \"credential:some-key\"");
  assert_true(has(host, "dkimroll.service", "LoadCredential=some-key:/etc/dkimroll/some-key") || has(host, "dkimroll.service", "LoadCredential=some-key:/etc/dkimroll/tsig.key"));
  assert_int_equal(lines(host), 2);
  put(host, "etc/systemd/system/dkimroll.service.d/a.conf", "[Service]\nLoadCredential=some-key:/elsewhere\n");
  put(host, "etc/systemd/system/dkimroll-run.service.d/a.conf", "[Service]\nLoadCredentialEncrypted=some-key:/elsewhere\n");
  find(host, "/etc/dkimkeys/keys/%d", "/etc/dkimkeys", ", tsig-file: \"credential:some-key\"");
  assert_int_equal(lines(host), 0);
  find(host, "/etc/dkimkeys/keys/%d", "/etc/dkimkeys", ", tsig-file: \"credential:some\"");
  assert_int_equal(lines(host), 2);
}

static void test_units__a_path_that_no_line_can_carry_is_a_note(void **state) {
  struct host *host = *state;
  install(host);
  find(host, "\"/srv/my keys/%d\"", "/etc/dkimkeys", "");
  assert_int_equal(lines(host), 0);
  assert_true(host->units.note_count > 0);
  assert_non_null(strstr(host->units.notes[0], "by hand"));
}

/* Ends the publishers; the braces of the text stand in a comment. */
#define METRICS "}}\nmetrics: {file: /srv/metrics/dkimroll.prom} # "

static void test_units__metrics_elsewhere_are_opened_for_the_side_that_writes_them(void **state) {
  struct host *host = *state;
  install(host);
  find(host, "/etc/dkimkeys/keys/%d", "/etc/dkimkeys", METRICS);
  assert_true(has(host, "dkimroll.service", "ReadWritePaths=-/srv/metrics") && has(host, "dkimroll-run.service", "ReadWritePaths=-/srv/metrics"));
  assert_int_equal(lines(host), 2);
  put(host, "etc/systemd/system/dkimroll.service.d/a.conf", "[Service]\nReadWritePaths=-/srv/metrics\n");
  find(host, "/etc/dkimkeys/keys/%d", "/etc/dkimkeys", METRICS);
  assert_int_equal(lines(host), 1);
}

static void find_text(struct host *host, const char *text) {
  struct policy_findings findings = {0};
  struct error error = {0};
  if (policy_parse("p.yaml", text, strlen(text), &host->policy, &findings, &error)) fail_msg("%s: %s", error.message, findings.count ? findings.items[0].message : "");
  policy_findings_release(&findings);
  if (units_find(host->folder.path, host->policy, &host->signers, &host->units, &error)) fail_msg("%s", error.message);
}

/* What the side with the network writes: its database, fragments of zone files, metrics. */
static void test_units__what_the_loop_side_writes_elsewhere_is_opened_for_it(void **state) {
  struct host *host = *state;
  install(host);
  put(host, "etc/systemd/system/dkimroll.service.d/a.conf", "[Service]\nStateDirectory=dkimroll-metrics\n");
  find_text(host, "state: /srv/state/state.db\nmetrics: {file: /var/lib/dkimroll-metrics/x.prom}\npolicies: {one: {}}\n"
                  "publishers: {primary: {type: zonefile, file: \"/srv/zones/%z.dkim\", servers: [\"192.0.2.1\"]}}\n"
                  "signers: {local: {key-table: /etc/dkimkeys/KeyTable, signing-table: \"refile:/etc/dkimkeys/SigningTable\", key-directory: /etc/dkimkeys/keys/%d, milter: \"inet:8891@127.0.0.1\"}}\n"
                  "domains: {a.example: {policy: one, publisher: primary, signers: [local]}}\n");
  const char *const units[] = {"dkimroll.service", "dkimroll-run.service"};
  for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
    assert_true(has(host, units[i], "ReadWritePaths=-/srv/state"));
    assert_true(has(host, units[i], "ReadWritePaths=-/srv/zones"));
  }
  assert_false(has(host, "dkimroll.service", "ReadWritePaths=-/var/lib/dkimroll-metrics"));
  assert_true(has(host, "dkimroll-run.service", "ReadWritePaths=-/var/lib/dkimroll-metrics"));
  assert_int_equal(lines(host), 5);
}

/* ---- who may ---- */

static enum units_answer may(const struct host *host, uid_t user, gid_t group, const char *path, unsigned bits, gid_t *ret_group) {
  struct units units = {.root = "", .has_user = true, .user = user, .groups = {group}, .group_count = 1};
  CLEANUP_FREE char *full = workplace_path(&host->folder, path);
  return units_may(&units, full, bits, ret_group);
}

/* What was passed over would count as missing, and be opened a second time or taken for not installed. */
static void test_units__units_and_drop_ins_beyond_the_limits_are_named(void **state) {
  struct host *host = *state;
  struct units units = {.root = host->folder.path};
  struct error error = {0};
  CLEANUP_FREE char *large = calloc(1, UNITS_TEXT_MAX + 2);
  memset(large, '#', UNITS_TEXT_MAX + 1);
  install(host);
  put(host, "lib/systemd/system/dkimroll.service", large);
  assert_int_equal(units_read(&units, &error), ERROR_LIMIT);
  assert_non_null(strstr(error.message, "dkimroll.service"));
  assert_true(error.remedy[0] != '\0');
  units_release(&units);
  units = (struct units){.root = host->folder.path};
  install(host);
  for (int i = 0; i <= UNITS_DROP_INS_MAX; i++) {
    CLEANUP_FREE char *path = text_format("etc/systemd/system/dkimroll.service.d/%03d.conf", i);
    put(host, path, "[Service]\n");
  }
  error = (struct error){0};
  assert_int_equal(units_read(&units, &error), ERROR_LIMIT);
  assert_non_null(strstr(error.message, "dkimroll.service.d"));
  assert_true(error.remedy[0] != '\0');
  units_release(&units);
}

static void test_units__who_may_read_and_connect(void **state) {
  struct host *host = *state;
  const uid_t nobody = 65534;
  const gid_t nogroup = 65534;
  gid_t group = 0;
  if (geteuid() != 0) skip();
  put(host, "d/file", "x");
  CLEANUP_FREE char *file = workplace_path(&host->folder, "d/file");
  CLEANUP_FREE char *folder = workplace_path(&host->folder, "d");
  assert_int_equal(chmod(host->folder.path, 0755), 0);
  assert_int_equal(may(host, nobody, nogroup, "d/file", 4, NULL), UNITS_YES);
  assert_int_equal(may(host, nobody, nogroup, "d/file", 2, NULL), UNITS_NO);
  assert_int_equal(may(host, nobody, nogroup, "d/none", 4, NULL), UNITS_MISSING);
  assert_int_equal(chown(file, 0, 7) + chmod(file, 0640), 0);
  assert_int_equal(may(host, nobody, nogroup, "d/file", 4, &group), UNITS_BY_GROUP);
  assert_int_equal(group, 7);
  assert_int_equal(may(host, nobody, 7, "d/file", 4, NULL), UNITS_YES);
  assert_int_equal(may(host, 0, nogroup, "d/file", 4, NULL), UNITS_YES);
  assert_int_equal(chown(folder, 0, 7) + chmod(folder, 0750), 0);
  assert_int_equal(may(host, nobody, nogroup, "d/file", 4, &group), UNITS_BY_GROUP);
  /* Two groups would be needed. */
  assert_int_equal(chown(folder, 0, 8), 0);
  assert_int_equal(may(host, nobody, nogroup, "d/file", 4, &group), UNITS_NO);
  assert_int_equal(chmod(folder, 0700), 0);
  assert_int_equal(may(host, nobody, 7, "d/file", 4, NULL), UNITS_NO);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_units__the_usual_places_need_nothing, setup, teardown),
      cmocka_unit_test_setup_teardown(test_units__without_units_there_is_nothing_to_add_to, setup, teardown),
      cmocka_unit_test_setup_teardown(test_units__keys_and_tables_elsewhere_are_opened_for_the_keeper_and_hidden_from_the_others, setup, teardown),
      cmocka_unit_test_setup_teardown(test_units__the_places_of_keys_that_live_stay_open_after_the_policy_changed, setup, teardown),
      cmocka_unit_test_setup_teardown(test_units__what_a_drop_in_of_somebody_else_opens_is_open, setup, teardown),
      cmocka_unit_test_setup_teardown(test_units__our_own_drop_in_is_made_again_as_it_was, setup, teardown),
      cmocka_unit_test_setup_teardown(test_units__a_credential_is_loaded_unless_somebody_does, setup, teardown),
      cmocka_unit_test_setup_teardown(test_units__a_path_that_no_line_can_carry_is_a_note, setup, teardown),
      cmocka_unit_test_setup_teardown(test_units__metrics_elsewhere_are_opened_for_the_side_that_writes_them, setup, teardown),
      cmocka_unit_test_setup_teardown(test_units__what_the_loop_side_writes_elsewhere_is_opened_for_it, setup, teardown),
      cmocka_unit_test_setup_teardown(test_units__units_and_drop_ins_beyond_the_limits_are_named, setup, teardown),
      cmocka_unit_test_setup_teardown(test_units__who_may_read_and_connect, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
