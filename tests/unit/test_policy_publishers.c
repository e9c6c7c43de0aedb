/* Publishers of each type in the policy: which keys they have, what is refused with its place, and what keys remember of them. */
#include "policy_expect.h"

static struct policy *parse_publisher(const char *publisher) {
  struct policy *policy = NULL;
  struct error error = {0};
  CLEANUP_FREE char *text = text_format("%s{%s}}\n%s", POLICIES "publishers: {primary: ", publisher, SIGNERS DEFAULTS DOMAINS);
  if (policy_parse("p.yaml", text, strlen(text), &policy, NULL, &error)) fail_msg("%s", error.message);
  return policy;
}

static void test_policy_publishers__each_type_has_its_defaults(void **state) {
  (void)state;
  struct policy *policy = parse_publisher("type: command, command: [/bin/tool, --zone, --zone]");
  const struct policy_publisher *publisher = &policy->publishers[0];
  assert_int_equal(publisher->type, PUBLISHER_COMMAND);
  assert_int_equal(publisher->command_count, 3);
  assert_int_equal(publisher->timeout, 60);
  assert_int_equal(publisher->wait, 120);
  assert_int_equal(publisher->parallel, 4);
  policy_free(policy);
  policy = parse_publisher("type: zonefile, file: /z/%z.dkim, timeout: 5s, wait: 10m, mode: 0640, owner: \"dkimroll:bind\", reload: {command: [/bin/r, x]}");
  publisher = &policy->publishers[0];
  assert_int_equal(publisher->type, PUBLISHER_ZONEFILE);
  assert_string_equal(publisher->file, "/z/%z.dkim");
  assert_int_equal(publisher->timeout, 5);
  assert_int_equal(publisher->wait, 600);
  assert_int_equal(publisher->mode, 0640);
  assert_string_equal(publisher->owner, "dkimroll:bind");
  assert_int_equal(publisher->reload_command_count, 2);
  policy_free(policy);
  policy = parse_publisher("type: zonefile, file: /z/all, zone: example.com");
  assert_int_equal(policy->publishers[0].mode, 0644);
  policy_free(policy);
}

static void test_policy_publishers__keys_of_other_types_are_refused_where_they_stand(void **state) {
  (void)state;
  ASSERT_FINDINGS({WITH_PUBLISHER("tsig-file: /a, command: [/t]"), 2, 39, "publishers.primary.command is for publishers of type command, and this one has type rfc2136"},
                  {WITH_PUBLISHER("timeout: 1m"), 2, 24, "type command or zonefile"},
                  {WITH_PUBLISHER("type: command, command: [/t], tsig-file: /a"), 2, 54, "tsig-file is for publishers of type rfc2136, and this one has type command"},
                  {WITH_PUBLISHER("type: command, command: [/t], file: /z/%z"), 2, 54, "type zonefile"},
                  {WITH_PUBLISHER("type: zonefile, file: /z/%z, server: \"192.0.2.1\""), 2, 53, "type rfc2136"},
                  {WITH_PUBLISHER("type: zonefile, file: /z/%z, parallel: 2"), 2, 53, "type command"});
}

static void test_policy_publishers__what_a_type_needs_and_bounds(void **state) {
  (void)state;
  ASSERT_FINDINGS({WITH_PUBLISHER("type: command"), 2, 14, "command is missing; give the program"},
                  {WITH_PUBLISHER("type: command, command: []"), 2, 48, "has 0 items"},
                  {WITH_PUBLISHER("type: command, command: [tool]"), 2, 48, "\"tool\" is no absolute path; no shell and no PATH are used"},
                  {WITH_PUBLISHER("type: command, command: [/t], parallel: 9"), 2, 64, "from 1 to 8"},
                  {WITH_PUBLISHER("type: command, command: [/t], timeout: 0"), 2, 63, "from 1s to 10m"},
                  {WITH_PUBLISHER("type: command, command: [/t], wait: 2h"), 2, 60, "from 1s to 1h"},
                  {WITH_PUBLISHER("type: zonefile"), 2, 14, "file is missing; say where the records of a zone go"},
                  {WITH_PUBLISHER("type: zonefile, file: /z/all"), 2, 46, "is the same for every zone; put %z into its name"},
                  {WITH_PUBLISHER("type: zonefile, file: /z/%d"), 2, 46, "has a % that is not %z"},
                  {WITH_PUBLISHER("type: zonefile, file: /z/%z/dkim"), 2, 46, "put %z behind the last /"},
                  {WITH_PUBLISHER("type: zonefile, file: /%z"), 2, 46, "lies in the root directory"},
                  {WITH_PUBLISHER("type: zonefile, file: z/%z"), 2, 46, "no absolute path"},
                  {WITH_PUBLISHER("type: zonefile, file: /z/%z, mode: 0666"), 2, 59, "use 0644 or 0640"},
                  {WITH_PUBLISHER("type: zonefile, file: /z/%z, mode: 0444"), 2, 59, "use 0644 or 0640"},
                  {WITH_PUBLISHER("type: zonefile, file: /z/%z, reload: {}"), 2, 61, "reload: command is missing"},
                  {WITH_PUBLISHER("type: zonefile, file: /z/%z, reload: {command: [rndc]}"), 2, 71, "\"rndc\" is no absolute path"},
                  {WITH_PUBLISHER("type: zonefiles, file: /z/%z"), 2, 30, "did you mean \"zonefile\"?"});
}

static void test_policy_publishers__what_keys_remember_reads_back_and_old_ones_stay_as_they_were(void **state) {
  (void)state;
  static const char *const texts[] = {
      "type: command, command: [/t, a], parallel: 2, timeout: 5s, wait: 10s, servers: [192.0.2.1]",
      "type: zonefile, file: /z/%z, owner: \"a:b\", mode: 0640, reload: {command: [/r]}",
      "server: \"192.0.2.1\", tsig-file: /t",
  };
  for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
    struct policy *policy = parse_publisher(texts[i]);
    struct policy_publisher *again = NULL;
    struct error error = {0};
    CLEANUP_FREE char *text = NULL;
    CLEANUP_FREE char *second = NULL;
    assert_int_equal(policy_publisher_format(&policy->publishers[0], &text, &error), 0);
    if (policy_publisher_parse(text, &again, &error)) fail_msg("%s: %s", error.message, text);
    assert_int_equal(policy_publisher_format(again, &second, &error), 0);
    assert_string_equal(text, second);
    assert_int_equal(again->timeout, policy->publishers[0].timeout);
    assert_int_equal(again->reload_command_count, policy->publishers[0].reload_command_count);
    /* Another text would be another version, and every key would be published by one that the policy does not have. */
    if (i == 2) assert_string_equal(text, "{\"primary\": {\"type\": \"rfc2136\", \"server\": \"192.0.2.1\", \"tsig-file\": \"/t\"}}");
    policy_publisher_free(again);
    policy_free(policy);
  }
}

static void test_policy_publishers__a_fragment_lies_where_the_file_and_the_zone_say(void **state) {
  (void)state;
  static const char text[] = POLICIES "publishers: {a: {type: zonefile, file: /z/%z.a}, b: {type: zonefile, file: /z/%z.b}, c: {type: command, command: [/t]}, "
                                      "d: {type: zonefile, file: /y/x, zone: example.com}, primary: {}}\n" SIGNERS DEFAULTS DOMAINS;
  struct policy *policy = NULL;
  struct error error = {0};
  assert_int_equal(policy_parse("p.yaml", text, strlen(text), &policy, NULL, &error), 0);
  CLEANUP_FREE char *path = NULL;
  assert_int_equal(policy_publisher_file(&policy->publishers[0], "example.com", &path, &error), 0);
  assert_string_equal(path, "/z/example.com.a");
  policy_free(policy);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_policy_publishers__each_type_has_its_defaults),
      cmocka_unit_test(test_policy_publishers__keys_of_other_types_are_refused_where_they_stand),
      cmocka_unit_test(test_policy_publishers__what_a_type_needs_and_bounds),
      cmocka_unit_test(test_policy_publishers__what_keys_remember_reads_back_and_old_ones_stay_as_they_were),
      cmocka_unit_test(test_policy_publishers__a_fragment_lies_where_the_file_and_the_zone_say),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
