/* Private keys as they are found: in files, and in a KeyTable itself. Any octets are a key, or refused; no message holds them. A file that is no private key is not destroyed, and one that is
 * leaves nothing behind. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/keypair.h"
#include "dkimroll/text.h"
#include "fuzz.h"

enum { SECRET_PART = 16 }; /* octets that come into a message by chance no more */

static struct {
  char folder[sizeof "/dev/shm/fuzz-key-XXXXXX"];
  char *path, *copy;
} bench;

static void bench_end(void) {
  unlink(bench.path);
  unlink(bench.copy);
  rmdir(bench.folder);
  free(bench.path);
  free(bench.copy);
}

static void bench_open(void) {
  memcpy(bench.folder, "/dev/shm/fuzz-key-XXXXXX", sizeof bench.folder);
  FUZZ_HOLDS(mkdtemp(bench.folder), "no folder in /dev/shm");
  bench.path = text_format("%s/key", bench.folder);
  bench.copy = text_format("%s/copy", bench.folder);
  FUZZ_HOLDS(bench.path && bench.copy, "no memory");
  (void)atexit(bench_end);
}

static void write_file(const uint8_t *data, size_t size) {
  CLEANUP_CLOSE int descriptor = open(bench.path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  FUZZ_HOLDS(descriptor >= 0 && write(descriptor, data, size) == (ssize_t)size, "cannot write %s", bench.path);
}

static void expect_no_secret(const struct error *error, const uint8_t *data, size_t size) {
  const char *texts[] = {error->message, error->remedy};
  for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
    for (size_t at = 0; at + SECRET_PART <= size; at += SECRET_PART / 2)
      FUZZ_HOLDS(!memmem(texts[i], strlen(texts[i]), data + at, SECRET_PART), "octets of the key in: %s", texts[i]);
}

static void expect_public(const struct keypair_public *key) {
  FUZZ_HOLDS(key->public_key && key->public_key_size > 0 && key->bits > 0, "a key without a public half");
  FUZZ_HOLDS(key->algorithm == KEY_ALGORITHM_RSA || (key->algorithm == KEY_ALGORITHM_ED25519 && key->public_key_size == 32), "algorithm %d", (int)key->algorithm);
}

static void expect_refused(int result, const struct keypair_public *key, const struct error *error, const struct fuzz_input *input) {
  fuzz_expect_error(result, error);
  FUZZ_HOLDS(!key->public_key, "a key in spite of %s", error->message);
  expect_no_secret(error, input->data, input->size);
}

static bool read_file(const struct fuzz_input *input) {
  const struct file_rights rights = {.owner = geteuid(), .group = getegid(), .mode = 0600};
  CLEANUP(keypair_public_release) struct keypair_public key = {0}, copied = {0};
  struct error error = {0};
  const int result = keypair_read_public(bench.path, &key, &error);
  if (result) {
    expect_refused(result, &key, &error, input);
    FUZZ_HOLDS(keypair_copy(bench.path, bench.copy, &rights, &copied, NULL) < 0 && access(bench.copy, F_OK) < 0, "what is no key was copied");
    return false;
  }
  expect_public(&key);
  FUZZ_HOLDS(keypair_copy(bench.path, bench.copy, &rights, &copied, &error) == 0, "%s", error.message);
  FUZZ_HOLDS(copied.public_key_size == key.public_key_size && memcmp(copied.public_key, key.public_key, key.public_key_size) == 0, "the copy is another key");
  unlink(bench.copy);
  return true;
}

static void read_inline(const struct fuzz_input *input) {
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  CLEANUP_FREE char *text = fuzz_text(input->data, input->size);
  struct error error = {0};
  const int result = keypair_read_inline(text, input->size, &key, &error);
  if (result)
    expect_refused(result, &key, &error, input);
  else
    expect_public(&key);
}

static void destroy(const struct fuzz_input *input, bool is_key) {
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  struct error error = {0};
  const int result = keypair_destroy(bench.path, &error);
  if (result == 0) {
    FUZZ_HOLDS(access(bench.path, F_OK) < 0, "what was destroyed is there");
    return;
  }
  fuzz_expect_error(result, &error);
  expect_no_secret(&error, input->data, input->size);
  FUZZ_HOLDS(!is_key, "a key that was read is not destroyed: %s", error.message);
  FUZZ_HOLDS(file_read(bench.path, 1 << 20, &text, &size, NULL, &error) == 0 && size == input->size && (size == 0 || memcmp(text, input->data, size) == 0), "somebody's file was changed");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const struct fuzz_input input = {data, size};
  if (!bench.path) bench_open();
  write_file(data, size);
  const bool is_key = read_file(&input);
  read_inline(&input);
  destroy(&input, is_key);
  return 0;
}
