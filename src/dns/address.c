/* Addresses between text, octets and sockets. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "dkimroll/text.h"
#include "dkimroll/transport.h"

void address_from_octets(const uint8_t *octets, size_t size, uint16_t port, struct address *ret_address) {
  *ret_address = (struct address){.size = 0};
  if (size == sizeof(struct in_addr)) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    memcpy(&in.sin_addr, octets, sizeof in.sin_addr);
    memcpy(&ret_address->storage, &in, sizeof in);
    ret_address->size = sizeof in;
  } else if (size == sizeof(struct in6_addr)) {
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    memcpy(&in6.sin6_addr, octets, sizeof in6.sin6_addr);
    memcpy(&ret_address->storage, &in6, sizeof in6);
    ret_address->size = sizeof in6;
  }
}

/* Splits text into host and, where it has one, port. A bare IPv6 address has more than one colon and no port. false: it cannot be
 * split so. */
static bool split_port(const char *text, char *host, size_t host_size, long long *port) {
  const char *begin = text;
  const char *end = text + strlen(text);
  const char *port_text = NULL;
  if (*text == '[') {
    begin = text + 1;
    const char *bracket = strchr(text, ']');
    if (!bracket || (bracket[1] && bracket[1] != ':')) return false;
    if (bracket[1]) port_text = bracket + 2;
    end = bracket;
  } else {
    const char *colon = strchr(text, ':');
    if (colon && !strchr(colon + 1, ':')) {
      port_text = colon + 1;
      end = colon;
    }
  }
  size_t size = (size_t)(end - begin);
  if (size >= host_size) return false;
  memcpy(host, begin, size);
  host[size] = '\0';
  return !port_text || text_parse_number(port_text, 1, UINT16_MAX, port);
}

int address_parse(const char *text, uint16_t default_port, struct address *ret_address, struct error *error) {
  char host[INET6_ADDRSTRLEN];
  long long port = default_port;
  uint8_t octets[sizeof(struct in6_addr)];
  bool split = split_port(text, host, sizeof host, &port);
  if (split && *text != '[' && inet_pton(AF_INET, host, octets) == 1) {
    address_from_octets(octets, sizeof(struct in_addr), (uint16_t)port, ret_address);
    return 0;
  }
  if (split && inet_pton(AF_INET6, host, octets) == 1) {
    address_from_octets(octets, sizeof(struct in6_addr), (uint16_t)port, ret_address);
    return 0;
  }
  char printable[ADDRESS_TEXT_SIZE];
  error_set(error, ERROR_INVALID, "\"%s\" is not an IPv4 or IPv6 address",
            text_printable(text, strlen(text), printable, sizeof printable));
  error_remedy(error,
               "write 192.0.2.53, 192.0.2.53:5300, 2001:db8::53 or [2001:db8::53]:5300; a host name will not do");
  return ERROR_INVALID;
}

const char *address_format(const struct address *address, char buffer[ADDRESS_TEXT_SIZE]) {
  char host[INET6_ADDRSTRLEN];
  struct sockaddr_in in;
  struct sockaddr_in6 in6;
  memcpy(&in, &address->storage, sizeof in);
  memcpy(&in6, &address->storage, sizeof in6);
  if (address->storage.ss_family == AF_INET && inet_ntop(AF_INET, &in.sin_addr, host, sizeof host))
    snprintf(buffer, ADDRESS_TEXT_SIZE, "%s:%u", host, ntohs(in.sin_port));
  else if (address->storage.ss_family == AF_INET6 && inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof host))
    snprintf(buffer, ADDRESS_TEXT_SIZE, "[%s]:%u", host, ntohs(in6.sin6_port));
  else
    snprintf(buffer, ADDRESS_TEXT_SIZE, "no address");
  return buffer;
}

bool address_equal(const struct address *a, const struct address *b) {
  struct sockaddr_in in_a, in_b;
  struct sockaddr_in6 in6_a, in6_b;
  if (a->storage.ss_family != b->storage.ss_family) return false;
  if (a->storage.ss_family == AF_INET) {
    memcpy(&in_a, &a->storage, sizeof in_a);
    memcpy(&in_b, &b->storage, sizeof in_b);
    return in_a.sin_port == in_b.sin_port && in_a.sin_addr.s_addr == in_b.sin_addr.s_addr;
  }
  memcpy(&in6_a, &a->storage, sizeof in6_a);
  memcpy(&in6_b, &b->storage, sizeof in6_b);
  return in6_a.sin6_port == in6_b.sin6_port && in6_a.sin6_scope_id == in6_b.sin6_scope_id &&
         memcmp(&in6_a.sin6_addr, &in6_b.sin6_addr, sizeof in6_a.sin6_addr) == 0;
}
