#include "dkimroll/zone.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "dkimroll/zone_search.h"

int zone_finder_new(struct loop *loop, struct transport *transport, struct entropy *entropy, struct zone_finder **ret_finder,
                    struct error *error) {
  struct zone_finder *finder = calloc(1, sizeof *finder);
  if (finder) finder->cache = calloc(ZONE_CACHE_MAX, sizeof *finder->cache);
  if (!finder || !finder->cache) {
    free(finder);
    return error_set(error, ERROR_NO_MEMORY, "out of memory for zone discovery");
  }
  finder->asker = (struct asker){loop, transport, entropy};
  *ret_finder = finder;
  return 0;
}

static void search_free(struct zone_search *search) {
  loop_cancel(search->finder->asker.loop, &search->start);
  ask_cancel(&search->ask);
  free(search);
}

void zone_finder_free(struct zone_finder *finder) {
  if (!finder) return;
  while (finder->at_work) {
    struct zone_search *search = finder->at_work;
    finder->at_work = search->next;
    search_free(search);
  }
  while (finder->waiting) {
    struct zone_search *search = finder->waiting;
    finder->waiting = search->next;
    search_free(search);
  }
  for (size_t i = 0; i < finder->cache_count; i++) free(finder->cache[i].answer.servers);
  free(finder->cache);
  free(finder);
}

static bool list_remove(struct zone_search **list, struct zone_search *search) {
  while (*list && *list != search) list = &(*list)->next;
  if (!*list) return false;
  *list = search->next;
  return true;
}

static void begin(void *context) {
  struct zone_search *search = context;
  search->start = NULL;
  zone_search_begin(search);
}

/* Waiting searches get the places that became free. Each begins from the loop, so that nothing happens inside a caller's call. */
static void finder_admit(struct zone_finder *finder) {
  while (finder->waiting && finder->at_work_count < ZONE_SEARCHES_MAX) {
    struct zone_search *search = finder->waiting;
    finder->waiting = search->next;
    if (!finder->waiting) finder->waiting_last = NULL;
    search->next = finder->at_work;
    finder->at_work = search;
    finder->at_work_count++;
    if (loop_defer(finder->asker.loop, begin, search, &search->start) == 0) continue;
    struct error error;
    error_set(&error, ERROR_SYSTEM, "the event loop takes no call");
    zone_search_fail(search, &error);
  }
}

/* Takes the search off its list, tells its owner, frees it. */
static void search_end(struct zone_search *search, const struct zone_answer *answer) {
  struct zone_finder *finder = search->finder;
  if (list_remove(&finder->at_work, search)) finder->at_work_count--;
  search->next = NULL;
  search->done(search->context, answer);
  search_free(search);
  finder_admit(finder);
}

void zone_search_fail(struct zone_search *search, const struct error *error) {
  struct zone_answer answer = {.error = *error, .ttl_negative = -1, .ttl_alias = -1};
  error_context(&answer.error, "finding the servers of %s", search->name);
  if (!answer.error.remedy[0])
    error_remedy(&answer.error, "check the delegation and the resolvers; or give zone and servers to publisher %s in the policy", search->publisher->name);
  search_end(search, &answer);
}

static bool is_ignored(const struct policy_publisher *publisher, const struct zone_server *server) {
  char text[ADDRESS_TEXT_SIZE];
  address_format(&server->address, text);
  for (size_t i = 0; i < publisher->ignore_server_count; i++) {
    struct address ignored;
    struct error unused;
    const char *name = publisher->ignore_servers[i];
    if (text_equal_nocase(name, server->host)) return true;
    if (address_parse(name, 53, &ignored, &unused) == 0 && address_equal(&ignored, &server->address)) return true;
  }
  return false;
}

static void add_server(const struct zone_search *search, const char *host, const struct address *address, struct zone_answer *answer) {
  struct zone_server server = {.address = *address};
  text_copy(server.host, sizeof server.host, host);
  if (is_ignored(search->publisher, &server) || answer->server_count == ZONE_SERVERS_MAX) return;
  for (size_t i = 0; i < answer->server_count; i++)
    if (address_equal(&answer->servers[i].address, address)) return;
  answer->servers[answer->server_count++] = server;
}

static void choose_primary(const struct zone_search *search, struct zone_answer *answer) {
  if (search->server.size > 0) {
    answer->primary_address = search->server;
    return;
  }
  for (size_t i = 0; i < search->hosts.count && answer->primary_address.size == 0; i++)
    if (text_equal_nocase(search->hosts.items[i].name, search->primary) && search->hosts.items[i].address_count > 0)
      answer->primary_address = search->hosts.items[i].addresses[0];
  if (answer->primary_address.size == 0 && search->primary_host.address_count > 0)
    answer->primary_address = search->primary_host.addresses[0];
  /* Given servers are what the operator trusts; the first of them is the best guess for the one that takes updates. */
  if (answer->primary_address.size == 0 && search->explicit_count > 0) answer->primary_address = search->explicit_servers[0].address;
  if (answer->primary_address.size > 0) return;
  error_set(&answer->primary_error, ERROR_NOT_FOUND, "the primary %s of zone %s has no address", search->primary, search->zone);
  error_remedy(&answer->primary_error, "give server to publisher %s in the policy", search->publisher->name);
}

/* The answer goes into the cache, which owns its servers; the oldest entry makes room. */
static void cache_put(struct zone_search *search, const struct zone_answer *answer) {
  struct zone_finder *finder = search->finder;
  struct zone_server *servers = calloc(answer->server_count + 1, sizeof *servers);
  if (!servers) return; /* the cache only saves questions */
  memcpy(servers, answer->servers, answer->server_count * sizeof *servers);
  struct zone_cached *entry = &finder->cache[finder->cache_next];
  if (finder->cache_next < finder->cache_count)
    free(entry->answer.servers);
  else
    finder->cache_count++;
  finder->cache_next = (finder->cache_next + 1) % ZONE_CACHE_MAX;
  *entry = (struct zone_cached){
      .publisher = search->publisher, .until = loop_boottime(finder->asker.loop) + ZONE_CACHE_SECONDS * 1000, .answer = *answer};
  entry->answer.servers = servers;
}

void zone_search_succeed(struct zone_search *search) {
  struct zone_server servers[ZONE_SERVERS_MAX];
  struct zone_answer answer = {
      .servers = servers, .ttl_negative = search->ttl_negative, .ttl_alias = search->ttl_alias, .is_signed = search->is_signed};
  text_copy(answer.zone, sizeof answer.zone, search->zone);
  text_copy(answer.owner, sizeof answer.owner, search->owner);
  text_copy(answer.primary, sizeof answer.primary, search->primary);
  for (size_t i = 0; i < search->explicit_count; i++)
    add_server(search, search->explicit_servers[i].host, &search->explicit_servers[i].address, &answer);
  for (size_t i = 0; search->explicit_count == 0 && i < search->hosts.count; i++)
    for (size_t j = 0; j < search->hosts.items[i].address_count; j++)
      add_server(search, search->hosts.items[i].name, &search->hosts.items[i].addresses[j], &answer);
  choose_primary(search, &answer);
  cache_put(search, &answer);
  search_end(search, &answer);
}

bool zone_search_from_cache(struct zone_search *search) {
  const struct zone_finder *finder = search->finder;
  const int64_t now = loop_boottime(finder->asker.loop);
  for (size_t i = 0; i < finder->cache_count; i++) {
    const struct zone_cached *entry = &finder->cache[i];
    if (entry->publisher != search->publisher || entry->until < now || !text_equal(entry->answer.zone, search->zone)) continue;
    struct zone_server servers[ZONE_SERVERS_MAX]; /* the entry may be replaced during the callback */
    struct zone_answer answer = entry->answer;
    memcpy(servers, entry->answer.servers, answer.server_count * sizeof servers[0]);
    answer.servers = servers;
    answer.ttl_alias = search->ttl_alias;
    text_copy(answer.owner, sizeof answer.owner, search->owner);
    search_end(search, &answer);
    return true;
  }
  return false;
}

static int read_publisher(struct zone_search *search, struct error *error) {
  const struct policy_publisher *publisher = search->publisher;
  int result = 0;
  if (publisher->server) result = address_parse(publisher->server, 53, &search->server, error);
  for (size_t i = 0; i < publisher->server_count && i < ZONE_SERVERS_MAX && !result; i++) {
    struct zone_server *server = &search->explicit_servers[i];
    text_copy(server->host, sizeof server->host, publisher->servers[i]);
    result = address_parse(publisher->servers[i], 53, &server->address, error);
    search->explicit_count = i + 1;
  }
  if (!result && search->explicit_count == 0) result = zone_read_resolvers(publisher, search->resolvers, &search->resolver_count, error);
  return result;
}

int zone_find(struct zone_finder *finder, const char *name, const char *known_zone, const struct policy_publisher *publisher, int64_t deadline,
              zone_done *done, void *context, struct zone_search **ret_search, struct error *error) {
  struct zone_search *search = calloc(1, sizeof *search);
  if (!search) return error_set(error, ERROR_NO_MEMORY, "out of memory for zone discovery");
  search->finder = finder;
  search->publisher = publisher;
  search->deadline = deadline;
  search->done = done;
  search->context = context;
  search->ttl_negative = search->ttl_alias = -1;
  text_copy(search->name, sizeof search->name, name);
  text_lower(search->name);
  text_copy(search->owner, sizeof search->owner, search->name);
  if (!known_zone) known_zone = publisher->zone;
  /* A known zone that does not hold the name itself is reached through aliases, which have to be followed again. */
  if (known_zone && message_name_below(search->name, known_zone)) {
    search->known = true;
    text_copy(search->zone, sizeof search->zone, known_zone);
    text_lower(search->zone);
  }
  int result = read_publisher(search, error);
  if (result) {
    free(search);
    return result;
  }
  if (finder->waiting_last)
    finder->waiting_last->next = search;
  else
    finder->waiting = search;
  finder->waiting_last = search;
  *ret_search = search;
  finder_admit(finder);
  return 0;
}

void zone_cancel(struct zone_finder *finder, struct zone_search **place) {
  struct zone_search *search = *place;
  if (!search) return;
  *place = NULL;
  if (list_remove(&finder->at_work, search)) {
    finder->at_work_count--;
  } else if (list_remove(&finder->waiting, search)) {
    finder->waiting_last = NULL;
    for (struct zone_search *s = finder->waiting; s; s = s->next) finder->waiting_last = s;
  }
  search_free(search);
  finder_admit(finder);
}
