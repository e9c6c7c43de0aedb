#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/check.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

/* One signer with at most SIGNER_ITEMS_MAX of its keys. */
struct check_signing {
  struct check *check;
  const struct policy_signer *policy;
  struct signer *signer; /* owned */
  struct signer_operation *operation;
  struct signer_item *items;                 /* owned; borrowed by the operation */
  char (*everybody)[DNS_NAME_TEXT_SIZE + 2]; /* owned; "*@DOMAIN" for the domains that name no senders */
  const char **patterns;                     /* owned; each points to its everybody */
  size_t count;
};

static void say(struct check_signing *signing, const struct finding *finding) {
  CLEANUP_FREE char *subject = text_format("signer %s", signing->policy->name);
  struct finding copy = *finding;
  copy.subject = subject ? subject : signing->policy->name;
  check_say(signing->check, CHECK_SIGNERS, &copy);
}

static void say_error(struct check_signing *signing, const char *who, const struct error *error) {
  say(signing, &(struct finding){.level = FINDING_FAILED,
                                 .code = error->code,
                                 .who = (char *)who,
                                 .text = (char *)error->message,
                                 .remedy = (char *)error->remedy});
}

static void proved(void *context, const struct signer_result *results, size_t count) {
  struct check_signing *signing = context;
  signing->operation = NULL;
  for (size_t i = 0; i < count && i < signing->count; i++) {
    const char *domain = signing->items[i].domain;
    if (results[i].error.code)
      say_error(signing, domain, &results[i].error);
    else
      say(signing, &(struct finding){.who = (char *)domain,
                                     .text = (char *)"a message of each sender was signed by the active key"});
  }
  check_end(signing->check);
}

/* Only a key that signs can be proved. */
static void start_proof(struct check_signing *signing) {
  struct error error = {0};
  size_t kept = 0;
  for (size_t i = 0; i < signing->count; i++) {
    if (signing->items[i].selector)
      signing->items[kept++] = signing->items[i];
    else
      say(signing, &(struct finding){.level = FINDING_NOTE,
                                     .who = (char *)signing->items[i].domain,
                                     .text = (char *)"no key of it signs yet, so there was nothing to prove"});
  }
  signing->count = kept;
  if (kept > 0 && signer_prove(signing->signer, signing->items, kept, check_deadline(signing->check, CLI_CHECK_SECONDS),
                               proved, signing, &signing->operation, &error) == 0)
    return;
  if (error.code) say_error(signing, NULL, &error);
  check_end(signing->check);
}

static void say_whole(struct check_signing *signing) {
  const struct policy_signer *policy = signing->policy;
  CLEANUP_FREE char *text = text_format(
      "%s and %s can be read and written, %sand the milter at %s answers", policy->key_table, policy->signing_table,
      policy->reload == RELOAD_NONE ? "" : "the reload is possible, ", policy->milter);
  say(signing, &(struct finding){.text = text ? text : (char *)"tables, reload and milter are good"});
}

/* A key of the postmaster's own signs: that is what `import` is for, and no failure. */
static void say_own_line(struct check_signing *signing, const char *domain, const struct error *error) {
  CLEANUP_FREE char *text = text_format("a line of your own signs for it: %.*s", (int)strcspn(error->message, ";"), error->message);
  say(signing, &(struct finding){.level = FINDING_WARNING,
                                 .who = (char *)domain,
                                 .text = text ? text : (char *)error->message,
                                 .remedy = (char *)"run `dkimroll import`: it shows that key, and with --apply it is taken over without "
                                                   "one unsigned message"});
}

static void checked(void *context, const struct signer_result *results, size_t count) {
  struct check_signing *signing = context;
  struct error whole = {0};
  signing->operation = NULL;
  if (count > signing->count) whole = results[signing->count].error;
  if (whole.code)
    say_error(signing, NULL, &whole);
  else
    say_whole(signing);
  for (size_t i = 0; i < count && i < signing->count; i++) {
    const struct error *error = &results[i].error;
    /* What ails the signer ails every domain of it, and was said. */
    if (error->code == ERROR_CONFLICT && !signing->items[i].selector)
      say_own_line(signing, signing->items[i].domain, error);
    else if (error->code && !text_equal(error->message, whole.message))
      say_error(signing, signing->items[i].domain, error);
  }
  if (whole.code)
    check_end(signing->check);
  else
    start_proof(signing);
}

/* Where in the domain's list of signers the signer stands; false: the domain does not use it. */
static bool find_place(const struct policy_domain *domain, size_t signer, size_t *ret_place) {
  for (size_t i = 0; i < domain->signer_count; i++)
    if (domain->signers[i] == signer) {
      *ret_place = i;
      return true;
    }
  return false;
}

static void fill_item(struct check_signing *signing, const struct check_key *key, size_t place) {
  const size_t at = signing->count++;
  const struct policy_domain *domain = key->domain;
  struct signer_item *item = &signing->items[at];
  const bool active = key->selector[0] != '\0';
  *item = (struct signer_item){
      .domain = domain->name, .selector = active ? key->selector : NULL, .key_path = active ? key->paths[place] : NULL,
      .key_name = active ? key->names[place] : NULL, .adopted = active && key->adopted, .record = key->record};
  if (domain->sender_count > 0) {
    item->senders = (const char *const *)domain->senders;
    item->sender_count = domain->sender_count;
    return;
  }
  snprintf(signing->everybody[at], sizeof signing->everybody[at], "*@%s", domain->name);
  signing->patterns[at] = signing->everybody[at];
  item->senders = &signing->patterns[at];
  item->sender_count = 1;
}

static int make_items(struct check_signing *signing, size_t room, struct error *error) {
  signing->items = calloc(room + 1, sizeof *signing->items);
  signing->everybody = calloc(room + 1, sizeof *signing->everybody);
  signing->patterns = calloc(room + 1, sizeof(const char *));
  if (signing->items && signing->everybody && signing->patterns) return 0;
  return error_set(error, ERROR_NO_MEMORY, "out of memory for a signer");
}

static int start_check(struct check_signing *signing, struct error *error) {
  const struct engine_factory *factory = &signing->check->session.backends.factory;
  int result = factory->make_signer(factory->context, signing->policy, &signing->signer, error);
  if (result) return result;
  return signer_check(signing->signer, signing->items, signing->count,
                      check_deadline(signing->check, CLI_CHECK_SECONDS), checked, signing, &signing->operation, error);
}

/* The keys from *first on; *first is then the next one that found no room. */
static void start_one(struct check_signing *signing, size_t signer, size_t *first) {
  struct check *check = signing->check;
  struct error error = {0};
  const size_t left = check->key_count - *first, room = left < SIGNER_ITEMS_MAX ? left : SIGNER_ITEMS_MAX;
  int result = make_items(signing, room, &error);
  for (; !result && *first < check->key_count && signing->count < room; (*first)++) {
    size_t place;
    if (find_place(check->keys[*first].domain, signer, &place)) fill_item(signing, &check->keys[*first], place);
  }
  if (!result && signing->count == 0) return;
  if (!result) result = start_check(signing, &error);
  if (!result) {
    check_begin(check);
    return;
  }
  say_error(signing, NULL, &error);
  *first = check->key_count;
}

void check_signers_start(struct check *check) {
  const struct policy *policy = check->session.policy;
  const size_t parts = check->key_count / SIGNER_ITEMS_MAX + 1;
  check->signing = calloc(policy->signer_count * parts + 1, sizeof *check->signing);
  if (!check->signing) {
    check_say_no_memory(check, CHECK_SIGNERS, "signers");
    return;
  }
  for (size_t i = 0; i < policy->signer_count; i++)
    for (size_t first = 0; first < check->key_count && check->signing_count < policy->signer_count * parts;) {
      struct check_signing *signing = &check->signing[check->signing_count++];
      *signing = (struct check_signing){.check = check, .policy = &policy->signers[i]};
      start_one(signing, i, &first);
    }
}

void check_signers_release(struct check *check) {
  for (size_t i = 0; i < check->signing_count; i++) {
    struct check_signing *signing = &check->signing[i];
    if (signing->operation) signer_cancel(signing->signer, &signing->operation);
    signer_destroy(signing->signer);
    free(signing->items);
    free(signing->everybody);
    free(signing->patterns);
  }
  free(check->signing);
  check->signing = NULL;
  check->signing_count = 0;
}
