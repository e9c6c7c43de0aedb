/* The keeper's memory of what policies granted: any file is read, or refused with the number of a line. What was read is what stands there, reads back as itself once the
 * policy's own grants are added, and adding them twice adds nothing. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/grants.h"
#include "dkimroll/text.h"
#include "fuzz.h"

static char folder[sizeof "/dev/shm/fuzz-grants-XXXXXX"];

static void remove_folder(void) {
  CLEANUP_FREE char *path = text_format("%s/" GRANTS_FILE_NAME, folder);
  if (path) unlink(path);
  rmdir(folder);
}

static void write_file(const uint8_t *data, size_t size) {
  CLEANUP_FREE char *path = text_format("%s/" GRANTS_FILE_NAME, folder);
  CLEANUP_CLOSE int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  FUZZ_HOLDS(descriptor >= 0 && write(descriptor, data, size) == (ssize_t)size, "cannot write %s", path);
}

static void expect_grants(const struct grants *grants) {
  FUZZ_HOLDS(grants->count <= GRANTS_MAX, "%zu grants", grants->count);
  for (size_t i = 0; i < grants->count; i++) {
    const struct grant *grant = &grants->items[i];
    FUZZ_HOLDS(!strchr(grant->line, '\n') && !grant->signer == !!grant->archive, "%s", grant->line);
    for (size_t j = 0; j < i; j++) FUZZ_HOLDS(!text_equal(grant->line, grants->items[j].line), "twice: %s", grant->line);
  }
}

static void expect_same(const struct grants *a, const struct grants *b) {
  FUZZ_HOLDS(a->count == b->count, "%zu grants and then %zu", a->count, b->count);
  for (size_t i = 0; i < a->count; i++) FUZZ_HOLDS(text_equal(a->items[i].line, b->items[i].line), "%s\n%s", a->items[i].line, b->items[i].line);
}

static void extend(const struct grants *read) {
  static const struct policy_signer signer = {.name = (char *)"local",
                                              .key_table = (char *)"/k/KeyTable",
                                              .signing_table = (char *)"/k/SigningTable",
                                              .key_directory = (char *)"/k/keys/%d",
                                              .key_name = (char *)"%s._domainkey.%d",
                                              .owner = (char *)"root:root",
                                              .milter = (char *)"inet:8891@127.0.0.1",
                                              .mode = 0600,
                                              .reload = RELOAD_PID_FILE,
                                              .reload_target = (char *)"/run/x.pid",
                                              .reload_timeout = 30};
  static const struct policy_rules rules = {.name = (char *)"standard", .archive_directory = (char *)"/k/archive/%d"};
  const struct policy policy = {.signers = (struct policy_signer *)(uintptr_t)&signer, .signer_count = 1, .rules = (struct policy_rules *)(uintptr_t)&rules, .rules_count = 1};
  CLEANUP(grants_release) struct grants once = {0}, twice = {0}, again = {0};
  struct error error = {0};
  const int result = grants_extend(folder, &policy, &once, &error);
  if (result) {
    fuzz_expect_error(result, &error);
    return;
  }
  FUZZ_HOLDS(once.count >= read->count && once.count <= read->count + 2, "%zu grants became %zu", read->count, once.count);
  FUZZ_HOLDS(grants_extend(folder, &policy, &twice, &error) == 0 && grants_read(folder, &again, &error) == 0, "%s", error.message);
  expect_same(&once, &twice);
  expect_same(&once, &again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  CLEANUP(grants_release) struct grants grants = {0};
  struct error error = {0};
  if (!folder[0]) {
    memcpy(folder, "/dev/shm/fuzz-grants-XXXXXX", sizeof folder);
    FUZZ_HOLDS(mkdtemp(folder), "no folder in /dev/shm");
    (void)atexit(remove_folder);
  }
  write_file(data, size);
  const int result = grants_read(folder, &grants, &error);
  if (result) {
    fuzz_expect_error(result, &error);
    FUZZ_HOLDS(grants.count == 0, "grants in spite of %s", error.message);
    return 0;
  }
  expect_grants(&grants);
  extend(&grants);
  return 0;
}
