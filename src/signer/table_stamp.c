#include "dkimroll/table_stamp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/evp.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"

static int describe(const char *path, char *buffer, size_t size, struct error *error) {
  struct stat status;
  if (stat(path, &status) < 0) {
    if (errno != ENOENT && errno != ENOTDIR) return error_set_errno(error, errno, "cannot look at %s", path);
    snprintf(buffer, size, "none");
    return 0;
  }
  snprintf(buffer, size, "%lld:%lld:%lld:%lld.%09ld:%lld.%09ld", (long long)status.st_size, (long long)status.st_ino, (long long)status.st_dev,
           (long long)status.st_mtim.tv_sec, status.st_mtim.tv_nsec, (long long)status.st_ctim.tv_sec, status.st_ctim.tv_nsec);
  return 0;
}

int table_files_state(const char *key_table, const char *signing_table, char state[SIGNER_STATE_SIZE], struct error *error) {
  char keys[SIGNER_STATE_SIZE / 2], signing[SIGNER_STATE_SIZE / 2];
  int result = describe(key_table, keys, sizeof keys, error);
  if (!result) result = describe(signing_table, signing, sizeof signing, error);
  if (!result) snprintf(state, SIGNER_STATE_SIZE, "%.120s %.120s", keys, signing);
  return result;
}

/* A table that is not there has no content; its length goes in first, so that no octet can move from one file to the other. */
static int add_file(EVP_MD_CTX *digest, const char *path, struct error *error) {
  CLEANUP_FREE char *data = NULL;
  size_t size = 0;
  char length[32];
  struct error failure = {0};
  int result = file_read(path, TABLE_FILE_MAX, &data, &size, NULL, &failure);
  if (result && result != ERROR_NOT_FOUND) {
    if (error) *error = failure;
    return result;
  }
  snprintf(length, sizeof length, "%zu ", size);
  if (EVP_DigestUpdate(digest, length, strlen(length)) != 1 || EVP_DigestUpdate(digest, data ? data : "", size) != 1)
    return error_set(error, ERROR_INTERNAL, "OpenSSL does not take %s into a digest", path);
  return 0;
}

static void digest_free(EVP_MD_CTX **digest) { EVP_MD_CTX_free(*digest); }

static int digest_files(const struct table_files *files, char text[SIGNER_DIGEST_SIZE], struct error *error) {
  CLEANUP(digest_free) EVP_MD_CTX *digest = EVP_MD_CTX_new();
  uint8_t octets[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (!digest || EVP_DigestInit_ex(digest, EVP_sha256(), NULL) != 1) return error_set(error, ERROR_NO_MEMORY, "out of memory for a digest");
  int result = add_file(digest, files->key_table, error);
  if (!result) result = add_file(digest, files->signing_table, error);
  if (result) return result;
  if (EVP_DigestFinal_ex(digest, octets, &size) != 1 || size * 2 + 1 > SIGNER_DIGEST_SIZE)
    return error_set(error, ERROR_INTERNAL, "OpenSSL cannot finish a digest");
  for (unsigned i = 0; i < size; i++) snprintf(text + (size_t)2 * i, 3, "%02x", octets[i]);
  return 0;
}

int table_files_stamp(const struct table_files *files, const char *known_state, struct signer_stamp *ret_stamp, struct error *error) {
  struct signer_stamp stamp = {0};
  /* The state comes first: what changes between both makes the next look read again. */
  int result = table_files_state(files->key_table, files->signing_table, stamp.state, error);
  if (!result && !text_equal(stamp.state, known_state)) result = digest_files(files, stamp.digest, error);
  if (!result) *ret_stamp = stamp;
  return result;
}
