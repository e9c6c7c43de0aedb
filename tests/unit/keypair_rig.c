#include "keypair_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/stat.h>

const struct file_rights own_rights = {.owner = 0, .group = 0, .mode = 0600};

void assert_done(int result, const struct error *error) {
  if (result != 0) fail_msg("%s: %s", error_code_name(result), error->message);
}

void make_ed25519(const char *path, struct keypair_public *ret_public) {
  struct error error = {0};
  assert_done(keypair_generate(KEY_ALGORITHM_ED25519, 256, path, &own_rights, ret_public, &error), &error);
}

char *read_text(const char *path) {
  char *text = NULL;
  size_t size = 0;
  struct error error = {0};
  assert_done(file_read(path, KEYPAIR_FILE_MAX, &text, &size, NULL, &error), &error);
  return text;
}

bool exists(const char *path) {
  struct stat status;
  return lstat(path, &status) == 0;
}
