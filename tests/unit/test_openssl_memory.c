/* OpenSSL that wanted for memory as it began is of no use for the rest of the process. Whoever is told that it began well reads, makes and checks keys, verifies signatures, and
 * signs with TSIG. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "dkim_signer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/dkim_signature.h"
#include "dkimroll/keypair.h"
#include "dkimroll/openssl_memory.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"
#include "dkimroll/tsig.h"
#include "openssl_allocator.h"
#include "workplace.h"

/* How a process ends. */
enum { WELL = 0, REFUSED = 10, HARMED = 11, NEVER_FAILED = 12 };

/* What signed mail brings along; made by another process, since OpenSSL must not have begun in this one. */
struct mail {
  char record[1024], signature[1024];
};
static const char *const FIELDS[] = {"From: Anna <anna@example.com>", "To: bob@example.net"};
static const char BODY[] = "Hello\r\n";
enum { NOW = 1800000000 };

static struct span span_of(const char *text) { return (struct span){text, strlen(text)}; }

static void sign_mail(struct mail mails[2]) {
  for (int ed25519 = 0; ed25519 < 2; ed25519++) {
    EVP_PKEY *key = dkim_signer_key(ed25519, 0);
    text_copy(mails[ed25519].record, sizeof mails[ed25519].record, dkim_signer_record(key));
    text_copy(mails[ed25519].signature, sizeof mails[ed25519].signature, dkim_signer_sign_plainly(key, "example.com", "sel", FIELDS, ARRAY_SIZE(FIELDS), BODY));
  }
}

static bool verifies(const struct mail *mail) {
  const struct span fields[] = {span_of(FIELDS[0]), span_of(FIELDS[1])};
  const struct dkim_message message = {.fields = fields, .field_count = ARRAY_SIZE(fields), .body = span_of(BODY)};
  struct error error = {0};
  return dkim_signature_verify(&message, span_of(mail->signature), span_of(mail->record), NOW, &error) == DKIM_VALID;
}

static bool authenticates(void) {
  static const enum tsig_algorithm algorithms[] = {TSIG_HMAC_SHA256, TSIG_HMAC_SHA384, TSIG_HMAC_SHA512};
  bool all = true;
  for (size_t i = 0; i < ARRAY_SIZE(algorithms); i++) {
    const struct tsig_key key = {.name = "dkim-key", .algorithm = algorithms[i], .secret = "secret", .secret_size = 6};
    uint8_t message[512] = {0};
    size_t size = 12; /* a header */
    struct tsig_mac mac;
    struct error error = {0};
    all &= tsig_sign(&key, NOW, message, &size, sizeof message, &mac, &error) == 0;
  }
  return all;
}

static bool reads(const char *path) {
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  CLEANUP_FREE char *record = NULL;
  struct error error = {0};
  bool holds = false;
  return keypair_read_public(path, &key, &error) == 0 && record_build(key.algorithm, key.public_key, key.public_key_size, &record, &error) == 0 &&
         record_holds(record, key.algorithm, key.public_key, key.public_key_size, &holds, &error) == 0 && holds;
}

static bool makes(const char *path) {
  const struct file_rights own = {.owner = geteuid(), .group = getegid(), .mode = 0600};
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  struct error error = {0};
  return keypair_generate(KEY_ALGORITHM_ED25519, 256, path, &own, &key, &error) == 0;
}

struct uses {
  const char *files[2];
  const char *made;
  struct mail *mails;
};

static bool works_with_keys(const struct uses *uses) {
  unlink(uses->made);
  return reads(uses->files[0]) & reads(uses->files[1]) & makes(uses->made);
}

static bool works_for_the_loop(const struct uses *uses) { return verifies(&uses->mails[0]) & verifies(&uses->mails[1]) & authenticates(); }

/* The nth allocation fails as OpenSSL begins. */
static int begin_without(unsigned long nth, const struct uses *uses) {
  struct error error = {0};
  openssl_allocations_begin(nth, 1);
  const int result = openssl_begin(&error);
  if (openssl_count < nth) return NEVER_FAILED;
  if (result) return error.code == ERROR_SYSTEM && error.remedy[0] ? REFUSED : HARMED;
  return works_with_keys(uses) && works_for_the_loop(uses) ? WELL : HARMED;
}

/* The nth allocation fails in the first use. */
static int use_without(unsigned long nth, bool (*works)(const struct uses *uses), const struct uses *uses) {
  struct error error = {0};
  if (openssl_begin(&error)) return HARMED;
  openssl_allocations_begin(nth, 1);
  const bool worked = works(uses);
  if (openssl_count < nth) return NEVER_FAILED;
  return !works(uses) ? HARMED : worked ? WELL : REFUSED;
}

static int use_keys_without(unsigned long nth, const struct uses *uses) { return use_without(nth, works_with_keys, uses); }
static int loop_without(unsigned long nth, const struct uses *uses) { return use_without(nth, works_for_the_loop, uses); }

static int in_a_process_of_its_own(int (*live)(unsigned long nth, const struct uses *uses), unsigned long nth, const struct uses *uses) {
  int status = 0;
  const pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    signal(SIGSEGV, SIG_DFL); /* which OpenSSL may come to as it begins: that process makes nothing, and the next one does */
    _exit(live(nth, uses));
  }
  assert_int_equal(waitpid(pid, &status, 0), pid);
  unlink(uses->made);
  return WIFEXITED(status) ? WEXITSTATUS(status) : REFUSED;
}

static void prepare(const struct uses *uses) {
  const pid_t pid = fork(); /* OpenSSL must not have begun in this process */
  assert_true(pid >= 0);
  if (pid == 0) {
    const struct file_rights own = {.owner = geteuid(), .group = getegid(), .mode = 0600};
    struct keypair_public key = {0};
    struct error error = {0};
    int result = keypair_generate(KEY_ALGORITHM_ED25519, 256, uses->files[0], &own, &key, &error);
    if (!result) result = keypair_generate(KEY_ALGORITHM_RSA, 2048, uses->files[1], &own, &key, &error);
    sign_mail(uses->mails);
    _exit(result ? 1 : 0);
  }
  int status = 0;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
}

static void try_all(int (*live)(unsigned long nth, const struct uses *uses), unsigned long stride) {
  CLEANUP(workplace_remove) struct workplace workplace;
  workplace_make(&workplace, "/tmp");
  CLEANUP_FREE char *one = workplace_path(&workplace, "ed.private");
  CLEANUP_FREE char *other = workplace_path(&workplace, "rsa.private");
  CLEANUP_FREE char *made = workplace_path(&workplace, "made.private");
  const struct uses uses = {.files = {one, other},
                            .made = made,
                            .mails = mmap(NULL, 2 * sizeof(struct mail), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)};
  unsigned refused = 0, well = 0;
  assert_true(uses.mails != MAP_FAILED);
  prepare(&uses);
  assert_int_equal(in_a_process_of_its_own(begin_without, 0, &uses), WELL);
  for (unsigned long nth = 1;; nth += stride) {
    const int end = in_a_process_of_its_own(live, nth, &uses);
    if (end == NEVER_FAILED) break;
    if (end == HARMED) fail_msg("OpenSSL that lacked its allocation %lu does harm", nth);
    refused += end == REFUSED;
    well += end == WELL;
  }
  assert_true(refused > 0);
  assert_true(well > 0);
  munmap(uses.mails, 2 * sizeof(struct mail));
}

static void test_openssl_memory__who_begins_well_is_of_full_use(void **state) {
  (void)state;
  try_all(begin_without, 97); /* one in seven takes minutes, and none of those does harm */
}

static void test_openssl_memory__what_fails_for_want_of_memory_works_the_next_time(void **state) {
  (void)state;
  try_all(use_keys_without, 211);
  try_all(loop_without, 5);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_openssl_memory__who_begins_well_is_of_full_use),
      cmocka_unit_test(test_openssl_memory__what_fails_for_want_of_memory_works_the_next_time),
  };
  /* Before the first allocation of OpenSSL, or not at all. */
  if (!openssl_allocator_install()) return 1;
  return cmocka_run_group_tests(tests, NULL, NULL);
}
