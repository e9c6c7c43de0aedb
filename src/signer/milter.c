#include "dkimroll/milter.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

static int milter_refuse_address(const char *text, const char *why, struct error *error) {
  error_set(error, ERROR_CONFIG, "milter address \"%s\": %s", text, why);
  error_remedy(
      error,
      "write it as Socket of opendkim.conf has it, with an address in figures: inet:8891@127.0.0.1, inet6:8891@::1, or "
      "unix:/run/opendkim/opendkim.sock");
  return ERROR_CONFIG;
}

static int milter_parse_path(const char *text, const char *path, struct sockaddr_storage *ret_address,
                             socklen_t *ret_size, struct error *error) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (path[0] != '/') return milter_refuse_address(text, "the path of the socket is not absolute", error);
  if (!text_copy(address.sun_path, sizeof(address.sun_path), path))
    return milter_refuse_address(text, "the path is longer than the 107 octets that a socket's name may have", error);
  memset(ret_address, 0, sizeof(*ret_address));
  memcpy(ret_address, &address, sizeof(address));
  *ret_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
  return 0;
}

static int milter_parse_inet(const char *text, const char *port_text, int family, struct sockaddr_storage *ret_address,
                             socklen_t *ret_size, struct error *error) {
  CLEANUP_FREE char *port_only = text_duplicate(port_text);
  if (!port_only) return error_set(error, ERROR_NO_MEMORY, "milter address \"%s\": out of memory", text);
  char *host = strchr(port_only, '@');
  if (host) *host++ = '\0';
  const char *loopback = family == AF_INET ? "127.0.0.1" : "::1";
  if (!host || text_equal_nocase(host, "localhost")) host = (char *)(uintptr_t)loopback;
  long long port = 0;
  if (!text_parse_number(port_only, 1, 65535, &port))
    return milter_refuse_address(text, "the port is no number from 1 to 65535", error);
  memset(ret_address, 0, sizeof(*ret_address));
  if (family == AF_INET) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
      return milter_refuse_address(text, "that is no IPv4 address", error);
    memcpy(ret_address, &address, sizeof(address));
    *ret_size = sizeof(address);
  } else {
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET6, host, &address.sin6_addr) != 1)
      return milter_refuse_address(text, "that is no IPv6 address", error);
    memcpy(ret_address, &address, sizeof(address));
    *ret_size = sizeof(address);
  }
  return 0;
}

int milter_parse_address(const char *text, struct sockaddr_storage *ret_address, socklen_t *ret_size,
                         struct error *error) {
  if (text_starts(text, "inet:")) return milter_parse_inet(text, text + 5, AF_INET, ret_address, ret_size, error);
  if (text_starts(text, "inet6:")) return milter_parse_inet(text, text + 6, AF_INET6, ret_address, ret_size, error);
  if (text_starts(text, "unix:")) return milter_parse_path(text, text + 5, ret_address, ret_size, error);
  if (text_starts(text, "local:")) return milter_parse_path(text, text + 6, ret_address, ret_size, error);
  if (text[0] == '/') return milter_parse_path(text, text, ret_address, ret_size, error);
  return milter_refuse_address(text, "begins with none of inet:, inet6:, unix:, local:", error);
}

void milter_add_packet(struct buffer *output, char command, const void *data, size_t size) {
  buffer_add_u32(output, (uint32_t)(size + 1));
  buffer_add_u8(output, (uint8_t)command);
  buffer_add(output, data, size);
}

int milter_read_packet(const uint8_t *octets, size_t size, struct milter_packet *ret_packet) {
  struct reader reader = {.data = octets, .size = size};
  uint32_t length = reader_u32(&reader);
  if (reader.failed) return 0;
  if (length < 1 || length > MILTER_PACKET_MAX) return ERROR_PROTOCOL;
  const uint8_t *content = reader_octets(&reader, length);
  if (!content) return 0;
  *ret_packet = (struct milter_packet){.command = (char)content[0], .data = content + 1, .size = length - 1};
  return (int)(sizeof(uint32_t) + length);
}
