/* Key pairs: made with OpenSSL EVP, kept as PKCS#8 PEM (OpenDKIM reads PKCS#1 and PKCS#8). Only the keeper's workers call
 * this module; private keys never leave them. */
#ifndef DKIMROLL_KEYPAIR_H
#define DKIMROLL_KEYPAIR_H

#include <stddef.h>
#include <stdint.h>

#include "dkimroll/error.h"
#include "dkimroll/file.h"
#include "dkimroll/policy.h"

enum { KEYPAIR_FILE_MAX = 16 * 1024 }; /* a PEM of RSA-4096 has 3,272 octets */

/* What may be known outside of the keeper. */
struct keypair_public {
  enum key_algorithm algorithm;
  unsigned bits;
  uint8_t *public_key; /* as in struct record: SubjectPublicKeyInfo (RSA) or the raw 32 octets (Ed25519); owned */
  size_t public_key_size;
};

void keypair_public_release(struct keypair_public *key);

/* Makes a key pair and writes the private key to path with rights, under a name that must not exist: ERROR_EXISTS. RSA 2048, 3072, 4096
 * (1024 is refused: RFC 8301 3.2), e = 65537; Ed25519. Missing directories are made (0750, owner root, group of the key file).
 * Caller releases *ret_public. */
int keypair_generate(enum key_algorithm algorithm, unsigned bits, const char *path, const struct file_rights *rights,
                     struct keypair_public *ret_public, struct error *error) ERROR_USE_RESULT;

/* Reads the private key at path and derives its public half. ERROR_NOT_FOUND, ERROR_PERMISSION, ERROR_INVALID. */
int keypair_read_public(const char *path, struct keypair_public *ret_public, struct error *error) ERROR_USE_RESULT;

/* The same for a key that stands in a table itself: PEM, or the base64 of DER (opendkim.conf(5), KeyTable). ERROR_INVALID. */
int keypair_read_inline(const char *text, size_t size, struct keypair_public *ret_public, struct error *error) ERROR_USE_RESULT;

/* Puts the private key that is at source also at path, for a signer with another owner, as keypair_generate does it. The same octets at path
 * already: success. ERROR_EXISTS: others; ERROR_CONFLICT: source is a symbolic link, or no regular file of at most KEYPAIR_FILE_MAX octets. Caller releases *ret_public. */
int keypair_copy(const char *source, const char *path, const struct file_rights *rights,
                 struct keypair_public *ret_public, struct error *error) ERROR_USE_RESULT;

/* Removes the file after overwriting its octets; absent already: success. A symbolic link is refused, and so is what does not look like
 * a private key: ERROR_CONFLICT. */
int keypair_destroy(const char *path, struct error *error) ERROR_USE_RESULT;

/* Moves the file into directory (made with mode 0700 if missing) under its own name, where only our own user can read it; the same key there
 * already and none at path: success. ERROR_EXISTS: another one is there. Works across file systems; the original goes, as by
 * keypair_destroy, only when the copy is on disk. */
int keypair_archive(const char *path, const char *directory, struct error *error) ERROR_USE_RESULT;

/* The rules that OpenDKIM applies with RequireSafeKeys (opendkim.conf(5); measured in docs/architecture.md): would the signer, running as
 * reader, accept the private key at path? ERROR_PERMISSION names the very object that is wrong (file or which parent, also behind
 * symbolic links), why, and the chmod or chown that repairs it. path need not exist: then only the parents that exist are judged. Groups of
 * the reader come from the host's user database; access control lists are not looked at. */
int keypair_check_safe(const char *path, uid_t reader, gid_t reader_group, struct error *error) ERROR_USE_RESULT;

#endif
