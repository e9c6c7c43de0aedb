#include "dkimroll/zone_source.h"

#include <stdlib.h>

#include "dkimroll/buffer.h"
#include "dkimroll/clock.h"
#include "dkimroll/text.h"

enum { IDENTITY_MAX = 3 * POLICY_SERVERS_MAX * ADDRESS_TEXT_SIZE };

#define RESOLV_CONF "/etc/resolv.conf"

static int make_identity(const struct policy_publisher *publisher, char **ret_identity, struct error *error) {
  struct buffer buffer = BUFFER_WITH_MAXIMUM(IDENTITY_MAX);
  buffer_format(&buffer, "%s", publisher->server ? publisher->server : "");
  for (size_t i = 0; i < publisher->server_count; i++) buffer_format(&buffer, " %s", publisher->servers[i]);
  buffer_add_text(&buffer, ";");
  for (size_t i = 0; i < publisher->resolver_count; i++) buffer_format(&buffer, " %s", publisher->resolvers[i]);
  *ret_identity = buffer_take_text(&buffer);
  if (*ret_identity) return 0;
  if (buffer.no_memory || !buffer.failed) return error_set(error, ERROR_NO_MEMORY, "publisher %s: out of memory", publisher->name);
  return error_set(error, ERROR_LIMIT, "publisher %s: too many addresses", publisher->name);
}

static int read_servers(struct zone_source *source, const struct policy_publisher *publisher, struct error *error) {
  if (publisher->server_count > ZONE_SERVERS_MAX)
    return error_set(error, ERROR_LIMIT, "publisher %s: %zu servers, more than %d", publisher->name,
                     publisher->server_count, ZONE_SERVERS_MAX);
  source->servers = calloc(publisher->server_count + 1, sizeof *source->servers);
  if (!source->servers) return error_set(error, ERROR_NO_MEMORY, "out of memory for the servers of a publisher");
  for (size_t i = 0; i < publisher->server_count; i++) {
    struct zone_server *server = &source->servers[i];
    text_copy(server->host, sizeof server->host, publisher->servers[i]);
    int result = address_parse(publisher->servers[i], ZONE_PORT, &server->address, error);
    if (result) return result;
  }
  source->server_count = publisher->server_count;
  return publisher->server ? address_parse(publisher->server, ZONE_PORT, &source->server, error) : 0;
}

static int read_resolvers(struct zone_source *source, const struct policy_publisher *publisher, int64_t now,
                          struct error *error) {
  source->until = TIME_NEVER;
  for (size_t i = 0; i < publisher->resolver_count && i < POLICY_SERVERS_MAX; i++) {
    int result = address_parse(publisher->resolvers[i], ZONE_PORT, &source->resolvers[i], error);
    if (result) return result;
    source->resolver_count = i + 1;
  }
  if (publisher->resolver_count > 0) return 0;
  source->until = now + (int64_t)ZONE_CACHE_SECONDS * 1000;
  int result = resolvconf_read(RESOLV_CONF, source->resolvers, POLICY_SERVERS_MAX, &source->resolver_count, error);
  /* Who gives servers may never need a resolver. */
  return source->server_count > 0 || source->server.size > 0 ? 0 : result;
}

struct zone_source *zone_source_reference(struct zone_source *source) {
  source->references++;
  return source;
}

void zone_source_release(struct zone_source *source) {
  if (!source || --source->references > 0) return;
  LIST_REMOVE(source, next);
  free(source->identity);
  free(source->servers);
  free(source);
}

int zone_source_get(struct zone_sources *sources, const struct policy_publisher *publisher, int64_t now,
                    struct zone_source **ret_source, struct error *error) {
  char *identity = NULL;
  struct zone_source *source;
  int code = make_identity(publisher, &identity, error);
  if (code) return code;
  LIST_FOREACH(source, sources, next) {
    if (source->until <= now || !text_equal(source->identity, identity)) continue;
    free(identity);
    *ret_source = zone_source_reference(source);
    return 0;
  }
  source = calloc(1, sizeof *source);
  if (!source) {
    free(identity);
    return error_set(error, ERROR_NO_MEMORY, "out of memory for the servers of a publisher");
  }
  source->identity = identity;
  source->references = 1;
  LIST_INSERT_HEAD(sources, source, next);
  int result = read_servers(source, publisher, error);
  if (!result) result = read_resolvers(source, publisher, now, error);
  if (result) {
    zone_source_release(source);
    return result;
  }
  *ret_source = source;
  return 0;
}
