#include "dkimroll/zone.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/buffer.h"
#include "dkimroll/text.h"
#include "dkimroll/zone_search.h"

int zone_finder_new(struct loop *loop, struct transport *transport, struct entropy *entropy,
                    struct zone_finder **ret_finder, struct error *error) {
  struct zone_finder *finder = calloc(1, sizeof *finder);
  if (!finder) return error_set(error, ERROR_NO_MEMORY, "out of memory for zone discovery");
  zone_questions_init(&finder->questions, &(struct asker){loop, transport, entropy});
  LIST_INIT(&finder->sources);
  TAILQ_INIT(&finder->at_work);
  TAILQ_INIT(&finder->waiting);
  TAILQ_INIT(&finder->ended);
  *ret_finder = finder;
  return 0;
}

static struct loop *loop_of(const struct zone_search *search) {
  return search->finder->questions.asker.loop;
}

static struct zone_searches *list_of(struct zone_search *search) {
  struct zone_finder *finder = search->finder;
  switch (search->state) {
  case ZONE_SEARCH_WAITING: return &finder->waiting;
  case ZONE_SEARCH_AT_WORK: return &finder->at_work;
  case ZONE_SEARCH_ENDED: break;
  }
  return &finder->ended;
}

static void search_move(struct zone_search *search, int state) {
  struct zone_finder *finder = search->finder;
  TAILQ_REMOVE(list_of(search), search, next);
  finder->at_work_count -= search->state == ZONE_SEARCH_AT_WORK;
  search->state = (__typeof__(search->state))state;
  finder->at_work_count += search->state == ZONE_SEARCH_AT_WORK;
  TAILQ_INSERT_TAIL(list_of(search), search, next);
}

/* Whatever it waits for is forgotten, but for its deadline. */
static void search_quieten(struct zone_search *search) {
  zone_wait_cancel(&search->finder->questions, &search->wait);
  zone_gather_cancel(search);
  loop_cancel(loop_of(search), &search->wakeup);
}

/* search is in no list any more. */
static void search_free(struct zone_search *search) {
  search_quieten(search);
  loop_cancel(loop_of(search), &search->timer);
  for (size_t i = 0; i < search->alias_count; i++) free(search->aliases[i]);
  zone_hosts_release(&search->hosts);
  zone_hosts_release(&search->above);
  zone_hosts_release(&search->found);
  free(search->lookups);
  free(search->answer.servers);
  zone_source_release(search->source);
  free(search);
}

static void searches_free(struct zone_searches *list) {
  struct zone_search *search;
  while ((search = TAILQ_FIRST(list))) {
    TAILQ_REMOVE(list, search, next);
    search_free(search);
  }
}

void zone_finder_free(struct zone_finder *finder) {
  if (!finder) return;
  searches_free(&finder->at_work);
  searches_free(&finder->waiting);
  searches_free(&finder->ended);
  zone_questions_release(&finder->questions);
  free(finder);
}

/* --- beginning and ending --- */

static void search_begin(void *context) {
  struct zone_search *search = context;
  search->wakeup = NULL;
  zone_search_begin(search);
}

/* Waiting searches get the places that became free. */
static void finder_admit(struct zone_finder *finder) {
  struct zone_search *search;
  while (finder->at_work_count < ZONE_SEARCHES_MAX && (search = TAILQ_FIRST(&finder->waiting))) {
    search_move(search, ZONE_SEARCH_AT_WORK);
    /* Without memory for this it ends at its deadline. */
    (void)!loop_defer(loop_of(search), search_begin, search, &search->wakeup);
  }
}

/* The last that happens to a search: the caller may free the finder. */
static void search_tell(struct zone_search *search) {
  struct zone_finder *finder = search->finder;
  zone_done *done = search->done;
  void *context = search->context;
  struct zone_answer answer = search->answer;
  search->answer.servers = NULL;
  TAILQ_REMOVE(&finder->ended, search, next);
  search_free(search);
  finder_admit(finder);
  done(context, &answer);
  free(answer.servers);
}

static void search_woken(void *context) {
  struct zone_search *search = context;
  search->wakeup = NULL;
  search_tell(search);
}

/* From the loop, so that nothing of the search is under way when its owner hears of the end. Without memory for this
 * the deadline brings it. */
static void search_end(struct zone_search *search) {
  search_quieten(search);
  search_move(search, ZONE_SEARCH_ENDED);
  (void)!loop_defer(loop_of(search), search_woken, search, &search->wakeup);
}

void zone_search_describe_aliases(const struct zone_search *search, char *buffer, size_t size) {
  struct buffer text = BUFFER_WITH_MAXIMUM(ZONE_ALIASES_MAX * 2 * DNS_NAME_TEXT_SIZE);
  for (size_t i = 0; i < search->alias_count; i++)
    buffer_format(&text, "%s%s", i > 0 ? " -> " : "", search->aliases[i]);
  text_copy(buffer, size, text.data ? (const char *)text.data : "");
  buffer_release(&text);
}

void zone_search_fail(struct zone_search *search, const struct error *error) {
  struct error *own = &search->answer.error;
  char given[ERROR_MESSAGE_MAX / 2];
  *own = *error;
  if (search->given_failure.code) {
    text_copy(given, sizeof given, search->given_failure.message);
    error_context(own, "the servers of the policy: %s; others", given);
  }
  if (search->alias_count > 1 && own->code != ERROR_LIMIT) {
    char chain[ERROR_MESSAGE_MAX / 2];
    zone_search_describe_aliases(search, chain, sizeof chain);
    error_context(own, "%s", chain);
  }
  error_context(own, "finding the zone of %s", search->name);
  if (!own->remedy[0])
    error_remedy(
        own, "check the delegation and the resolvers, or give zone, server or servers to publisher %s in the policy",
        search->publisher->name);
  search_end(search);
}

static void search_timeout(void *context) {
  struct zone_search *search = context;
  const bool waiting = search->state == ZONE_SEARCH_WAITING;
  struct error error;
  search->timer = NULL;
  if (search->state != ZONE_SEARCH_ENDED) {
    error_set(&error, ERROR_TIMEOUT, "%s",
              waiting ? "no time was left after looking for others" : "no end before the deadline");
    zone_search_fail(search, &error);
  }
  search_tell(search);
}

/* --- the answer --- */

/* ignore-servers holds host names, and addresses that mean every port. */
static bool is_ignored(const struct policy_publisher *publisher, const struct zone_server *server) {
  char text[ADDRESS_TEXT_SIZE], ignored[ADDRESS_TEXT_SIZE];
  for (size_t i = 0; i < publisher->ignore_server_count; i++) {
    struct address address;
    const char *name = publisher->ignore_servers[i];
    if (text_equal_nocase(name, server->host)) return true;
    if (server->address.size == 0 || address_parse(name, ZONE_PORT, &address, NULL)) continue;
    address_format(&address, ignored);
    address_format(&server->address, text);
    *strrchr(ignored, ':') = *strrchr(text, ':') = '\0';
    if (text_equal(ignored, text)) return true;
  }
  return false;
}

/* false: ZONE_SERVERS_MAX is reached. */
static bool add_server(struct zone_search *search, const char *host, const struct address *address) {
  struct zone_answer *answer = &search->answer;
  struct zone_server server = {0};
  if (address) server.address = *address;
  text_copy(server.host, sizeof server.host, host);
  if (is_ignored(search->publisher, &server)) return true;
  for (size_t i = 0; address && i < answer->server_count; i++)
    if (address_equal(&answer->servers[i].address, address)) return true;
  if (answer->server_count == ZONE_SERVERS_MAX) return false;
  answer->servers[answer->server_count++] = server;
  return true;
}

static bool add_host(struct zone_search *search, const struct zone_host *host) {
  bool fits = true;
  /* A name server that has no address is one that nobody asks; one whose address we could not find out may be asked by
   * others. */
  if (host->address_count == 0 && host->unsure) fits = add_server(search, host->name, NULL);
  for (size_t i = 0; i < host->address_count; i++) fits = fits && add_server(search, host->name, &host->addresses[i]);
  return fits;
}

static int answer_servers(struct zone_search *search, struct error *error) {
  const struct zone_source *source = search->source;
  bool fits = !search->found.overflow, any = source->server_count > 0;
  search->answer.servers = calloc(ZONE_SERVERS_MAX, sizeof *search->answer.servers);
  if (!search->answer.servers) return error_set(error, ERROR_NO_MEMORY, "out of memory for the servers of a zone");
  for (size_t i = 0; i < source->server_count; i++)
    fits = fits && add_server(search, source->servers[i].host, &source->servers[i].address);
  for (size_t i = 0; source->server_count == 0 && i < search->found.count; i++) {
    fits = fits && add_host(search, &search->found.items[i]);
    any |= search->found.items[i].address_count > 0 || search->found.items[i].unsure;
  }
  if (search->found.no_memory) return error_set(error, ERROR_NO_MEMORY, "out of memory for the servers of zone %s", search->zone);
  if (!any) return error_set(error, ERROR_NOT_FOUND, "no name server of zone %s has an address", search->zone);
  if (fits) return 0;
  error_set(error, ERROR_LIMIT, "zone %s has more than %d name servers or %d addresses of them", search->zone,
            ZONE_HOSTS_MAX, ZONE_SERVERS_MAX);
  return error_remedy(error, "give publisher %s in the policy the servers that count", search->publisher->name);
}

/* The policy may give the same server with another port. */
static const struct address *given_server_like(const struct zone_source *source, const struct address *address) {
  char text[ADDRESS_TEXT_SIZE], given[ADDRESS_TEXT_SIZE];
  address_format(address, text);
  *strrchr(text, ':') = '\0';
  for (size_t i = 0; i < source->server_count; i++) {
    address_format(&source->servers[i].address, given);
    *strrchr(given, ':') = '\0';
    if (text_equal(text, given)) return &source->servers[i].address;
  }
  return NULL;
}

/* An IPv4 address if there is one: fewer hosts lack a route for that. */
static const struct address *primary_address(const struct zone_search *search) {
  const struct zone_host *host = search->found.count > 0 ? &search->found.items[0] : NULL;
  for (size_t i = 0; host && i < host->address_count; i++)
    if (host->addresses[i].storage.ss_family == AF_INET) return &host->addresses[i];
  return host && host->address_count > 0 ? &host->addresses[0] : NULL;
}

static void answer_primary(struct zone_search *search) {
  const struct zone_source *source = search->source;
  struct zone_answer *answer = &search->answer;
  const struct address *found = primary_address(search), *address = NULL;
  if (source->server.size > 0) {
    address = &source->server;
  } else if (found) {
    address = given_server_like(source, found);
    if (!address) address = found;
  } else if (source->server_count > 0) {
    /* Given servers are what the operator trusts; one that is not the primary says so. */
    address = &source->servers[0].address;
  }
  if (address) {
    answer->primary_address = *address;
    return;
  }
  if (*search->primary)
    error_set(&answer->primary_error, ERROR_NOT_FOUND, "the primary %s of zone %s has no address that can be found",
              search->primary, search->zone);
  else
    error_set(&answer->primary_error, ERROR_NOT_FOUND, "nobody tells the primary of zone %s", search->zone);
  error_remedy(&answer->primary_error, "give server to publisher %s in the policy", search->publisher->name);
}

void zone_search_succeed(struct zone_search *search) {
  struct zone_answer *answer = &search->answer;
  struct error error = {0};
  text_copy(answer->zone, sizeof answer->zone, search->zone);
  text_copy(answer->owner, sizeof answer->owner, zone_search_owner(search));
  text_copy(answer->primary, sizeof answer->primary, search->primary);
  answer->ttl_negative = search->ttl_negative;
  answer->minimum = search->minimum;
  answer->ttl_alias = search->ttl_alias;
  answer->is_signed = search->is_signed;
  if (search->wants_servers && answer_servers(search, &error)) {
    zone_search_fail(search, &error);
    return;
  }
  if (!search->wants_servers) answer_primary(search);
  search_end(search);
}

/* --- from outside --- */

static int search_new(struct zone_finder *finder, const char *name, const struct policy_publisher *publisher,
                      struct zone_search **ret_search, struct error *error) {
  struct zone_search *search = calloc(1, sizeof *search);
  char *owner = search ? text_duplicate(name) : NULL;
  if (!owner) {
    free(search);
    return error_set(error, ERROR_NO_MEMORY, "out of memory for zone discovery");
  }
  text_lower(owner);
  search->finder = finder;
  search->publisher = publisher;
  search->aliases[search->alias_count++] = owner;
  search->ttl_negative = search->minimum = search->ttl_alias = -1;
  search->answer.ttl_negative = search->answer.minimum = search->answer.ttl_alias = -1;
  int result =
      text_copy(search->name, sizeof search->name, owner)
          ? zone_source_get(&finder->sources, publisher, loop_boottime(loop_of(search)), &search->source, error)
          : error_set(error, ERROR_INVALID, "\"%s\" is too long for a domain name", name);
  if (result) {
    free(owner);
    free(search);
    return result;
  }
  *ret_search = search;
  return 0;
}

static int find(struct zone_finder *finder, const char *name, const char *known_zone,
                const struct policy_publisher *publisher, bool wants_servers, struct zone_search **ret_search,
                struct error *error) {
  struct zone_search *search = NULL;
  int result = search_new(finder, name, publisher, &search, error);
  if (result) return result;
  search->wants_servers = wants_servers;
  if (!known_zone) known_zone = publisher->zone;
  text_copy(search->known_zone, sizeof search->known_zone, known_zone ? known_zone : "");
  text_lower(search->known_zone);
  *ret_search = search;
  return 0;
}

static int find_start(struct zone_search *search, int64_t deadline, zone_done *done, void *context,
                      struct zone_search **ret_search, struct error *error) {
  search->done = done;
  search->context = context;
  int result = loop_at(loop_of(search), deadline, search_timeout, search, &search->timer);
  search->state = ZONE_SEARCH_WAITING;
  if (result) {
    search_free(search);
    return error_set(error, result, "the event loop takes no timer");
  }
  TAILQ_INSERT_TAIL(&search->finder->waiting, search, next);
  *ret_search = search;
  finder_admit(search->finder);
  return 0;
}

int zone_find(struct zone_finder *finder, const char *name, const char *known_zone,
              const struct policy_publisher *publisher, int64_t deadline, zone_done *done, void *context,
              struct zone_search **ret_search, struct error *error) {
  struct zone_search *search = NULL;
  int result = find(finder, name, known_zone, publisher, false, &search, error);
  return result ? result : find_start(search, deadline, done, context, ret_search, error);
}

int zone_find_servers(struct zone_finder *finder, const char *name, const char *known_zone,
                      const struct policy_publisher *publisher, int64_t deadline, zone_done *done, void *context,
                      struct zone_search **ret_search, struct error *error) {
  struct zone_search *search = NULL;
  int result = find(finder, name, known_zone, publisher, true, &search, error);
  return result ? result : find_start(search, deadline, done, context, ret_search, error);
}

void zone_cancel(struct zone_finder *finder, struct zone_search **place) {
  struct zone_search *search = *place;
  if (!search) return;
  *place = NULL;
  search_quieten(search);
  search_move(search, ZONE_SEARCH_ENDED);
  TAILQ_REMOVE(&finder->ended, search, next);
  search_free(search);
  finder_admit(finder);
}
