#include "dkimroll/policy_checks.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/policy.h"
#include "dkimroll/selector.h"
#include "dkimroll/text.h"

enum { SHOWN_SIZE = 160 };

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

/* '"TEXT" what', with remedy. */
static int refuse(const char *text, const char *what, const char *remedy, struct error *error) {
  char shown[SHOWN_SIZE];
  error_set(error, ERROR_INVALID, "\"%s\" %s", text_printable(text, strlen(text), shown, sizeof(shown)), what);
  if (error) (void)error_remedy(error, "%s", remedy);
  return ERROR_INVALID;
}

static bool consists_of(const char *text, const char *octets) {
  return text[0] && text[strspn(text, octets)] == '\0';
}

int policy_check_name(const char *text, struct error *error) {
  if (consists_of(text, LETTERS DIGITS "-_.") && strlen(text) <= POLICY_NAME_MAX) return 0;
  return refuse(text, "is no name", "use letters, digits, hyphens, underscores and dots, at most 63 in all", error);
}

/* Whether a step of the path is "step". */
static bool has_step(const char *path, const char *step) {
  const size_t size = strlen(step);
  for (const char *at = strchr(path, '/'); at; at = strchr(at + 1, '/')) {
    if (strncmp(at + 1, step, size) == 0 && (at[size + 1] == '/' || at[size + 1] == '\0')) return true;
  }
  return false;
}

int policy_check_path(const char *text, struct error *error) {
  if (text[0] != '/') return refuse(text, "is no absolute path", "begin it with /", error);
  if (strlen(text) >= PATH_MAX) return refuse(text, "is longer than a path may be", "shorten it", error);
  /* The keeper judges paths by their text, so that each file has one. */
  if (has_step(text, ".") || has_step(text, "..") || strstr(text, "//")) {
    return refuse(text, "goes through . or .. or //", "write the path straight", error);
  }
  if (text[strlen(text) - 1] == '/') return refuse(text, "ends with /", "remove the / at the end", error);
  return 0;
}

int policy_check_directory(const char *text, struct error *error) {
  /* A domain, a slash, a selector and ".private" must find room (selector.h). */
  enum { ROOM = DNS_NAME_TEXT_SIZE + SELECTOR_SIZE + 16 };
  const int checked = policy_check_path(text, error);
  if (checked < 0) return checked;
  const char *field = strchr(text, '%');
  if (strlen(text) >= PATH_MAX - ROOM) return refuse(text, "leaves no room for a file name", "shorten it", error);
  if (!field) return 0;
  if (field[1] != 'd' || strchr(field + 1, '%')) {
    return refuse(text, "has a % that is not %d, or more than one", "only %d is known here, once: the domain", error);
  }
  if (memchr(text + 1, '/', (size_t)(field - text) - 1)) return 0;
  return refuse(text, "begins with the domain", "put it below a fixed directory, as in /etc/dkimkeys/%d", error);
}

int policy_check_zone_file(const char *text, struct error *error) {
  /* Files beside it are made by file_replace (file.h). */
  enum { ROOM = DNS_NAME_TEXT_SIZE + 64 };
  const int checked = policy_check_path(text, error);
  if (checked < 0) return checked;
  if (strlen(text) >= PATH_MAX - ROOM) return refuse(text, "leaves no room for the name of a zone", "shorten it", error);
  const char *name = strrchr(text, '/') + 1;
  for (const char *field = text; (field = strchr(field, '%')); field += 2) {
    if (field[1] != 'z') return refuse(text, "has a % that is not %z", "write %z for the zone", error);
    if (field < name) return refuse(text, "has the zone in the name of a directory", "put %z behind the last /", error);
  }
  if (name - text > 1) return 0;
  return refuse(text, "lies in the root directory", "name a directory for it, as in /var/lib/bind/dkim/%z.dkim", error);
}

int policy_check_tsig_file(const char *text, struct error *error) {
  if (text_starts(text, "credential:")) {
    if (consists_of(text + strlen("credential:"), LETTERS DIGITS "-_.")) return 0;
    return refuse(text, "names no credential", "write credential:NAME with the NAME of LoadCredential=", error);
  }
  if (text[0] == '/') return policy_check_path(text, error);
  return refuse(text, "is neither a path nor a credential", "write /path/to/file or credential:NAME", error);
}

int policy_check_owner(const char *text, struct error *error) {
  const char *colon = strchr(text, ':');
  char user[SHOWN_SIZE] = "";
  if (text_copy(user, sizeof(user), text) && colon) user[colon - text] = '\0';
  const char *allowed = LETTERS DIGITS "-_.$";
  if (consists_of(user, allowed) && (!colon || consists_of(colon + 1, allowed))) return 0;
  return refuse(text, "is no owner", "write user:group, as in opendkim:opendkim", error);
}

int policy_check_key_name(const char *text, struct error *error) {
  /* No blank, colon or hash: it is the first word of a line of KeyTable, and a value of SigningTable. */
  if (!consists_of(text, LETTERS DIGITS "-_.%@")) {
    return refuse(text, "holds what a name in KeyTable may not",
                  "use letters, digits, hyphens, underscores and dots besides %s and %d", error);
  }
  bool has_domain = false;
  for (const char *field = strchr(text, '%'); field; field = strchr(field + 1, '%')) {
    if (field[1] != 'd' && field[1] != 's') {
      return refuse(text, "has a % that is neither %s nor %d", "%s is the selector and %d the domain", error);
    }
    if (field[1] == 'd') has_domain = true;
  }
  if (has_domain) return 0;
  return refuse(text, "is the same for every domain", "put %d into it, as in %s._domainkey.%d", error);
}

int policy_check_unit(const char *text, struct error *error) {
  if (consists_of(text, LETTERS DIGITS ":-_.\\@") && text_ends(text, ".service") && text[0] != '.') return 0;
  return refuse(text, "is no name of a service", "write the unit with its type, as in opendkim.service", error);
}

int policy_check_sender(const char *text, struct error *error) {
  enum { SENDER_MAX = 320 }; /* 64 octets before the @ and 255 behind it (RFC 5321 4.5.3.1) */
  for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
    if (*at > 0x20 && *at < 0x7f && *at != '#' && *at != ',') continue;
    return refuse(text, "holds a blank, #, comma or a letter beyond ASCII",
                  "write one pattern, as in *@example.com or news@example.com", error);
  }
  const char *at = strchr(text, '@');
  if (at && strchr(at + 1, '@')) return refuse(text, "has two @", "write one pattern an item", error);
  if (at && at[1] == '\0') return refuse(text, "has nothing after the @", "write the domain too", error);
  if (strlen(text) > SENDER_MAX) return refuse(text, "is longer than an address may be", "shorten it", error);
  return 0;
}

bool policy_sender_fits_file(const char *pattern) {
  if (text_equal(pattern, "*")) return true;
  const char *at = strchr(pattern, '@');
  const char *host = at ? at + 1 : pattern;
  const size_t user_size = at ? (size_t)(at - pattern) : 0;
  if (at && text_equal(host, "*")) return user_size > 0 && !memchr(pattern, '*', user_size);
  if (strchr(host, '*')) return false;
  if (!at || !memchr(pattern, '*', user_size)) return true;
  return user_size == 1; /* *@host is written as host, *@.domain as .domain */
}

bool policy_sender_fits_refile(const char *pattern) {
  const char *at = strchr(pattern, '@');
  return at ? at[1] != '.' : strchr(pattern, '*') != NULL;
}

char *policy_canonical_sender(const char *text) {
  return text[0] == '@' ? text_format("*%s", text) : text_duplicate(text);
}
