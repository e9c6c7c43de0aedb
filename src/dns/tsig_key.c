/* TSIG keys: from where, with which rights, and whether what was found is a key that we may use. */
#include <ctype.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include <openssl/crypto.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"
#include "dkimroll/tsig.h"
#include "dkimroll/tsig_key_text.h"
#include "dkimroll/tsig_wire.h"

static void cleanup_key(struct tsig_key **key) {
  tsig_key_free(*key);
}

void tsig_key_free(struct tsig_key *key) {
  if (!key) return;
  OPENSSL_cleanse(key, sizeof *key);
  free(key);
}

static int read_name(const char *place, const struct tsig_slice *slice, struct tsig_key *key, struct error *error) {
  size_t size = slice->size;
  if (size && slice->data[size - 1] == '.') size--;
  bool good = size > 0 && size < sizeof key->name && slice->data[size - 1] != '.'; /* one final dot, and no more */
  for (size_t i = 0; good && i < size; i++) {
    unsigned char c = (unsigned char)slice->data[i];
    good = isgraph(c) && !strchr("\\\":;{}", c);
    key->name[i] = (char)tolower(c);
  }
  struct tsig_name name;
  if (good && tsig_name_from_text(key->name, &name)) return 0;
  error_set(error, ERROR_INVALID, "%s:%u: the key's name is not a domain name", place, slice->line);
  error_remedy(error, "write it as the server has it, without escapes: at most 63 characters between dots, 253 in all");
  return ERROR_INVALID;
}

static int read_algorithm(const char *place, const struct tsig_slice *slice, struct tsig_key *key,
                          struct error *error) {
  static const struct {
    const char *name;
    const char *reason;
  } refused[] = {{"hmac-md5.sig-alg.reg.int", "hmac-md5 must not be used (RFC 8945 6)"},
                 {"hmac-md5", "hmac-md5 must not be used (RFC 8945 6)"},
                 {"hmac-sha1", "hmac-sha1 is no longer recommended (RFC 8945 6) and not accepted here"},
                 {"hmac-sha224", "hmac-sha224 is seldom implemented and not accepted here"}};
  const struct tsig_hash *hash = tsig_hash_find_name(slice->data, slice->size);
  if (hash) {
    key->algorithm = hash->algorithm;
    return 0;
  }
  const char *reason = "the algorithm is none that is accepted here";
  for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
    if (slice->size == strlen(refused[i].name) && strncasecmp(slice->data, refused[i].name, slice->size) == 0)
      reason = refused[i].reason;
  error_set(error, ERROR_INVALID, "%s:%u: %s", place, slice->line, reason);
  error_remedy(error, "use hmac-sha256, hmac-sha384 or hmac-sha512, on the server too; \"tsig-keygen -a hmac-sha256 "
                      "NAME\" or \"keymgr -t NAME hmac-sha256\" makes a key");
  return ERROR_INVALID;
}

static int base64_value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  return c == '/' ? 63 : -1;
}

/* RFC 4648 4 to the letter, straight into the key: EVP_DecodeBlock passes over white space, and counts padding as octets. */
static bool decode_secret(const struct tsig_slice *slice, struct tsig_key *key) {
  size_t digits = slice->size;
  while (digits && slice->size - digits < 2 && slice->data[digits - 1] == '=') digits--;
  if (!digits || slice->size % 4 != 0 || digits * 3 / 4 > sizeof key->secret) return false;
  unsigned bits = 0, pending = 0;
  key->secret_size = 0;
  for (size_t i = 0; i < digits; i++) {
    int value = base64_value(slice->data[i]);
    if (value < 0) return false;
    pending = (pending << 6 | (unsigned)value) & 0xffff;
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    key->secret[key->secret_size++] = (uint8_t)(pending >> bits);
  }
  return (pending & ((1U << bits) - 1)) == 0; /* what padding covers must be zero */
}

int tsig_key_parse(const char *place, const char *text, size_t size, struct tsig_key **ret_key, struct error *error) {
  struct tsig_key_text found;
  if (size > TSIG_FILE_MAX) {
    error_set(error, ERROR_INVALID, "%s: more than %d octets", place, TSIG_FILE_MAX);
    error_remedy(error, "put the key into a file of its own, as tsig-keygen and keymgr write it");
    return ERROR_INVALID;
  }
  int code = tsig_key_text_find(place, text, size, &found, error);
  if (code < 0) return code;
  CLEANUP(cleanup_key) struct tsig_key *key = calloc(1, sizeof *key);
  if (!key) return error_set(error, ERROR_NO_MEMORY, "%s: out of memory", place);
  code = read_name(place, &found.name, key, error);
  if (code == 0) code = read_algorithm(place, &found.algorithm, key, error);
  if (code < 0) return code;
  if (!decode_secret(&found.secret, key)) {
    error_set(error, ERROR_INVALID, "%s:%u: the secret is not base64 of 1 to %d octets", place, found.secret.line,
              TSIG_SECRET_MAX);
    error_remedy(error, "copy the whole secret, with the \"=\" at its end, and without spaces");
    return ERROR_INVALID;
  }
  *ret_key = TAKE_PTR(key);
  return 0;
}

/* The groups are those under which the usual servers and dkimroll itself run. */
static bool group_is_trusted(gid_t group) {
  static const char *const trusted[] = {"root", "bind", "knot", "dkimroll"};
  if (group == 0) return true;
  const struct group *entry = getgrgid(group);
  for (size_t i = 0; entry && i < ARRAY_SIZE(trusted); i++)
    if (text_equal(entry->gr_name, trusted[i])) return true;
  return false;
}

static int check_rights(const char *path, const struct stat *status, struct error *error) {
  if (status->st_mode & (S_IROTH | S_IWOTH)) {
    error_set(error, ERROR_PERMISSION, "%s: everybody may read or write the TSIG secret (mode %03o)", path,
              (unsigned)status->st_mode & 0777);
    error_remedy(error, "chmod o= %s; whoever has an account here may know the secret by now: make a new one", path);
    return ERROR_PERMISSION;
  }
  if (status->st_mode & (S_IRGRP | S_IWGRP) && !group_is_trusted(status->st_gid)) {
    const struct group *entry = getgrgid(status->st_gid);
    error_set(error, ERROR_PERMISSION, "%s: group %s (%u) may read or write the TSIG secret (mode %03o)", path,
              entry ? entry->gr_name : "without name", (unsigned)status->st_gid, (unsigned)status->st_mode & 0777);
    error_remedy(error, "chmod g= %s, or give it to root, bind, knot or dkimroll: chgrp dkimroll %s", path, path);
    return ERROR_PERMISSION;
  }
  return 0;
}

/* The path of a credential (systemd.exec(5)). Caller frees. */
static int find_credential(const char *name, char **ret_path, struct error *error) {
  if (!*name || strchr(name, '/') || text_equal(name, ".") || text_equal(name, ".."))
    return error_set(error, ERROR_INVALID, "\"credential:%s\": a credential has a name without \"/\"", name);
  const char *directory = secure_getenv("CREDENTIALS_DIRECTORY");
  if (!directory || !*directory) {
    error_set(error, ERROR_NOT_FOUND, "credential:%s: $CREDENTIALS_DIRECTORY is not set", name);
    error_remedy(error,
                 "start dkimroll by systemd with LoadCredential=%s:/path/to/key in its unit, or give a path "
                 "instead",
                 name);
    return ERROR_NOT_FOUND;
  }
  char *path = text_format("%s/%s", directory, name);
  if (!path) return error_set(error, ERROR_NO_MEMORY, "credential:%s: out of memory", name);
  *ret_path = path;
  return 0;
}

int tsig_key_load(const char *source, struct tsig_key **ret_key, struct error *error) {
  static const char prefix[] = "credential:";
  bool credential = text_starts(source, prefix);
  CLEANUP_FREE char *path = NULL;
  int code = credential ? find_credential(source + sizeof prefix - 1, &path, error) : 0;
  if (code < 0) return code;
  if (!credential && !(path = text_duplicate(source)))
    return error_set(error, ERROR_NO_MEMORY, "%s: out of memory", source);
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  struct stat status;
  code = file_read(path, TSIG_FILE_MAX, &text, &size, &status, error);
  if (code == ERROR_PERMISSION && credential)
    error_remedy(error, "systemd gives a credential to the user of the unit alone: start it as dkimroll (User=), a command by hand with systemd-run as dkimroll(8) tells");
  else if (code == ERROR_PERMISSION)
    error_remedy(error, "let dkimroll's user read it, and no others: chgrp dkimroll %s; chmod 0640 %s", path, path);
  if (code < 0) return code;
  if (!credential) code = check_rights(path, &status, error);
  if (code == 0) code = tsig_key_parse(source, text, size, ret_key, error);
  OPENSSL_cleanse(text, size);
  return code;
}
