#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/check_dns.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

/* Findings of one publisher stand under its name. */
static void say(struct check_scratch *scratch, const struct finding *finding) {
  CLEANUP_FREE char *subject = text_format("updates by publisher %s", scratch->policy->name);
  struct finding copy = *finding;
  copy.subject = subject ? subject : scratch->policy->name;
  check_say(scratch->check, CHECK_UPDATES, &copy);
}

static void say_error(struct check_scratch *scratch, const char *who, const struct error *error) {
  say(scratch, &(struct finding){.level = FINDING_FAILED,
                                 .code = error->code,
                                 .who = (char *)who,
                                 .text = (char *)error->message,
                                 .remedy = (char *)error->remedy});
}

/* What a publisher without updates does instead. */
static void say_way(struct check_scratch *scratch) {
  const struct policy_publisher *policy = scratch->policy;
  CLEANUP_FREE char *text = policy->type == PUBLISHER_COMMAND
                                ? text_format("%s is run for each change, and the servers are watched until one shows it", policy->command[0])
                                : text_format("%s is written, and the servers are watched until one shows a change", policy->file);
  say(scratch, &(struct finding){.text = text ? text : policy->name});
}

static void prepare_one(struct check_scratch *scratch) {
  struct check *check = scratch->check;
  const struct engine_factory *factory = &check->session.backends.factory;
  struct error error = {0};
  check->has_tsig |= scratch->policy->tsig_file != NULL;
  if (factory->make_publisher(factory->context, scratch->policy, &scratch->publisher, &error)) {
    scratch->publisher = NULL;
    say_error(scratch, NULL, &error);
    return;
  }
  if (scratch->policy->type != PUBLISHER_RFC2136) {
    say_way(scratch);
  } else if (scratch->policy->tsig_file) {
    CLEANUP_FREE char *text = text_format("the TSIG key %s is good", scratch->policy->tsig_file);
    say(scratch, &(struct finding){.text = text ? text : (char *)"the TSIG key is good"});
  } else {
    say(scratch,
        &(struct finding){
            .level = FINDING_WARNING,
            .text = (char *)"its updates are not signed: whoever can send from this address can change the zone",
            .remedy = (char *)"make a key (tsig-keygen, keymgr -t) and name it as tsig-file"});
  }
}

static bool is_used(const struct check *check, size_t publisher) {
  for (size_t i = 0; i < check->domain_count; i++)
    if (check->domains[i]->publisher == publisher) return true;
  return false;
}

void check_scratch_prepare(struct check *check) {
  const struct policy *policy = check->session.policy;
  struct check_dns *dns = check->dns;
  dns->scratches = calloc(policy->publisher_count + 1, sizeof *dns->scratches);
  if (!dns->scratches) {
    check_say_no_memory(check, CHECK_UPDATES, "updates");
    return;
  }
  dns->scratch_count = policy->publisher_count;
  for (size_t i = 0; i < policy->publisher_count; i++) {
    dns->scratches[i] = (struct check_scratch){.check = check, .policy = &policy->publishers[i]};
    if (is_used(check, i)) prepare_one(&dns->scratches[i]);
  }
}

/* What anybody can type who finds the record later. */
static char *describe_deletion(const struct check_scratch *scratch, const struct check_place *place) {
  if (scratch->policy->type == PUBLISHER_COMMAND) return text_format("delete it with the provider's own tools: TXT at %s in zone %s", place->owner, place->zone);
  if (scratch->policy->type == PUBLISHER_ZONEFILE) return text_format("take its line out of %s, and have the name server read zone %s again", scratch->policy->file, place->zone);
  char server[ADDRESS_TEXT_SIZE] = "";
  const char *port = "";
  text_copy(server, sizeof server, place->primary_server);
  char *colon = strrchr(server, ':');
  if (colon) {
    *colon = '\0';
    port = colon + 1;
  }
  const size_t length = strlen(server);
  const bool brackets = server[0] == '[' && length > 1 && server[length - 1] == ']';
  if (brackets) server[length - 1] = '\0';
  const char *tsig = scratch->policy->tsig_file ? scratch->policy->tsig_file : "";
  return text_format("delete it: printf '%s%s%s%s%szone %s\\nupdate delete %s TXT\\nsend\\n' | nsupdate%s%s",
                     server[0] ? "server " : "", brackets ? server + 1 : server, port[0] ? " " : "", port,
                     server[0] ? "\\n" : "", place->zone, place->owner, tsig[0] ? " -k " : "", tsig);
}

static void say_left_behind(struct check_scratch *scratch, const struct check_place *place, const struct error *error) {
  CLEANUP_FREE char *text =
      text_format(place->added ? "the scratch record %s could not be deleted: %s"
                               : "the scratch record %s may have got there, and could not be deleted: %s",
                  place->owner, error->message);
  CLEANUP_FREE char *remedy = describe_deletion(scratch, place);
  say(scratch, &(struct finding){.level = FINDING_FAILED,
                                 .code = error->code,
                                 .who = place->domain->name,
                                 .text = text ? text : (char *)place->owner,
                                 .remedy = remedy});
}

static void deleted(void *context, const struct publish_result *results, size_t count) {
  struct check_scratch *scratch = context;
  scratch->operation = NULL;
  for (size_t i = 0; i < count; i++) {
    struct check_place *place = scratch->places[i];
    scratch->check->attested |= results[i].attested;
    if (results[i].error.code)
      say_left_behind(scratch, place, &results[i].error);
    else if (place->added)
      say(scratch, &(struct finding){.who = place->domain->name,
                                     .text = (char *)"a scratch record was added, read back and deleted again"});
  }
  check_end(scratch->check);
}

/* A change that the server itself refused left nothing behind. Of all else nobody knows. */
static bool is_refusal(int code) {
  return code == ERROR_REFUSED || code == ERROR_CONFLICT || code == ERROR_NOT_FOUND || code == ERROR_NO_ROUTE ||
         code == ERROR_CONFIG;
}

static void start_deletion(struct check_scratch *scratch) {
  struct error error = {0};
  size_t kept = 0;
  for (size_t i = 0; i < scratch->count; i++) {
    struct check_place *place = scratch->places[i];
    if (!place->may_be_there) continue;
    scratch->places[kept] = place;
    scratch->items[kept++] =
        (struct publish_item){.change = PUBLISH_DELETE,
                              .name = place->name,
                              .record_before = CHECK_RECORD,
                              .ttl = CHECK_SCRATCH_TTL,
                              .zone = place->zone,
                              .owner = place->owner,
                              .primary_server = place->primary_server[0] ? place->primary_server : NULL};
  }
  scratch->count = kept;
  if (kept == 0) {
    check_end(scratch->check);
    return;
  }
  if (publisher_start(scratch->publisher, scratch->items, kept, check_deadline(scratch->check, CLI_CHECK_SECONDS),
                      deleted, scratch, &scratch->operation, &error) == 0)
    return;
  for (size_t i = 0; i < kept; i++) say_left_behind(scratch, scratch->places[i], &error);
  check_end(scratch->check);
}

static void added(void *context, const struct publish_result *results, size_t count) {
  struct check_scratch *scratch = context;
  scratch->operation = NULL;
  for (size_t i = 0; i < count; i++) {
    struct check_place *place = scratch->places[i];
    const struct error *error = &results[i].error;
    scratch->check->attested |= results[i].attested;
    place->added = error->code == 0;
    place->may_be_there = place->added || !is_refusal(error->code);
    text_copy(place->primary_server, sizeof place->primary_server, results[i].primary_server);
    if (error->code) say_error(scratch, place->domain->name, error);
  }
  start_deletion(scratch);
}

/* One publisher; false: none of its domains was found. */
static bool fill_items(struct check_scratch *scratch, size_t publisher, struct error *error) {
  struct check_dns *dns = scratch->check->dns;
  scratch->items = calloc(dns->place_count + 1, sizeof *scratch->items);
  scratch->places = calloc(dns->place_count + 1, sizeof(struct check_place *));
  if (!scratch->items || !scratch->places) {
    error_set(error, ERROR_NO_MEMORY, "out of memory for scratch records");
    return false;
  }
  for (size_t i = 0; i < dns->place_count; i++) {
    struct check_place *place = &dns->places[i];
    if (place->domain->publisher != publisher) continue;
    scratch->places[scratch->count] = place;
    scratch->items[scratch->count++] = (struct publish_item){.change = PUBLISH_ADD,
                                                             .name = place->name,
                                                             .record = CHECK_RECORD,
                                                             .ttl = CHECK_SCRATCH_TTL,
                                                             .zone = place->zone,
                                                             .owner = place->owner};
  }
  return scratch->count > 0;
}

void check_scratch_start(struct check *check) {
  struct check_dns *dns = check->dns;
  for (size_t i = 0; i < dns->scratch_count; i++) {
    struct check_scratch *scratch = &dns->scratches[i];
    struct error error = {0};
    if (!scratch->publisher) continue;
    if (fill_items(scratch, i, &error) &&
        publisher_start(scratch->publisher, scratch->items, scratch->count, check_deadline(check, CHECK_ADD_SECONDS),
                        added, scratch, &scratch->operation, &error) == 0)
      check_begin(check);
    if (error.code) say_error(scratch, NULL, &error);
  }
}

void check_scratch_abandon(struct check *check, const struct error *error) {
  struct check_dns *dns = check->dns;
  for (size_t i = 0; dns && i < dns->scratch_count; i++) {
    struct check_scratch *scratch = &dns->scratches[i];
    for (size_t j = 0; scratch->operation && j < scratch->count; j++) say_left_behind(scratch, scratch->places[j], error);
  }
}

void check_scratch_release(struct check_scratch *scratch) {
  if (scratch->operation) publisher_cancel(scratch->publisher, &scratch->operation);
  if (scratch->publisher) publisher_destroy(scratch->publisher);
  free(scratch->items);
  free(scratch->places);
}
