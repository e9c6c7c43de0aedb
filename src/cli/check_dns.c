#include "dkimroll/check_dns.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/status.h"
#include "dkimroll/text.h"

enum { SERVERS_TEXT_MAX = 2000 };

#define SUBJECT "name servers"

static void say(struct check *check, const struct finding *finding) {
  struct finding copy = *finding;
  copy.subject = (char *)SUBJECT;
  check_say(check, CHECK_DNS, &copy);
}

/* Does the same host answer at another address? Then one family without a route does no harm. */
static bool host_is_reached(const struct observe_result *result, const char *host) {
  for (size_t i = 0; i < result->server_count; i++) {
    const struct observe_server *server = &result->servers[i];
    const bool answers = server->verdict == OBSERVE_RIGHT || server->verdict == OBSERVE_WRONG;
    if (answers && text_equal_nocase(server->host, host)) return true;
  }
  return false;
}

static void judge_server(struct check *check, const struct observe_result *result,
                         const struct observe_server *server) {
  char text[ERROR_MESSAGE_MAX], name[STATUS_SERVER_MAX];
  struct finding finding = {
      .level = FINDING_FAILED, .code = ERROR_UNREACHABLE, .who = (char *)result->zone, .text = text};
  const bool reached = host_is_reached(result, server->host);
  status_server_name(server->host, server->address, name);
  if (server->verdict == OBSERVE_NO_ROUTE && reached) {
    finding.level = FINDING_WARNING;
    snprintf(text, sizeof text, "no route from here to %s; it counts as right, since %s answers at another address",
             name, server->host);
  } else if (server->verdict == OBSERVE_NO_ROUTE) {
    snprintf(text, sizeof text, "no route from here to %s, so nobody can tell what it serves", name);
    finding.remedy = (char *)"give this host a route to it, or name it under ignore-servers of the publisher";
  } else {
    snprintf(text, sizeof text, "%s does not answer for the zone: %s", name, server->answer);
    finding.remedy = (char *)"every key waits until every authoritative server serves it: repair the server, or take "
                             "it out of the zone's NS records; "
                             "if nobody asks it, name it under ignore-servers of the publisher";
  }
  say(check, &finding);
}

static void say_servers(struct check *check, const struct observe_result *result) {
  struct buffer text = BUFFER_WITH_MAXIMUM(SERVERS_TEXT_MAX);
  char name[STATUS_SERVER_MAX];
  buffer_format(&text, "%zu of %zu servers answer", result->server_count, result->server_count);
  for (size_t i = 0; i < result->server_count; i++)
    buffer_format(&text, "%s%s", i ? ", " : ": ",
                  status_server_name(result->servers[i].host, result->servers[i].address, name));
  say(check, &(struct finding){.who = (char *)result->zone,
                               .text = text.failed ? (char *)"all servers answer" : (char *)text.data});
  buffer_release(&text);
}

/* A wildcard answers for selectors that do not exist yet, and caches keep that answer. */
static void judge_wildcard(struct check *check, const struct observe_result *result) {
  char text[ERROR_MESSAGE_MAX], duration[DURATION_TEXT_SIZE];
  int64_t ttl = -1;
  for (size_t i = 0; i < result->server_count; i++) ttl = time_max(ttl, result->servers[i].ttl);
  if (ttl < 0) return;
  snprintf(text, sizeof text,
           "a wildcard gives a TXT to every name below it, with a TTL of %s: each new key waits until caches have "
           "forgotten that",
           duration_format(ttl, duration));
  say(check, &(struct finding){.level = FINDING_WARNING,
                               .who = (char *)result->zone,
                               .text = text,
                               .remedy = (char *)"let the wildcard not cover _domainkey, or lower its TTL"});
}

static void judge_servers(struct check *check, const struct observe_result *result) {
  bool all = result->server_count > 0;
  for (size_t i = 0; i < result->server_count; i++) {
    const struct observe_server *server = &result->servers[i];
    if (server->verdict == OBSERVE_RIGHT || server->verdict == OBSERVE_WRONG) continue;
    judge_server(check, result, server);
    all = false;
  }
  if (result->server_count == 0)
    say(check, &(struct finding){.level = FINDING_FAILED,
                                 .code = ERROR_NOT_FOUND,
                                 .who = (char *)result->zone,
                                 .text = (char *)"no authoritative server is left to ask",
                                 .remedy = (char *)"see servers and ignore-servers of the publisher"});
  if (all) say_servers(check, result);
  judge_wildcard(check, result);
}

/* What is told of the servers of a zone is the same for each domain in it, and becomes one finding. */
static void take_result(struct check *check, size_t index, const struct observe_result *result) {
  struct check_dns *dns = check->dns;
  const struct policy_domain *domain = check->domains[index];
  if (result->error.code) {
    check_say_error(check, CHECK_DNS, SUBJECT, domain->name, &result->error);
    return;
  }
  judge_servers(check, result);
  struct check_place *place = &dns->places[dns->place_count++];
  *place = (struct check_place){.domain = domain};
  text_copy(place->zone, sizeof place->zone, result->zone);
  text_copy(place->owner, sizeof place->owner, result->owner);
  text_copy(place->name, sizeof place->name, dns->names[index]);
}

static void surveyed(void *context, const struct observe_result *results, size_t count) {
  struct check *check = context;
  check->dns->survey = NULL;
  for (size_t i = 0; i < count; i++) take_result(check, i, &results[i]);
  if (!check->interrupted) check_scratch_start(check);
  check_end(check);
}

/* A name that nobody has, and that tells whoever finds it where it comes from. */
static int make_name(struct check *check, const char *domain, char ret_name[DNS_NAME_TEXT_SIZE], struct error *error) {
  static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
  struct entropy *entropy = check->session.backends.entropy;
  char selector[SELECTOR_SIZE];
  size_t used = (size_t)snprintf(selector, sizeof selector, "%s-", CHECK_SELECTOR);
  for (size_t i = 0; i < CHECK_SCRATCH_LETTERS; i++)
    selector[used++] = letters[entropy_below(entropy, sizeof letters - 1)];
  selector[used] = '\0';
  return selector_owner_name(selector, domain, ret_name, error);
}

static int make_items(struct check *check, struct error *error) {
  struct check_dns *dns = check->dns;
  dns->items = calloc(check->domain_count + 1, sizeof *dns->items);
  dns->names = calloc(check->domain_count + 1, sizeof *dns->names);
  dns->places = calloc(check->domain_count + 1, sizeof *dns->places);
  if (!dns->items || !dns->names || !dns->places)
    return error_set(error, ERROR_NO_MEMORY, "out of memory for the zones");
  for (size_t i = 0; i < check->domain_count; i++) {
    const struct policy_domain *domain = check->domains[i];
    const struct policy_publisher *publisher = &check->session.policy->publishers[domain->publisher];
    int result = make_name(check, domain->name, dns->names[i], error);
    if (result) return result;
    dns->items[i] = (struct observe_item){
        .name = dns->names[i], .zone = domain->zone ? domain->zone : publisher->zone, .publisher = publisher};
  }
  return 0;
}

void check_dns_start(struct check *check) {
  struct error error = {0};
  check->dns = calloc(1, sizeof *check->dns);
  int result =
      check->dns ? make_items(check, &error) : error_set(&error, ERROR_NO_MEMORY, "out of memory for the zones");
  if (!result) check_scratch_prepare(check);
  if (!result && check->domain_count == 0) return;
  if (!result)
    result = observer_start(check->session.backends.observer, OBSERVE_SURVEY, check->dns->items, check->domain_count,
                            check_deadline(check, CHECK_SURVEY_SECONDS), surveyed, check, &check->dns->survey, &error);
  if (result)
    check_say_error(check, CHECK_DNS, SUBJECT, NULL, &error);
  else
    check_begin(check);
}

void check_dns_release(struct check *check) {
  struct check_dns *dns = check->dns;
  if (!dns) return;
  observer_cancel(check->session.backends.observer, &dns->survey);
  for (size_t i = 0; i < dns->scratch_count; i++) check_scratch_release(&dns->scratches[i]);
  free(dns->scratches);
  free(dns->items);
  free(dns->names);
  free(dns->places);
  free(dns);
  check->dns = NULL;
}
