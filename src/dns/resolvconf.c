#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/file.h"
#include "dkimroll/zone_search.h"

/* resolv.conf(5): "nameserver ADDRESS", the address possibly with a scope that we leave to others. */
static void read_nameservers(char *text, struct address *resolvers, size_t *count) {
  char *rest = text, *line;
  struct error unused;
  while ((line = strsep(&rest, "\n")) && *count < ZONE_RESOLVERS_MAX) {
    if (strncmp(line, "nameserver", strlen("nameserver")) != 0) continue;
    char *value = line + strlen("nameserver");
    if (!isspace((unsigned char)*value)) continue;
    value += strspn(value, " \t");
    value[strcspn(value, " \t\r#;")] = '\0';
    if (address_parse(value, 53, &resolvers[*count], &unused) == 0) (*count)++;
  }
}

int zone_read_resolvers(const struct policy_publisher *publisher, struct address *resolvers, size_t *ret_count, struct error *error) {
  size_t count = 0;
  for (size_t i = 0; i < publisher->resolver_count && count < ZONE_RESOLVERS_MAX; i++) {
    int result = address_parse(publisher->resolvers[i], 53, &resolvers[count], error);
    if (result) return result;
    count++;
  }
  if (publisher->resolver_count == 0) {
    char *text = NULL;
    size_t size = 0;
    int result = file_read("/etc/resolv.conf", RESOLV_CONF_MAX, &text, &size, NULL, error);
    if (result && result != ERROR_NOT_FOUND) return result;
    if (text) read_nameservers(text, resolvers, &count);
    free(text);
    /* resolv.conf(5): without any, the local host. */
    if (count == 0 && address_parse("127.0.0.1", 53, &resolvers[count], error) == 0) count++;
  }
  *ret_count = count;
  return 0;
}
