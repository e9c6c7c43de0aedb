#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "dkimroll/policy_checks.h"
#include "dkimroll/selector.h"
#include "dkimroll/text.h"

enum { SHOWN_SIZE = 160, LABEL_MAX = 63, NAME_TEXT_MAX = DNS_NAME_TEXT_SIZE - 3, PORT_MAX = 65535 };

static int refuse(const char *text, const char *what, const char *remedy, struct error *error) {
  char shown[SHOWN_SIZE];
  error_set(error, ERROR_INVALID, "\"%s\" %s", text_printable(text, strlen(text), shown, sizeof(shown)), what);
  if (error) (void)error_remedy(error, "%s", remedy);
  return ERROR_INVALID;
}

static bool is_address(int family, const char *text) {
  unsigned char octets[sizeof(struct in6_addr)];
  return inet_pton(family, text, octets) == 1;
}

static bool is_port(const char *text) {
  long long port;
  return text_parse_number(text, 1, PORT_MAX, &port);
}

/* Cuts "HOST", "HOST:PORT", "[HOST]" or "[HOST]:PORT" in place. false: none of these. */
static bool split_port(char *text, char **ret_host, char **ret_port) {
  const bool has_brackets = text[0] == '[';
  char *host = has_brackets ? text + 1 : text;
  char *end = strchr(host, has_brackets ? ']' : ':');
  if (has_brackets && (!end || (end[1] != '\0' && end[1] != ':'))) return false;
  char *colon = end && has_brackets ? end + 1 : end;
  *ret_port = colon && *colon == ':' ? colon + 1 : NULL;
  *ret_host = host;
  if (end) *end = '\0';
  return true;
}

int policy_check_address(const char *text, struct error *error) {
  char copy[SHOWN_SIZE];
  char *host;
  char *port;
  if (is_address(AF_INET6, text)) return 0;
  if (text_copy(copy, sizeof(copy), text) && split_port(copy, &host, &port) &&
      is_address(copy[0] == '[' ? AF_INET6 : AF_INET, host) && (!port || is_port(port))) {
    return 0;
  }
  return refuse(text, "is no address of a server",
                "write 192.0.2.53, 192.0.2.53:53, 2001:db8::53 or [2001:db8::53]:53; host names are not looked up here",
                error);
}

/* What is wrong with a name in which underscores are fine; NULL: nothing. */
static const char *name_fault(const char *name) {
  if (strlen(name) > NAME_TEXT_MAX) return "is longer than the 253 octets of a DNS name";
  for (const char *label = name;; label++) {
    const size_t size = strcspn(label, ".");
    if (size == 0) return "has an empty label";
    if (size > LABEL_MAX) return "has a label of more than 63 octets";
    if (strspn(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") < size) {
      return "holds something else than letters, digits, hyphens, underscores and dots";
    }
    label += size;
    if (*label == '\0') return NULL;
  }
}

int policy_check_zone(const char *text, struct error *error) {
  const char *fault = name_fault(text);
  return fault ? refuse(text, fault, "write the name of the zone, as in example.com", error) : 0;
}

int policy_check_host(const char *text, struct error *error) {
  if (is_address(AF_INET, text) || is_address(AF_INET6, text)) return 0;
  const char *fault = name_fault(text);
  return fault ? refuse(text, fault, "write the name of a server or its address without port, as in ns3.example.net",
                        error)
               : 0;
}

char *policy_canonical_name(const char *text) {
  char *name = text_duplicate(text);
  if (!name) return NULL;
  text_lower(name);
  const size_t size = strlen(name);
  if (size > 1 && name[size - 1] == '.') name[size - 1] = '\0';
  return name;
}

static int check_milter_inet(const char *text, int family, const char *rest, struct error *error) {
  char port[SHOWN_SIZE] = "";
  const char *at = strchr(rest, '@');
  const char *remedy = family == AF_INET ? "write inet:PORT@ADDRESS, as in inet:8891@127.0.0.1"
                                         : "write inet6:PORT@ADDRESS, as in inet6:8891@::1";
  if (!at) return refuse(text, "does not say at which address", remedy, error);
  if (text_copy(port, sizeof(port), rest)) port[at - rest] = '\0';
  if (!is_port(port)) return refuse(text, "has no port from 1 to 65535", remedy, error);
  if (is_address(family, at + 1) || text_equal(at + 1, "localhost")) return 0;
  return refuse(text, "has no address of that family (names other than localhost are not looked up)", remedy, error);
}

int policy_check_milter(const char *text, struct error *error) {
  if (text_starts(text, "inet:")) return check_milter_inet(text, AF_INET, text + strlen("inet:"), error);
  if (text_starts(text, "inet6:")) return check_milter_inet(text, AF_INET6, text + strlen("inet6:"), error);
  if (text_starts(text, "unix:") || text_starts(text, "local:")) {
    const char *path = strchr(text, ':') + 1;
    if (strlen(path) < sizeof(((struct sockaddr_un *)0)->sun_path)) return policy_check_path(path, error);
    return refuse(text, "is longer than a socket's path may be (107 octets)", "shorten it", error);
  }
  return refuse(text, "is no socket of a milter",
                "write it as in opendkim.conf: inet:8891@127.0.0.1, inet6:8891@::1, unix:/path or local:/path", error);
}

/* opendkim.conf(5) wants literal addresses in brackets; what is kept has none. */
char *policy_canonical_milter(const char *text) {
  char *milter = text_duplicate(text);
  const char *at = milter && text_starts(milter, "inet") ? strchr(milter, '@') : NULL;
  const size_t size = at ? strlen(at) : 0;
  if (size < 3 || at[1] != '[' || at[size - 1] != ']') return milter;
  char *address = milter + (at - milter) + 1;
  memmove(address, address + 1, size - 3);
  address[size - 3] = '\0';
  return milter;
}
