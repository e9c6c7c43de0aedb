/* What is no YAML, no text, or not the plain YAML that a policy is made of. */
#include "policy_expect.h"

#include "dkimroll/buffer.h"

static void test_policy_yaml__what_yaml_allows_and_a_policy_does_not(void **state) {
  (void)state;
  ASSERT_FINDINGS({WITH_RULES("retire: &r {}"), 1, 31, "anchors (&r) are not supported"},
                  {WITH_DOMAINS("example.com: {senders: [*example]}"), 5, 35, "put it in quotes"},
                  {WITH_RULES("<<: {standby: 1}"), 1, 23, "merge keys (<<) are not supported"},
                  {WITH_RULES("standby: !!int 1"), 1, 32, "tags (tag:yaml.org,2002:int) are not supported"},
                  {WITH_RULES("[a, b]: 1"), 1, 23, "a key must be plain text"},
                  {POLICIES PUBLISHERS SIGNERS DEFAULTS DOMAINS "---\n" POLICIES, 6, 1, "a policy is one document"},
                  {"", 1, 1, "there is no policy here"}, {"# nothing\n", 2, 1, "there is no policy here"},
                  {"- a\n", 1, 1, "there is no policy here"}, {"text\n", 1, 1, "there is no policy here"},
                  {WITH_RULES("selector: \"a\\0b\""), 1, 33, "holds a NUL octet"},
                  {WITH_RULES("selector: \"a\\nb\""), 1, 33, "line break"},
                  {WITH_RULES("selector: \"a\\x9bb\""), 1, 33, "control character"},
                  {"policies: [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]\n", 1, 22, "more than 12 levels"});
}

static void test_policy_yaml__text_that_is_no_yaml_gives_a_hint(void **state) {
  (void)state;
  ASSERT_FINDINGS({WITH_RULES("selector: %Y%m%d"), 1, 33, "a value that begins with %"},
                  {"policies:\n\tstandard: {}\n", 2, 1, "made of blanks, not tabs"},
                  {POLICIES "domains: {example.com: {senders: [*@example.com]}}\n", 2, 36, "\"*@example.com\""},
                  {"policies: {standard: {}\nsigners: {}\n", 2, 1, "close the { with a }"},
                  {"policies: a: b\n", 1, 12, "needs quotes"}, {"policies:\n  a: {}\n b: {}\n", 3, 2, "indent"});
}

static void test_policy_yaml__octets_that_are_no_utf8(void **state) {
  (void)state;
  ASSERT_FINDINGS({"a: b\nc: \xff\n", 2, 4, "an octet here that UTF-8 does not have"},
                  {"a: b\nc: \xc3(\n", 2, 4, "cut short"}, {"# \xc0\x80\n", 1, 3, "UTF-8"},
                  {"# \xe0\x80\xaf\n", 1, 3, "UTF-8"}, {"# \xed\xa0\x80\n", 1, 3, "UTF-8"},
                  {"# \xf5\x80\x80\x80\n", 1, 3, "UTF-8"}, {"# \xc3\xbc \x01\n", 1, 5, "control character"},
                  {"# \xc3", 1, 3, "cut short"},
                  {"\xff\xfe"
                   "a",
                   1, 1, "UTF-8"});
}

static void test_policy_yaml__nul_octet_is_found(void **state) {
  (void)state;
  CLEANUP(policy_findings_release) struct policy_findings findings = {0};
  struct policy *policy = NULL;
  struct error error = {0};
  static const char text[] = POLICIES "# a \0 b\n" PUBLISHERS;
  assert_int_equal(policy_parse("p.yaml", text, sizeof(text) - 1, &policy, &findings, &error), ERROR_CONFIG);
  assert_int_equal(findings.count, 1);
  assert_int_equal(findings.items[0].place.line, 2);
  assert_int_equal(findings.items[0].place.column, 5);
  assert_non_null(strstr(findings.items[0].message, "NUL octet"));
}

/* Whatever is cut off, the reader ends with findings or a policy, and leaks nothing (the sanitizers watch). */
static void test_policy_yaml__every_beginning_of_a_policy_is_survived(void **state) {
  (void)state;
  static const char text[] =
      "policies: {standard: {keys: {a: {selector: a}, b: {bits: 3072}}, retire: {private-key: archive}}}\n" PUBLISHERS
      "signers: {local: {" SIGNER_KEYS ", reload: {command: [/a, b]}}}\n" DEFAULTS
      "domains:\n  a.example: {senders: [\"*@a.example\"], zone: a.example}\n";
  for (size_t size = 0; size < sizeof(text); size++) {
    CLEANUP(policy_findings_release) struct policy_findings findings = {0};
    struct policy *policy = NULL;
    struct error error = {0};
    const int result = policy_parse("p.yaml", text, size, &policy, &findings, &error);
    assert_true(result == 0 || findings.count > 0);
    if (result == 0) policy_free(policy);
  }
}

static void test_policy_yaml__values_and_parts_have_limits(void **state) {
  (void)state;
  enum { VALUES = 100001 };
  struct buffer text = BUFFER_WITH_MAXIMUM(1024 * 1024);
  buffer_add_text(&text, "state: /");
  for (int i = 0; i < 4096; i++) buffer_add_text(&text, "a");
  buffer_add_text(&text, "\n" POLICIES PUBLISHERS SIGNERS DEFAULTS DOMAINS);
  assert_finding(&(struct expectation){(const char *)text.data, 1, 8, "longer than 4096 octets"});
  buffer_reset(&text);
  buffer_add_text(&text, "state: [");
  for (int i = 0; i < VALUES; i++) buffer_add_text(&text, "a,");
  buffer_add_text(&text, "]\n" POLICIES PUBLISHERS SIGNERS DEFAULTS DOMAINS);
  assert_finding(&(struct expectation){(const char *)text.data, 1, 200007, "more than 100,000 values"});
  buffer_release(&text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_policy_yaml__what_yaml_allows_and_a_policy_does_not),
      cmocka_unit_test(test_policy_yaml__text_that_is_no_yaml_gives_a_hint),
      cmocka_unit_test(test_policy_yaml__octets_that_are_no_utf8),
      cmocka_unit_test(test_policy_yaml__nul_octet_is_found),
      cmocka_unit_test(test_policy_yaml__every_beginning_of_a_policy_is_survived),
      cmocka_unit_test(test_policy_yaml__values_and_parts_have_limits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
