/* TSIG keys from text and files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "dkimroll/tsig.h"
#include "workplace.h"

#define SECRET "MDEyMzQ1Njc4OWFiY2RlZg==" /* base64 of SECRET_PLAIN */
#define SECRET_PLAIN "0123456789abcdef"

static void assert_key(const char *text, const char *name, enum tsig_algorithm algorithm) {
  struct tsig_key *key = NULL;
  struct error error;
  if (tsig_key_parse("place", text, strlen(text), &key, &error) < 0) fail_msg("%s\nin: %s", error.message, text);
  assert_string_equal(key->name, name);
  assert_int_equal(key->algorithm, algorithm);
  assert_int_equal(key->secret_size, strlen(SECRET_PLAIN));
  assert_memory_equal(key->secret, SECRET_PLAIN, strlen(SECRET_PLAIN));
  tsig_key_free(key);
}

/* The message begins with "place:line: ", contains what, and does not tell the secret. */
static void assert_refused(const char *text, unsigned line, const char *what) {
  struct tsig_key *key = NULL;
  struct error error = {.code = 0};
  CLEANUP_FREE char *place = text_format("place:%u: ", line);
  int code = tsig_key_parse("place", text, strlen(text), &key, &error);
  if (code != ERROR_INVALID) fail_msg("code %d for: %s", code, text);
  assert_null(key);
  if (!text_starts(error.message, place)) fail_msg("\"%s\" does not begin with \"%s\"", error.message, place);
  if (!strstr(error.message, what)) fail_msg("\"%s\" does not say \"%s\"", error.message, what);
  assert_true(error.remedy[0]);
  assert_null(strstr(error.message, SECRET));
  assert_null(strstr(error.remedy, SECRET));
}

static void test_tsig_key__bind_clause_is_read(void **state) {
  (void)state;
  assert_key("key \"Example.Key.\" {\n\talgorithm hmac-sha256;\n\tsecret \"" SECRET "\";\n};\n", "example.key",
             TSIG_HMAC_SHA256);
  assert_key("key k { secret " SECRET "; algorithm \"HMAC-SHA384\"; };", "k", TSIG_HMAC_SHA384);
  assert_key("key k{algorithm hmac-sha512.;secret\"" SECRET "\";};", "k", TSIG_HMAC_SHA512);
}

static void test_tsig_key__bind_comments_are_passed_over(void **state) {
  (void)state;
  assert_key("// key \"no\" { algorithm hmac-md5; };\n"
             "# key \"no\" {\n"
             "/* key \"no\" {\n   }; * / ** */\n"
             "key /* the name */ \"yes\" { // begins\n"
             "  algorithm hmac-sha256; # the usual\n"
             "  /* secret \"bm8=\"; */ secret \"" SECRET "\"; //\n"
             "}; # the end",
             "yes", TSIG_HMAC_SHA256);
  assert_key("// first: a remark\nkey k { algorithm hmac-sha256; secret \"" SECRET "\"; };", "k", TSIG_HMAC_SHA256);
  assert_key("/* key: a remark */ key k { algorithm hmac-sha256; secret \"" SECRET "\"; };", "k", TSIG_HMAC_SHA256);
  assert_key("#\nkey k { algorithm hmac-sha256; secret \"" SECRET "\"; };\n#", "k", TSIG_HMAC_SHA256);
}

static void test_tsig_key__bind_clauses_around_are_passed_over_and_the_first_key_is_taken(void **state) {
  (void)state;
  assert_key("options { directory \"/tmp; key x {\"; allow-transfer { key \"other\"; }; };\r\n"
             "server 192.0.2.1 { keys { \"other\"; }; };\r\n"
             "view v { key first { algorithm hmac-sha256; secret \"" SECRET "\"; }; };\r\n"
             "key second { algorithm hmac-sha512; secret \"bm8=\"; };\r\n",
             "first", TSIG_HMAC_SHA256);
}

static void test_tsig_key__bind_mistakes_name_their_line(void **state) {
  (void)state;
  assert_refused("key k {\n algorithm hmac-sha256;\n};", 1, "no secret");
  assert_refused("\n\nkey k {\n secret \"" SECRET "\";\n};", 3, "no algorithm");
  assert_refused("key k {\n algorithm hmac-sha256;\n secret \"" SECRET "\";\n", 1, "no end");
  assert_refused("key k {\n algorithm hmac-sha256\n secret \"" SECRET "\";\n};", 2, "\";\"");
  assert_refused("key k {\n algorithm hmac-sha256;\n secret \"" SECRET "\n\";};", 3, "no end in its line");
  assert_refused("key k {\n algorithm hmac-sha256;\n algorithm hmac-sha256;\n secret \"" SECRET "\";};", 3, "twice");
  assert_refused("key k {\n algorithm hmac-sha256;\n secrets \"" SECRET "\";};", 3, "nothing but");
  assert_refused("key k {\n algorithm hmac-sha256;\n \"" SECRET "\";};", 3, "nothing but");
  assert_refused("\n/* key k {\n", 2, "no end");
  assert_refused("key k {\n algorithm;\n secret \"" SECRET "\";};", 2, "one value");
  assert_refused("options { };\n", 1, "no TSIG key");
  assert_refused("key k;\n", 1, "no TSIG key");
}

static void test_tsig_key__knot_section_is_read(void **state) {
  (void)state;
  assert_key(
      "# hmac-sha256:example.key:bm8=\nkey:\n  - id: Example.Key.\n    algorithm: hmac-sha256\n    secret: " SECRET
      "\n",
      "example.key", TSIG_HMAC_SHA256);
  assert_key("---\nserver:\n    listen: 127.0.0.1@53 # id: no\n\nkey: # keys\n- id: \"k\" # name\n  secret: '" SECRET
             "'\n\n  algorithm: hmac-sha512\n- id: second\n  algorithm: hmac-md5\nzone:\n  - domain: example.com\n",
             "k", TSIG_HMAC_SHA512);
  assert_key("key:\r\n  -\r\n    id: k\r\n    algorithm: hmac-sha384\r\n    secret: " SECRET
             "\r\nacl:\r\n  - id: acl\r\n",
             "k", TSIG_HMAC_SHA384);
}

static void test_tsig_key__knot_mistakes_name_their_line(void **state) {
  (void)state;
  assert_refused("key:\n  - id: k\n    algorithm: hmac-sha256\n", 2, "no secret");
  assert_refused("key:\n  - id: k\n    secret: " SECRET "\n", 2, "no algorithm");
  assert_refused("key:\n  - algorithm: hmac-sha256\n    secret: " SECRET "\n", 2, "no name");
  assert_refused("key:\n  - id: k\n    id: k\n", 3, "twice");
  assert_refused("key:\n  - id: k\n    secrte: " SECRET "\n", 3, "nothing but");
  assert_refused("key:\n  - id: k\n    " SECRET "\n", 3, "name: value");
  assert_refused("key:\n    id: k\n", 2, "- id: NAME");
  assert_refused("server:\n  - id: k\n", 1, "no TSIG key");
  assert_refused("key:\n", 1, "no TSIG key");
  assert_refused("key: [{id: k, algorithm: hmac-sha256, secret: " SECRET "}]\n", 1, "no TSIG key");
}

static void test_tsig_key__bare_form_is_read(void **state) {
  (void)state;
  assert_key("hmac-sha256:example.key:" SECRET, "example.key", TSIG_HMAC_SHA256);
  assert_key("\n# a remark\n  HMAC-SHA512:Example.Key.:" SECRET " \r\n\n", "example.key", TSIG_HMAC_SHA512);
  assert_refused("example.key:" SECRET "\n", 1, "one is missing");
  assert_refused("# a remark\n" SECRET ":example.key:hmac-sha256\n", 2, "algorithm is none");
}

static void test_tsig_key__bare_form_takes_a_secret_with_slashes(void **state) {
  (void)state;
  static const char text[] = "hmac-sha256:k:////";
  struct tsig_key *key = NULL;
  assert_int_equal(tsig_key_parse("place", text, strlen(text), &key, NULL), 0);
  assert_int_equal(key->secret_size, 3);
  assert_memory_equal(key->secret, "\xff\xff\xff", 3);
  tsig_key_free(key);
}

static void test_tsig_key__text_without_key_is_refused(void **state) {
  (void)state;
  assert_refused("", 1, "no TSIG key");
  assert_refused(" \n\t\n# hmac-sha256:k:" SECRET "\n", 1, "no TSIG key");
  assert_refused("something else\n", 1, "no TSIG key");
}

static void test_tsig_key__weak_algorithms_are_refused_by_name(void **state) {
  (void)state;
  assert_refused("hmac-md5:k:" SECRET, 1, "hmac-md5");
  assert_refused("key k { algorithm HMAC-MD5.SIG-ALG.REG.INT; secret \"" SECRET "\"; };", 1, "hmac-md5");
  assert_refused("hmac-sha1:k:" SECRET, 1, "hmac-sha1");
  assert_refused("hmac-sha224:k:" SECRET, 1, "hmac-sha224");
  assert_refused("key k {\n algorithm hmac-sha256-128;\n secret \"" SECRET "\"; };", 2, "algorithm is none");
}

static void test_tsig_key__names_that_are_no_domain_names_are_refused(void **state) {
  (void)state;
  char text[600], label[65];
  memset(label, 'a', sizeof label - 1);
  label[sizeof label - 1] = '\0';
  assert_refused("hmac-sha256:.:" SECRET, 1, "domain name");
  assert_refused("hmac-sha256::" SECRET, 1, "domain name");
  assert_refused("hmac-sha256:a..b:" SECRET, 1, "domain name");
  assert_refused("hmac-sha256:a..:" SECRET, 1, "domain name");
  assert_refused("key \"a b\" { algorithm hmac-sha256; secret \"" SECRET "\"; };", 1, "domain name");
  assert_refused("key \"a\\.b\" { algorithm hmac-sha256; secret \"" SECRET "\"; };", 1, "domain name");
  snprintf(text, sizeof text, "hmac-sha256:%s:" SECRET, label);
  assert_refused(text, 1, "domain name");
  label[63] = '\0';
  assert_key((snprintf(text, sizeof text, "hmac-sha256:%s:" SECRET, label), text), label, TSIG_HMAC_SHA256);
  snprintf(text, sizeof text, "hmac-sha256:%s.%s.%s.%s:" SECRET, label, label, label, label);
  assert_refused(text, 1, "domain name");
}

static void test_tsig_key__base64_is_read_strictly(void **state) {
  (void)state;
  static const char *const bad[] = {"",   "=",    "====",     "A",    "AA",   "AAA",      "A===",    "QQ=",
                                    "QQ", "QR==", "QUE=QUE=", "QU E", "QUJ-", "QUJD\x01", "QQ==QQ=="};
  for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
    CLEANUP_FREE char *text = text_format("hmac-sha256:k:%s", bad[i]);
    assert_refused(text, 1, "base64");
  }
}

static void test_tsig_key__secret_has_a_maximum(void **state) {
  (void)state;
  char text[512] = "hmac-sha256:k:";
  size_t head = strlen(text);
  struct tsig_key *key = NULL;
  memset(text + head, 'A', 344);
  memcpy(text + head + 342, "==", 3); /* 256 octets */
  assert_int_equal(tsig_key_parse("place", text, strlen(text), &key, NULL), 0);
  assert_int_equal(key->secret_size, TSIG_SECRET_MAX);
  tsig_key_free(key);
  memcpy(text + head + 340, "AAA=", 5); /* 257 */
  assert_refused(text, 1, "256");
}

/* No prefix of a good file crashes, nor does one octet changed. The sanitizer watches the borders: each text is a block of its own size. */
static void test_tsig_key__damaged_files_are_harmless(void **state) {
  (void)state;
  static const char *const texts[] = {
      "/**/ key \"k\" { # x\n algorithm hmac-sha256; // y\n secret \"" SECRET "\"; };",
      "# x\nkey:\n  - id: k # y\n    algorithm: hmac-sha256\n    secret: \"" SECRET "\"\n",
      "hmac-sha256:k:" SECRET,
  };
  static const char octets[] = "\0\n\"#/*{};:- \xff";
  for (size_t t = 0; t < ARRAY_SIZE(texts); t++) {
    for (size_t size = 0; size <= strlen(texts[t]); size++) {
      for (size_t i = 0; i < sizeof octets; i++) {
        char *text = malloc(size ? size : 1);
        assert_non_null(text);
        memcpy(text, texts[t], size);
        if (size && i) text[(size * 7) % size ? (size * 7) % size : size - 1] = octets[i - 1];
        struct tsig_key *key = NULL;
        int code = tsig_key_parse("place", text, size, &key, NULL);
        assert_true(code == 0 ? key != NULL : code == ERROR_INVALID);
        tsig_key_free(key);
        free(text);
      }
    }
  }
}

/* Runs a program and returns what it wrote; caller frees. */
static char *program_output(char *const argv[]) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    execvp(argv[0], argv);
    _exit(127);
  }
  close(ends[1]);
  char *output = calloc(1, 4096);
  size_t size = 0;
  for (ssize_t got; size < 4095 && (got = read(ends[0], output + size, 4095 - size)) > 0;) size += (size_t)got;
  close(ends[0]);
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  return output;
}

static void assert_program(char *const argv[], enum tsig_algorithm algorithm, size_t secret_size) {
  CLEANUP_FREE char *output = program_output(argv);
  struct tsig_key *key = NULL;
  struct error error;
  if (tsig_key_parse(argv[0], output, strlen(output), &key, &error) < 0) fail_msg("%s\n%s", error.message, output);
  assert_string_equal(key->name, "dkim.example.com");
  assert_int_equal(key->algorithm, algorithm);
  assert_int_equal(key->secret_size, secret_size);
  tsig_key_free(key);
}

static void test_tsig_key__output_of_tsig_keygen_is_read(void **state) {
  (void)state;
  assert_program((char *[]){"tsig-keygen", "-a", "hmac-sha256", "dkim.example.com", NULL}, TSIG_HMAC_SHA256, 32);
  assert_program((char *[]){"tsig-keygen", "-a", "hmac-sha384", "dkim.example.com", NULL}, TSIG_HMAC_SHA384, 48);
  assert_program((char *[]){"tsig-keygen", "-a", "hmac-sha512", "dkim.example.com.", NULL}, TSIG_HMAC_SHA512, 64);
}

static void test_tsig_key__output_of_keymgr_is_read(void **state) {
  (void)state;
  assert_program((char *[]){"keymgr", "-t", "dkim.example.com", "hmac-sha256", NULL}, TSIG_HMAC_SHA256, 32);
  assert_program((char *[]){"keymgr", "-t", "dkim.example.com", "hmac-sha384", NULL}, TSIG_HMAC_SHA384, 48);
  assert_program((char *[]){"keymgr", "-t", "dkim.example.com", "hmac-sha512", NULL}, TSIG_HMAC_SHA512, 64);
}

/* The comment line of keymgr without its mark is the bare form: dig -y and knsupdate -y take it like that. */
static void test_tsig_key__comment_line_of_keymgr_is_the_bare_form(void **state) {
  (void)state;
  CLEANUP_FREE char *output = program_output((char *[]){"keymgr", "-t", "dkim.example.com", "hmac-sha256", NULL});
  char *newline = strchr(output, '\n');
  assert_non_null(newline);
  struct tsig_key *whole = NULL, *bare = NULL;
  assert_int_equal(tsig_key_parse("whole", output, strlen(output), &whole, NULL), 0);
  assert_true(text_starts(output, "# "));
  assert_int_equal(tsig_key_parse("bare", output + 2, (size_t)(newline - output) - 2, &bare, NULL), 0);
  assert_memory_equal(whole, bare, sizeof *whole);
  tsig_key_free(whole);
  tsig_key_free(bare);
}

struct key_file {
  struct workplace folder;
  char *path;
};

static void key_file_make(struct key_file *file, mode_t mode) {
  workplace_make(&file->folder, "/tmp");
  file->path = workplace_path(&file->folder, "tsig.key");
  workplace_write(file->path, "hmac-sha256:k:" SECRET "\n", mode);
}

static void key_file_remove(struct key_file *file) {
  workplace_remove(&file->folder);
  free(file->path);
}

static void assert_loads(const char *source) {
  struct tsig_key *key = NULL;
  struct error error;
  if (tsig_key_load(source, &key, &error) < 0) fail_msg("%s", error.message);
  assert_string_equal(key->name, "k");
  tsig_key_free(key);
}

static void assert_load_fails(const char *source, int code, const char *message, const char *remedy) {
  struct tsig_key *key = NULL;
  struct error error;
  assert_int_equal(tsig_key_load(source, &key, &error), code);
  assert_null(key);
  if (!strstr(error.message, message)) fail_msg("\"%s\" does not say \"%s\"", error.message, message);
  if (!strstr(error.remedy, remedy)) fail_msg("\"%s\" does not say \"%s\"", error.remedy, remedy);
}

static void test_tsig_key__file_is_loaded_whose_rights_are_narrow(void **state) {
  (void)state;
  static const char *const groups[] = {"root", "bind", "knot"};
  struct key_file file;
  key_file_make(&file, 0400);
  assert_loads(file.path);
  assert_int_equal(chmod(file.path, 0640), 0);
  for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
    const struct group *group = getgrnam(groups[i]);
    assert_non_null(group);
    assert_int_equal(chown(file.path, 0, group->gr_gid), 0);
    assert_loads(file.path);
  }
  /* A group that may do nothing is of no interest. */
  assert_int_equal(chown(file.path, 0, 65534), 0);
  assert_int_equal(chmod(file.path, 0600), 0);
  assert_loads(file.path);
  key_file_remove(&file);
}

static void test_tsig_key__file_that_others_can_read_is_refused_with_the_chmod_that_helps(void **state) {
  (void)state;
  struct key_file file;
  key_file_make(&file, 0644);
  CLEANUP_FREE char *remedy = text_format("chmod o= %s", file.path);
  assert_load_fails(file.path, ERROR_PERMISSION, file.path, remedy);
  assert_int_equal(chmod(file.path, 0602), 0);
  assert_load_fails(file.path, ERROR_PERMISSION, "602", remedy);
  key_file_remove(&file);
}

static void test_tsig_key__file_that_a_foreign_group_can_read_is_refused(void **state) {
  (void)state;
  const struct group *users = getgrnam("users");
  assert_non_null(users);
  struct key_file file;
  key_file_make(&file, 0640);
  CLEANUP_FREE char *remedy = text_format("chmod g= %s", file.path);
  assert_int_equal(chown(file.path, 0, users->gr_gid), 0);
  assert_load_fails(file.path, ERROR_PERMISSION, "group users", remedy);
  assert_int_equal(chown(file.path, 0, 54321), 0);
  assert_load_fails(file.path, ERROR_PERMISSION, "54321", remedy);
  key_file_remove(&file);
}

static void test_tsig_key__file_that_is_missing_or_too_large_is_refused(void **state) {
  (void)state;
  struct key_file file;
  key_file_make(&file, 0600);
  assert_int_equal(truncate(file.path, TSIG_FILE_MAX + 1), 0);
  assert_load_fails(file.path, ERROR_LIMIT, file.path, "");
  assert_int_equal(unlink(file.path), 0);
  assert_load_fails(file.path, ERROR_NOT_FOUND, file.path, "");
  key_file_remove(&file);
}

static void test_tsig_key__credential_is_loaded_and_its_rights_are_not_judged(void **state) {
  (void)state;
  struct key_file file;
  key_file_make(&file, 0644);
  assert_int_equal(setenv("CREDENTIALS_DIRECTORY", file.folder.path, 1), 0);
  assert_loads("credential:tsig.key");
  assert_load_fails("credential:other", ERROR_NOT_FOUND, "other", "");
  assert_load_fails("credential:../tsig.key", ERROR_INVALID, "without", "");
  assert_load_fails("credential:", ERROR_INVALID, "without", "");
  assert_load_fails("credential:..", ERROR_INVALID, "without", "");
  assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
  assert_load_fails("credential:tsig.key", ERROR_NOT_FOUND, "CREDENTIALS_DIRECTORY", "LoadCredential=tsig.key:");
  key_file_remove(&file);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_tsig_key__bind_clause_is_read),
      cmocka_unit_test(test_tsig_key__bind_comments_are_passed_over),
      cmocka_unit_test(test_tsig_key__bind_clauses_around_are_passed_over_and_the_first_key_is_taken),
      cmocka_unit_test(test_tsig_key__bind_mistakes_name_their_line),
      cmocka_unit_test(test_tsig_key__knot_section_is_read),
      cmocka_unit_test(test_tsig_key__knot_mistakes_name_their_line),
      cmocka_unit_test(test_tsig_key__bare_form_is_read),
      cmocka_unit_test(test_tsig_key__bare_form_takes_a_secret_with_slashes),
      cmocka_unit_test(test_tsig_key__text_without_key_is_refused),
      cmocka_unit_test(test_tsig_key__weak_algorithms_are_refused_by_name),
      cmocka_unit_test(test_tsig_key__names_that_are_no_domain_names_are_refused),
      cmocka_unit_test(test_tsig_key__base64_is_read_strictly),
      cmocka_unit_test(test_tsig_key__secret_has_a_maximum),
      cmocka_unit_test(test_tsig_key__damaged_files_are_harmless),
      cmocka_unit_test(test_tsig_key__output_of_tsig_keygen_is_read),
      cmocka_unit_test(test_tsig_key__output_of_keymgr_is_read),
      cmocka_unit_test(test_tsig_key__comment_line_of_keymgr_is_the_bare_form),
      cmocka_unit_test(test_tsig_key__file_is_loaded_whose_rights_are_narrow),
      cmocka_unit_test(test_tsig_key__file_that_others_can_read_is_refused_with_the_chmod_that_helps),
      cmocka_unit_test(test_tsig_key__file_that_a_foreign_group_can_read_is_refused),
      cmocka_unit_test(test_tsig_key__file_that_is_missing_or_too_large_is_refused),
      cmocka_unit_test(test_tsig_key__credential_is_loaded_and_its_rights_are_not_judged),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
