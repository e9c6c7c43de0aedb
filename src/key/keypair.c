#include "dkimroll/keypair.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/openssl_memory.h"
#include "dkimroll/tag_list.h"
#include "dkimroll/text.h"

enum {
  KEYPAIR_DIRECTORY_MODE = 0750, /* the signer's group passes, nobody else looks */
  KEYPAIR_ARCHIVE_DIRECTORY_MODE = 0700,
  KEYPAIR_ARCHIVE_MODE = 0600, /* a retired key is for no signer any more */
  KEYPAIR_REASON_MAX = 256,    /* what OpenSSL says, as it writes it */
};

/* The octets of a private key file, cleansed when they go. */
struct keypair_secret {
  char *octets;
  size_t size;
};

static void keypair_secret_release(struct keypair_secret *secret) {
  if (secret->octets) OPENSSL_cleanse(secret->octets, secret->size);
  free(secret->octets);
  *secret = (struct keypair_secret){0};
}

static void cleanup_pkey(EVP_PKEY **key) {
  EVP_PKEY_free(*key);
}
static void cleanup_bio(BIO **bio) {
  BIO_free(*bio);
}

void keypair_public_release(struct keypair_public *key) {
  if (!key) return;
  free(key->public_key);
  *key = (struct keypair_public){0};
}

/* Reports the oldest error that OpenSSL holds, which is the cause of the others, and forgets them all. */
static int keypair_set_openssl(struct error *error, int code, const char *what) {
  char reason[KEYPAIR_REASON_MAX] = "unknown reason";
  unsigned long number = ERR_get_error();
  if (number != 0) ERR_error_string_n(number, reason, sizeof(reason));
  ERR_clear_error();
  return error_set(error, code, "%s: %s", what, reason);
}

/* error may be NULL, and then error_context knows no code. */
static int keypair_add_path(struct error *error, const char *path, int code) {
  error_context(error, "private key %s", path);
  return code;
}

static int keypair_check_request(enum key_algorithm algorithm, unsigned bits, struct error *error) {
  bool known = (algorithm == KEY_ALGORITHM_RSA && (bits == 2048 || bits == 3072 || bits == 4096)) ||
               (algorithm == KEY_ALGORITHM_ED25519 && bits == 256);
  if (known) return 0;
  error_set(error, ERROR_INVALID, "keys of %u bits are not made for %s", bits,
            algorithm == KEY_ALGORITHM_RSA       ? "rsa"
            : algorithm == KEY_ALGORITHM_ED25519 ? "ed25519"
                                                 : "this algorithm");
  error_remedy(error, "use rsa with 2048, 3072 or 4096 bits (RFC 8301 3.2), or ed25519");
  return ERROR_INVALID;
}

static int keypair_make(enum key_algorithm algorithm, unsigned bits, EVP_PKEY **ret_key, struct error *error) {
  /* Both take e = 65537 where there is an exponent to choose. */
  EVP_PKEY *key = algorithm == KEY_ALGORITHM_RSA ? EVP_RSA_gen(bits) : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
  if (!key) return keypair_set_openssl(error, ERROR_SYSTEM, "OpenSSL did not make a key pair");
  *ret_key = key;
  return 0;
}

/* The public half in the form that a record carries. */
static int keypair_derive_rsa(EVP_PKEY *key, struct keypair_public *public_half, struct error *error) {
  unsigned char *encoded = NULL;
  int size = i2d_PUBKEY(key, &encoded);
  if (size <= 0) return keypair_set_openssl(error, ERROR_SYSTEM, "OpenSSL did not write the public key");
  public_half->public_key = malloc((size_t)size);
  if (public_half->public_key) memcpy(public_half->public_key, encoded, (size_t)size);
  public_half->public_key_size = (size_t)size;
  OPENSSL_free(encoded);
  return public_half->public_key ? 0 : error_set(error, ERROR_NO_MEMORY, "out of memory while a key was read");
}

static int keypair_derive_ed25519(EVP_PKEY *key, struct keypair_public *public_half, struct error *error) {
  size_t size = 0;
  if (EVP_PKEY_get_raw_public_key(key, NULL, &size) != 1) {
    return keypair_set_openssl(error, ERROR_SYSTEM, "OpenSSL did not write the public key");
  }
  public_half->public_key = malloc(size);
  if (!public_half->public_key) return error_set(error, ERROR_NO_MEMORY, "out of memory while a key was read");
  if (EVP_PKEY_get_raw_public_key(key, public_half->public_key, &size) != 1) {
    return keypair_set_openssl(error, ERROR_SYSTEM, "OpenSSL did not write the public key");
  }
  public_half->public_key_size = size;
  return 0;
}

static int keypair_derive(EVP_PKEY *key, struct keypair_public *ret_public, struct error *error) {
  CLEANUP(keypair_public_release) struct keypair_public public_half = {.bits = (unsigned)EVP_PKEY_get_bits(key)};
  int result = 0;
  /* By its name: EVP_PKEY_is_a looks the name up, and says "no" if memory runs out meanwhile. */
  const char *type = EVP_PKEY_get0_type_name(key);
  if (text_equal(type, "RSA")) {
    public_half.algorithm = KEY_ALGORITHM_RSA;
    result = keypair_derive_rsa(key, &public_half, error);
  } else if (text_equal(type, "ED25519")) {
    public_half.algorithm = KEY_ALGORITHM_ED25519;
    public_half.bits = 256; /* as the policy counts it; OpenSSL says 253, the order of the group */
    result = keypair_derive_ed25519(key, &public_half, error);
  } else {
    result = error_set(error, ERROR_INVALID, "a key for %s is of no use for DKIM", type ? type : "something unknown");
  }
  if (result < 0) return result;
  *ret_public = public_half;
  public_half.public_key = NULL;
  return 0;
}

static int keypair_write(EVP_PKEY *key, const char *path, const struct file_rights *rights, struct error *error) {
  /* A memory BIO cleanses what it held when it grows and when it is freed. */
  CLEANUP(cleanup_bio) BIO *pem = BIO_new(BIO_s_mem());
  if (!pem || PEM_write_bio_PKCS8PrivateKey(pem, key, NULL, NULL, 0, NULL, NULL) != 1) {
    return keypair_set_openssl(error, ERROR_SYSTEM, "OpenSSL did not write the private key");
  }
  char *octets = NULL;
  long size = BIO_get_mem_data(pem, &octets);
  return file_create(path, octets, (size_t)size, rights, error);
}

/* The directory that holds path; caller frees. */
static int keypair_parent(const char *path, char **ret_parent, struct error *error) {
  const char *slash = strrchr(path, '/');
  if (path[0] != '/' || slash[1] == '\0' || strlen(path) >= PATH_MAX) {
    return error_set(error, ERROR_INVALID, "%s is not the absolute path of a file", path);
  }
  char *parent = slash == path ? text_duplicate("/") : strndup(path, (size_t)(slash - path));
  if (!parent) return error_set(error, ERROR_NO_MEMORY, "out of memory at the path %s", path);
  *ret_parent = parent;
  return 0;
}

/* The directories above path, for the signer's group to pass. */
static int keypair_make_parents(const char *path, const struct file_rights *rights, struct error *error) {
  CLEANUP_FREE char *parent = NULL;
  int result = keypair_parent(path, &parent, error);
  if (result < 0) return result;
  const struct file_rights own = {.owner = geteuid(), .group = rights->group, .mode = KEYPAIR_DIRECTORY_MODE};
  result = file_make_directories(parent, &own, error);
  return result < 0 ? keypair_add_path(error, path, result) : 0;
}

int keypair_generate(enum key_algorithm algorithm, unsigned bits, const char *path, const struct file_rights *rights,
                     struct keypair_public *ret_public, struct error *error) {
  int result = keypair_check_request(algorithm, bits, error);
  if (result == 0) result = keypair_make_parents(path, rights, error);
  if (result < 0) return result;

  CLEANUP(cleanup_pkey) EVP_PKEY *key = NULL;
  CLEANUP(keypair_public_release) struct keypair_public public_half = {0};
  result = keypair_make(algorithm, bits, &key, error);
  if (result == 0) result = keypair_derive(key, &public_half, error);
  if (result == 0) result = keypair_write(key, path, rights, error);
  if (result < 0) return keypair_add_path(error, path, result);
  *ret_public = public_half;
  public_half.public_key = NULL;
  return 0;
}

/* Without it OpenSSL would ask for the passphrase on the terminal, and wait. */
static int keypair_refuse_passphrase(char *buffer, int size, int writing, void *context) {
  (void)buffer, (void)size, (void)writing, (void)context;
  return -1;
}

static EVP_PKEY *keypair_decode_pem(const char *text, size_t size, bool *ret_lacked) {
  CLEANUP(cleanup_bio) BIO *pem = BIO_new_mem_buf(text, (int)size);
  EVP_PKEY *key = pem ? PEM_read_bio_PrivateKey(pem, NULL, keypair_refuse_passphrase, NULL) : NULL;
  *ret_lacked = openssl_lacked_memory() || !pem;
  return key;
}

/* A key is lost if its file is damaged, and a new one is made for it, so a want of memory must not look like that. */
static int keypair_decode(const char *path, const struct keypair_secret *secret, EVP_PKEY **ret_key, struct error *error) {
  bool lacked = false;
  for (int i = 0; i < OPENSSL_ATTEMPTS && !lacked; i++) {
    EVP_PKEY *key = keypair_decode_pem(secret->octets, secret->size, &lacked);
    if (!key) continue;
    *ret_key = key;
    return 0;
  }
  if (lacked) return error_set(error, ERROR_NO_MEMORY, "%s: out of memory", path);
  error_set(error, ERROR_INVALID, "%s holds no private key in PEM without a passphrase", path);
  error_remedy(error, "put the private key back from a backup, or rotate to a new key");
  return ERROR_INVALID;
}

static int keypair_parse(const char *path, const struct keypair_secret *secret, struct keypair_public *ret_public,
                         struct error *error) {
  CLEANUP(cleanup_pkey) EVP_PKEY *key = NULL;
  const int result = keypair_decode(path, secret, &key, error);
  return result < 0 ? result : keypair_derive(key, ret_public, error);
}

int keypair_read_public(const char *path, struct keypair_public *ret_public, struct error *error) {
  CLEANUP(keypair_secret_release) struct keypair_secret secret = {0};
  int result = file_read(path, KEYPAIR_FILE_MAX, &secret.octets, &secret.size, NULL, error);
  if (result == 0) return keypair_parse(path, &secret, ret_public, error);
  error_context(error, "private key");
  return result;
}

/* *ret_lacked: memory ran out, so it may be a key all the same. */
static EVP_PKEY *keypair_decode_der(const char *text, size_t size, bool *ret_lacked) {
  CLEANUP(keypair_secret_release) struct keypair_secret der = {.octets = calloc(1, size + 1), .size = size};
  *ret_lacked = !der.octets;
  if (!der.octets || !span_decode((struct span){.text = text, .size = size}, (uint8_t *)der.octets, &size)) return NULL;
  const unsigned char *place = (const unsigned char *)der.octets;
  EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &place, (long)size);
  *ret_lacked = openssl_lacked_memory();
  return key;
}

int keypair_read_inline(const char *text, size_t size, struct keypair_public *ret_public, struct error *error) {
  bool lacked = false;
  if (size > KEYPAIR_FILE_MAX) return error_set(error, ERROR_INVALID, "a private key of more than %d octets", KEYPAIR_FILE_MAX);
  CLEANUP(cleanup_pkey) EVP_PKEY *key = keypair_decode_pem(text, size, &lacked);
  if (!key && !lacked) key = keypair_decode_der(text, size, &lacked);
  if (key) return keypair_derive(key, ret_public, error);
  if (lacked) return error_set(error, ERROR_NO_MEMORY, "out of memory while a private key was read");
  return error_set(error, ERROR_INVALID, "neither a path nor a private key in PEM or base64");
}

/* Creates path, which may hold the same octets already from an attempt that did not come to its end. */
static int keypair_create_copy(const struct keypair_secret *secret, const char *path, const struct file_rights *rights,
                               struct error *error) {
  int result = file_create(path, secret->octets, secret->size, rights, error);
  if (result != ERROR_EXISTS) return result;
  CLEANUP(keypair_secret_release) struct keypair_secret present = {0};
  result = file_read(path, KEYPAIR_FILE_MAX, &present.octets, &present.size, NULL, error);
  if (result < 0) return result;
  if (present.size == secret->size && CRYPTO_memcmp(present.octets, secret->octets, secret->size) == 0)
    return file_sync(path, error);
  error_set(error, ERROR_EXISTS, "%s holds another key already", path);
  error_remedy(error, "move that file away; a private key is never overwritten");
  return ERROR_EXISTS;
}

static int keypair_refuse_foreign(const char *path, struct error *error) {
  return error_set(error, ERROR_CONFLICT, "%s is not a private key and is left as it is", path);
}

/* Opens the file itself and not what a link points to, since its octets or its name are about to go. */
static int keypair_open_own(const char *path, int *ret_descriptor, struct stat *ret_status, struct error *error) {
  CLEANUP_CLOSE int descriptor = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  struct stat status;
  if (descriptor < 0 && errno == ELOOP) {
    error_set(error, ERROR_CONFLICT, "%s is a symbolic link and not the private key that was made there", path);
    error_remedy(error, "look where it points to, remove the link, and repeat");
    return ERROR_CONFLICT;
  }
  if (descriptor < 0) return error_set_errno(error, errno, "cannot open the private key %s", path);
  if (fstat(descriptor, &status) < 0) return error_set_errno(error, errno, "cannot look at the private key %s", path);
  if (!S_ISREG(status.st_mode) || status.st_size > KEYPAIR_FILE_MAX) return keypair_refuse_foreign(path, error);
  *ret_descriptor = TAKE_FD(descriptor);
  *ret_status = status;
  return 0;
}

/* Opens the same file once more, for writing. A key of mode 0400 is its owner's to change, but not to write. */
static int keypair_open_again(const char *path, int descriptor, const struct stat *status, int *ret_writable,
                              struct error *error) {
  if (status->st_uid == geteuid() && fchmod(descriptor, S_IRUSR | S_IWUSR) < 0) {
    return error_set_errno(error, errno, "cannot make the private key %s writable", path);
  }
  CLEANUP_CLOSE int writable = open(path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  struct stat again;
  if (writable < 0 || fstat(writable, &again) < 0) {
    return error_set_errno(error, errno, "cannot overwrite the private key %s", path);
  }
  if (again.st_dev != status->st_dev || again.st_ino != status->st_ino) {
    return error_set(error, ERROR_CONFLICT, "%s was replaced while it was to be destroyed", path);
  }
  *ret_writable = TAKE_FD(writable);
  return 0;
}

static bool keypair_looks_private(const struct keypair_secret *content) {
  return content->octets && memmem(content->octets, content->size, "PRIVATE KEY-----", strlen("PRIVATE KEY-----")) != NULL;
}

/* What a destruction leaves that did not come to its end: zeros, or zeros in some sectors and PEM in the others if the power went. */
static bool keypair_looks_destroyed(const struct keypair_secret *content) {
  static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=- \r\n";
  size_t zeros = 0;
  for (size_t i = 0; i < content->size; i++) {
    zeros += content->octets[i] == '\0';
    if (content->octets[i] && !strchr(letters, content->octets[i])) return false;
  }
  return zeros > 0 || content->size == 0;
}

/* Anything else is somebody's file. */
static bool keypair_looks_destroyable(const struct keypair_secret *content) {
  return keypair_looks_private(content) || keypair_looks_destroyed(content);
}

static int keypair_read_full(int descriptor, const char *path, size_t size, struct keypair_secret *ret_secret,
                             struct error *error) {
  CLEANUP(keypair_secret_release) struct keypair_secret secret = {.octets = calloc(1, size + 1), .size = size};
  if (!secret.octets) return error_set(error, ERROR_NO_MEMORY, "out of memory at the private key %s", path);
  size_t done = 0;
  while (done < size) {
    ssize_t got = pread(descriptor, secret.octets + done, size - done, (off_t)done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return error_set_errno(error, errno, "cannot read the private key %s", path);
    if (got == 0) break;
    done += (size_t)got;
  }
  *ret_secret = secret;
  secret.octets = NULL;
  return 0;
}

static int keypair_overwrite(int descriptor, const char *path, size_t size, struct error *error) {
  static const char zeros[KEYPAIR_FILE_MAX];
  size_t done = 0;
  while (done < size) {
    ssize_t put = pwrite(descriptor, zeros, size - done, (off_t)done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return error_set_errno(error, errno, "cannot overwrite the private key %s", path);
    done += (size_t)put;
  }
  if (fsync(descriptor) < 0) return error_set_errno(error, errno, "cannot overwrite the private key %s", path);
  return 0;
}

/* Opens and reads what is to be destroyed or archived. */
static int keypair_take(const char *path, int *ret_descriptor, struct stat *ret_status,
                        struct keypair_secret *ret_secret, struct error *error) {
  CLEANUP_CLOSE int descriptor = -1;
  struct stat status = {0};
  int result = keypair_open_own(path, &descriptor, &status, error);
  if (result != 0) return result;
  result = keypair_read_full(descriptor, path, (size_t)status.st_size, ret_secret, error);
  if (result != 0) return result;
  *ret_descriptor = TAKE_FD(descriptor);
  *ret_status = status;
  return 0;
}

/* There is no file; an attempt that was killed may have removed it, and not made that durable. */
static int keypair_sync_absence(const char *path, struct error *error) {
  struct error reason = {0};
  int result = file_sync_parent(path, &reason);
  /* Without the directory there is no file either, and in one that may not be read we removed nothing. */
  if (result == ERROR_NOT_FOUND || result == ERROR_PERMISSION) return 0;
  if (result < 0 && error) *error = reason;
  return result;
}

int keypair_destroy(const char *path, struct error *error) {
  CLEANUP(keypair_secret_release) struct keypair_secret content = {0};
  CLEANUP_CLOSE int descriptor = -1;
  CLEANUP_CLOSE int writable = -1;
  struct stat status = {0};
  struct error reason = {0};
  int result = keypair_take(path, &descriptor, &status, &content, &reason);
  if (result == ERROR_NOT_FOUND) return keypair_sync_absence(path, error);
  if (result == 0 && !keypair_looks_destroyable(&content)) result = keypair_refuse_foreign(path, &reason);
  if (result == 0) result = keypair_open_again(path, descriptor, &status, &writable, &reason);
  if (result == 0) result = keypair_overwrite(writable, path, content.size, &reason);
  if (result == 0 && unlink(path) < 0)
    result = error_set_errno(&reason, errno, "cannot remove the private key %s", path);
  if (result == 0) result = file_sync_parent(path, &reason);
  if (result < 0 && error) *error = reason;
  return result;
}

int keypair_copy(const char *source, const char *path, const struct file_rights *rights,
                 struct keypair_public *ret_public, struct error *error) {
  CLEANUP(keypair_secret_release) struct keypair_secret secret = {0};
  CLEANUP(keypair_public_release) struct keypair_public public_half = {0};
  CLEANUP_CLOSE int descriptor = -1;
  struct stat status = {0};
  int result = keypair_take(source, &descriptor, &status, &secret, error);
  if (result == 0) result = keypair_parse(source, &secret, &public_half, error);
  if (result == 0) result = keypair_make_parents(path, rights, error);
  if (result == 0) result = keypair_create_copy(&secret, path, rights, error);
  if (result < 0) return result;
  *ret_public = public_half;
  public_half.public_key = NULL;
  return 0;
}

int keypair_archive(const char *path, const char *directory, struct error *error) {
  CLEANUP_FREE char *parent = NULL;
  int result = keypair_parent(path, &parent, error);
  if (result < 0) return result;
  CLEANUP_FREE char *place = text_format("%s%s", directory, strrchr(path, '/'));
  if (!place) return error_set(error, ERROR_NO_MEMORY, "out of memory at the path %s", path);

  CLEANUP(keypair_secret_release) struct keypair_secret secret = {0};
  CLEANUP_CLOSE int descriptor = -1;
  struct stat status = {0};
  result = keypair_take(path, &descriptor, &status, &secret, error);
  bool archived = access(place, F_OK) == 0;
  /* The original goes when the copy is durable, and not before. */
  if (result == ERROR_NOT_FOUND && archived) return keypair_sync_absence(path, error);
  if (result < 0) return result;
  /* Zeros, also only some: an earlier attempt made the copy, and stopped while it destroyed the original. */
  if (keypair_looks_destroyed(&secret) && archived) return keypair_destroy(path, error);
  if (keypair_looks_destroyed(&secret) || !keypair_looks_private(&secret)) return keypair_refuse_foreign(path, error);
  struct file_rights rights = {.owner = geteuid(), .group = getegid(), .mode = KEYPAIR_ARCHIVE_DIRECTORY_MODE};
  result = file_make_directories(directory, &rights, error);
  rights.mode = KEYPAIR_ARCHIVE_MODE;
  if (result == 0) result = keypair_create_copy(&secret, place, &rights, error);
  if (result < 0) return keypair_add_path(error, path, result);
  return keypair_destroy(path, error);
}
