/* OpenSSL that wanted for memory as it began is of no use for the rest of the process. Whoever is told that it began well reads, makes and checks keys. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/keypair.h"
#include "dkimroll/openssl_memory.h"
#include "dkimroll/record.h"
#include "openssl_allocator.h"
#include "workplace.h"

/* How a process ends. */
enum { WELL = 0, REFUSED = 10, HARMED = 11, NEVER_FAILED = 12 };

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

static int live(unsigned long nth, const char *const *files, const char *made) {
  struct error error = {0};
  openssl_allocations_begin(nth, 1);
  const int result = openssl_begin(&error);
  if (openssl_count < nth) return NEVER_FAILED;
  if (result) return error.code == ERROR_SYSTEM && error.remedy[0] ? REFUSED : HARMED;
  return reads(files[0]) && reads(files[1]) && makes(made) ? WELL : HARMED;
}

static int in_a_process_of_its_own(unsigned long nth, const char *const *files, const char *made) {
  int status = 0;
  const pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    signal(SIGSEGV, SIG_DFL); /* which OpenSSL may come to as it begins: that process makes nothing, and the next one does */
    _exit(live(nth, files, made));
  }
  assert_int_equal(waitpid(pid, &status, 0), pid);
  unlink(made);
  return WIFEXITED(status) ? WEXITSTATUS(status) : REFUSED;
}

static void write_keys(const char *const *files) {
  const pid_t pid = fork(); /* OpenSSL must not have begun in this process */
  assert_true(pid >= 0);
  if (pid == 0) {
    const struct file_rights own = {.owner = geteuid(), .group = getegid(), .mode = 0600};
    struct keypair_public key = {0};
    struct error error = {0};
    int result = keypair_generate(KEY_ALGORITHM_ED25519, 256, files[0], &own, &key, &error);
    if (!result) result = keypair_generate(KEY_ALGORITHM_RSA, 2048, files[1], &own, &key, &error);
    _exit(result ? 1 : 0);
  }
  int status = 0;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
}

static void test_openssl_memory__who_begins_well_reads_and_makes_keys(void **state) {
  (void)state;
  enum { STRIDE = 97 }; /* one in seven takes a minute, and none of those does harm */
  CLEANUP(workplace_remove) struct workplace workplace;
  workplace_make(&workplace, "/tmp");
  CLEANUP_FREE char *one = workplace_path(&workplace, "ed.private");
  CLEANUP_FREE char *other = workplace_path(&workplace, "rsa.private");
  CLEANUP_FREE char *made = workplace_path(&workplace, "made.private");
  const char *const files[] = {one, other};
  unsigned refused = 0, well = 0;
  write_keys(files);
  assert_int_equal(in_a_process_of_its_own(0, files, made), WELL);
  for (unsigned long nth = 1;; nth += STRIDE) {
    const int end = in_a_process_of_its_own(nth, files, made);
    if (end == NEVER_FAILED) break;
    if (end == HARMED) fail_msg("OpenSSL that lacked its allocation %lu at its beginning does harm", nth);
    refused += end == REFUSED;
    well += end == WELL;
  }
  assert_true(refused > 0);
  assert_true(well > 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_openssl_memory__who_begins_well_reads_and_makes_keys),
  };
  /* Before the first allocation of OpenSSL, or not at all. */
  if (!openssl_allocator_install()) return 1;
  return cmocka_run_group_tests(tests, NULL, NULL);
}
