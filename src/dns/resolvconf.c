#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"
#include "dkimroll/zone_source.h"

size_t resolvconf_parse(char *text, struct address *addresses, size_t capacity) {
  static const char keyword[] = "nameserver";
  char *rest = text, *line;
  size_t count = 0;
  struct error unused;
  while (count < capacity && (line = strsep(&rest, "\n"))) {
    char *value = line + strlen(keyword);
    if (!text_starts(line, keyword) || strspn(value, " \t") == 0) continue;
    value += strspn(value, " \t");
    value[strcspn(value, " \t\r#;")] = '\0';
    /* An address with a scope (fe80::1%eth0) is passed over, as is what is no address. */
    if (address_parse(value, ZONE_PORT, &addresses[count], &unused) == 0) count++;
  }
  return count;
}

int resolvconf_read(const char *path, struct address *addresses, size_t capacity, size_t *ret_count,
                    struct error *error) {
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  int result = file_read(path, RESOLV_CONF_MAX, &text, &size, NULL, error);
  if (result && result != ERROR_NOT_FOUND) return result;
  size_t count = text ? resolvconf_parse(text, addresses, capacity) : 0;
  if (count == 0 && capacity > 0) {
    result = address_parse("127.0.0.1", ZONE_PORT, &addresses[count++], error);
    if (result) return result;
  }
  *ret_count = count;
  return 0;
}
