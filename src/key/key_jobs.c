#include "dkimroll/key_jobs.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/key_roots.h"
#include "dkimroll/text.h"

/* The file to be made, as GENERATE and COPY both want it. */
static void key_jobs_add_target(struct buffer *payload, const struct key_generate_request *request) {
  buffer_add_text_field(payload, request->path);
  buffer_add_text_field(payload, request->owner);
  buffer_add_u32(payload, request->mode);
}

void key_jobs_generate(struct buffer *payload, const struct key_generate_request *request) {
  buffer_add_u8(payload, (uint8_t)request->algorithm);
  buffer_add_u32(payload, request->bits);
  key_jobs_add_target(payload, request);
}

void key_jobs_copy(struct buffer *payload, const char *source, const struct key_generate_request *request) {
  buffer_add_text_field(payload, source);
  key_jobs_add_target(payload, request);
}

void key_jobs_path(struct buffer *payload, const char *path) {
  buffer_add_text_field(payload, path);
}

void key_jobs_archive(struct buffer *payload, const char *path, const char *directory) {
  buffer_add_text_field(payload, path);
  buffer_add_text_field(payload, directory);
}

void key_jobs_check(struct buffer *payload, const char *path, const char *owner) {
  buffer_add_text_field(payload, path);
  buffer_add_text_field(payload, owner);
}

static void key_jobs_reply_public(struct buffer *reply, const struct keypair_public *key) {
  buffer_add_u8(reply, (uint8_t)key->algorithm);
  buffer_add_u32(reply, key->bits);
  buffer_add_field(reply, key->public_key, key->public_key_size);
}

int key_jobs_read_public(const uint8_t *reply, size_t reply_size, struct keypair_public *ret_public,
                         struct error *error) {
  struct reader reader = {.data = reply, .size = reply_size};
  struct keypair_public key = {.algorithm = (enum key_algorithm)reader_u8(&reader)};
  key.bits = reader_u32(&reader);
  const uint8_t *octets = reader_field(&reader, &key.public_key_size);
  bool known = key.algorithm == KEY_ALGORITHM_RSA || key.algorithm == KEY_ALGORITHM_ED25519;
  if (!octets || key.public_key_size == 0 || reader.position != reader.size || !known) {
    return error_set(error, ERROR_PROTOCOL, "the keeper's answer holds no public key");
  }
  key.public_key = malloc(key.public_key_size);
  if (!key.public_key) return error_set(error, ERROR_NO_MEMORY, "out of memory while a public key was read");
  memcpy(key.public_key, octets, key.public_key_size);
  *ret_public = key;
  return 0;
}

static int key_jobs_refuse(const struct reader *request, struct error *error) {
  return reader_refuse(request, "a job on a private key", error);
}

static int key_jobs_refuse_request(const struct reader *request, struct error *error) {
  return !request->failed && request->position == request->size ? 0 : key_jobs_refuse(request, error);
}

/* The path of a file in one of the roots, normalised. */
static int key_jobs_take_path(const struct key_roots *roots, struct reader *request, char **ret_path,
                              struct error *error) {
  CLEANUP_FREE char *given = reader_text_field(request);
  CLEANUP_FREE char *path = NULL;
  if (!given) return key_jobs_refuse(request, error);
  int result = key_path_normalise(given, &path, error);
  if (result < 0) return result;
  CLEANUP_FREE char *directory = strndup(path, (size_t)(strrchr(path, '/') - path));
  if (!directory) return error_set(error, ERROR_NO_MEMORY, "out of memory at the path %s", path);
  result = key_roots_check(roots, directory, error);
  if (result < 0) return result;
  *ret_path = TAKE_PTR(path);
  return 0;
}

/* "user:group", or nothing for the worker's own. */
static int key_jobs_find_owner(const char *owner, uid_t *ret_owner, gid_t *ret_group, struct error *error) {
  if (owner[0] != '\0') return file_parse_owner(owner, ret_owner, ret_group, error);
  *ret_owner = geteuid();
  *ret_group = getegid();
  return 0;
}

static int key_jobs_take_owner(struct reader *request, uid_t *ret_owner, gid_t *ret_group, struct error *error) {
  CLEANUP_FREE char *owner = reader_text_field(request);
  if (!owner) return key_jobs_refuse(request, error);
  return key_jobs_find_owner(owner, ret_owner, ret_group, error);
}

/* What a repetition after a crash finds. */
static int key_jobs_read_existing(const char *path, enum key_algorithm algorithm, unsigned bits,
                                  struct keypair_public *ret_public, struct error *error) {
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  int result = keypair_read_public(path, &key, error);
  if (result < 0) return result;
  if (key.algorithm != algorithm || key.bits != bits) {
    error_set(error, ERROR_EXISTS, "%s holds a key of another kind already, which is never overwritten", path);
    error_remedy(error, "move that file away, or change the selector in the policy");
    return ERROR_EXISTS;
  }
  /* The attempt that made it may have been killed before its last step. */
  result = file_sync(path, error);
  if (result < 0) return result;
  *ret_public = key;
  key.public_key = NULL;
  return 0;
}

/* Whom the policy gives keys to at path, and nobody else. */
static int key_jobs_check_rights(const struct key_roots *roots, const char *path, const char *owner, mode_t mode,
                                 struct error *error) {
  CLEANUP_FREE char *directory = strndup(path, (size_t)(strrchr(path, '/') - path));
  if (!directory) return error_set(error, ERROR_NO_MEMORY, "out of memory at the path %s", path);
  return key_roots_check_rights(roots, directory, owner, mode, error);
}

/* Reads what key_jobs_add_target wrote, which ends the request. */
static int key_jobs_take_target(const struct key_roots *roots, struct reader *request, char **ret_path,
                                struct file_rights *ret_rights, struct error *error) {
  CLEANUP_FREE char *path = NULL;
  struct file_rights rights = {0};
  int result = key_jobs_take_path(roots, request, &path, error);
  if (result < 0) return result;
  CLEANUP_FREE char *owner = reader_text_field(request);
  rights.mode = reader_u32(request);
  if (!owner) return key_jobs_refuse(request, error);
  result = key_jobs_refuse_request(request, error);
  if (result < 0) return result;
  if ((rights.mode & ~(mode_t)(S_IRWXU | S_IRWXG)) != 0) {
    return error_set(error, ERROR_INVALID, "the mode %04o would open the private key %s to other users", rights.mode,
                     path);
  }
  result = key_jobs_check_rights(roots, path, owner, rights.mode, error);
  if (result == 0) result = key_jobs_find_owner(owner, &rights.owner, &rights.group, error);
  if (result < 0) return result;
  *ret_path = TAKE_PTR(path);
  *ret_rights = rights;
  return 0;
}

static int key_jobs_run_generate(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  CLEANUP_FREE char *path = NULL;
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  struct file_rights rights;
  enum key_algorithm algorithm = (enum key_algorithm)reader_u8(request);
  unsigned bits = reader_u32(request);
  int result = key_jobs_take_target(context, request, &path, &rights, error);
  if (result < 0) return result;
  /* Looked at first, since a key pair takes long to make; keypair_generate itself does not overwrite either. */
  if (access(path, F_OK) == 0)
    result = ERROR_EXISTS;
  else
    result = keypair_generate(algorithm, bits, path, &rights, &key, error);
  if (result == ERROR_EXISTS) result = key_jobs_read_existing(path, algorithm, bits, &key, error);
  if (result == 0) key_jobs_reply_public(reply, &key);
  return result;
}

static int key_jobs_run_copy(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  CLEANUP_FREE char *source = NULL;
  CLEANUP_FREE char *real = NULL;
  CLEANUP_FREE char *path = NULL;
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  struct file_rights rights;
  int result = key_jobs_take_path(context, request, &source, error);
  if (result == 0) result = key_jobs_take_target(context, request, &path, &rights, error);
  if (result == 0) result = key_roots_resolve_file(context, source, &real, error);
  if (result == 0) result = keypair_copy(real, path, &rights, &key, error);
  if (result == 0) key_jobs_reply_public(reply, &key);
  return result;
}

static int key_jobs_run_read_public(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  CLEANUP_FREE char *path = NULL;
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  int result = key_jobs_take_path(context, request, &path, error);
  if (result == 0) result = key_jobs_refuse_request(request, error);
  if (result == 0) result = keypair_read_public(path, &key, error);
  if (result == 0) key_jobs_reply_public(reply, &key);
  return result;
}

static int key_jobs_run_destroy(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  (void)reply;
  CLEANUP_FREE char *path = NULL;
  int result = key_jobs_take_path(context, request, &path, error);
  if (result == 0) result = key_jobs_refuse_request(request, error);
  return result < 0 ? result : keypair_destroy(path, error);
}

static int key_jobs_run_archive(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  (void)reply;
  CLEANUP_FREE char *path = NULL;
  int result = key_jobs_take_path(context, request, &path, error);
  CLEANUP_FREE char *given = result == 0 ? reader_text_field(request) : NULL;
  CLEANUP_FREE char *directory = NULL;
  if (result == 0) result = key_jobs_refuse_request(request, error);
  if (result == 0) result = key_path_normalise(given, &directory, error);
  if (result == 0) result = key_roots_check(context, directory, error);
  return result < 0 ? result : keypair_archive(path, directory, error);
}

static int key_jobs_run_check(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  (void)reply;
  CLEANUP_FREE char *path = NULL;
  uid_t reader = 0;
  gid_t reader_group = 0;
  int result = key_jobs_take_path(context, request, &path, error);
  if (result == 0) result = key_jobs_take_owner(request, &reader, &reader_group, error);
  if (result == 0) result = key_jobs_refuse_request(request, error);
  return result < 0 ? result : keypair_check_safe(path, reader, reader_group, error);
}

size_t key_jobs_handlers(const struct key_roots *roots, struct keeper_handler *handlers) {
  const struct keeper_handler all[] = {
      {.job = KEEPER_GENERATE, .run = key_jobs_run_generate},
      {.job = KEEPER_READ_PUBLIC, .run = key_jobs_run_read_public},
      {.job = KEEPER_DESTROY, .run = key_jobs_run_destroy},
      {.job = KEEPER_ARCHIVE, .run = key_jobs_run_archive},
      {.job = KEEPER_CHECK_KEY, .run = key_jobs_run_check},
      {.job = KEEPER_COPY, .run = key_jobs_run_copy},
  };
  _Static_assert(ARRAY_SIZE(all) == KEY_JOBS_COUNT, "callers have room for so many");
  for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
    handlers[i] = all[i];
    handlers[i].context = (void *)roots; /* the handlers only read it */
  }
  return ARRAY_SIZE(all);
}
