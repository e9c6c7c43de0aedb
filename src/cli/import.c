#include "dkimroll/import.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/operands.h"
#include "dkimroll/text.h"
#include "dkimroll/wake.h"

/* ---- release ---- */

static void release_signer(struct import_signer *signer) {
  if (signer->operation) signer_cancel(signer->signer, &signer->operation);
  signer_destroy(signer->signer);
  survey_release(&signer->survey);
  free(signer->by_name);
  free(signer->by_domain);
  free(signer->by_path);
  free(signer->by_value);
  free(signer->left);
  free(signer->items);
  free(signer->proved);
}

static void release_key(struct import_key *key) {
  for (size_t i = 0; i < key->server_count; i++) free(key->servers[i].record);
  free(key->servers);
  free(key->expected);
}

static void release_import(struct import *import) {
  if (import->observation) observer_cancel(import->session.backends.observer, &import->observation);
  for (size_t i = 0; import->signers && i < import->policy->signer_count; i++) release_signer(&import->signers[i]);
  free(import->signers);
  for (size_t i = 0; i < import->key_count; i++) release_key(&import->keys[i]);
  free(import->keys);
  for (size_t i = 0; i < import->domain_count; i++)
    for (size_t j = 0; j < POLICY_SIGNERS_MAX; j++) free(import->domains[i].senders[j]);
  free(import->domains);
  free(import->names);
  free(import->asked);
  free(import->asking);
  for (size_t i = 0; i < import->version_count; i++) {
    free(import->versions[i]->signer.key_directory);
    free(import->versions[i]->signer.key_name);
    free(import->versions[i]);
  }
  session_release(&import->session);
}

/* ---- which domains ---- */

static int compare_name(const void *name, const void *domain) {
  return strcmp(name, ((const struct policy_domain *)domain)->name);
}

static void add_domain(struct import *import, const struct policy_domain *domain) {
  for (size_t i = 0; import->cli->arguments->operand_count > 0 && i < import->domain_count; i++)
    if (import->domains[i].policy == domain) return;
  struct import_domain *added = &import->domains[import->domain_count++];
  added->policy = domain;
  snprintf(added->everybody, sizeof added->everybody, "*@%s", domain->name);
  for (size_t i = 0; i < domain->signer_count; i++) import->signers[domain->signers[i]].used = true;
}

static int compare_domains(const void *a, const void *b) {
  return strcmp(((const struct import_domain *)a)->policy->name, ((const struct import_domain *)b)->policy->name);
}

static int choose_operands(struct import *import, struct error *error) {
  const struct policy *policy = import->policy;
  const struct cli_arguments *arguments = import->cli->arguments;
  char name[DNS_NAME_TEXT_SIZE];
  for (size_t i = 0; i < arguments->operand_count; i++) {
    const struct policy_domain *domain = NULL;
    if (operand_domain(arguments->operands[i], name))
      domain = bsearch(name, policy->domains, policy->domain_count, sizeof *policy->domains, compare_name);
    if (!domain) {
      error_set(error, ERROR_NOT_FOUND, "%s is not in the policy %s", arguments->operands[i], policy->path);
      return error_remedy(error, "write it under domains:, or name one that is there");
    }
    add_domain(import, domain);
  }
  qsort(import->domains, import->domain_count, sizeof *import->domains, compare_domains);
  return 0;
}

static int choose_domains(struct import *import, struct error *error) {
  const struct policy *policy = import->policy;
  const size_t operands = import->cli->arguments->operand_count;
  import->signers = calloc(policy->signer_count + 1, sizeof *import->signers);
  import->domains = calloc((operands ? operands : policy->domain_count) + 1, sizeof *import->domains);
  import->names = calloc((operands ? operands : policy->domain_count) + 1, sizeof(const char *));
  if (!import->signers || !import->domains || !import->names) return error_set(error, ERROR_NO_MEMORY, "out of memory for the domains");
  for (size_t i = 0; i < policy->signer_count; i++) import->signers[i] = (struct import_signer){.import = import, .policy = &policy->signers[i]};
  int result = operands ? choose_operands(import, error) : 0;
  for (size_t i = 0; !operands && i < policy->domain_count; i++) add_domain(import, &policy->domains[i]);
  for (size_t i = 0; i < import->domain_count; i++)
    if (import->domains[i].policy) import->names[i] = import->domains[i].policy->name;
  return result;
}

/* ---- what the store knows ---- */

static int note_known(void *context, const void *row) {
  (void)row;
  *(bool *)context = true;
  return 1;
}

static int note_active(void *context, const void *row) {
  struct import_domain *domain = context;
  const struct lineage *lineage = row;
  if (lineage->key_count > domain->living) domain->living = lineage->key_count;
  for (size_t i = 0; i < lineage->key_count; i++) {
    if (lineage->keys[i].state != KEY_ACTIVE) continue;
    domain->has_active = true;
    text_copy(domain->active, sizeof domain->active, lineage->keys[i].selector);
  }
  return 0;
}

/* A selector that was given up, or reserved, before there was a key: what was found may be the key that really has it. */
static int note_guarded(void *context, const void *row) {
  struct import_domain *domain = context;
  const struct lineage *lineage = row;
  for (size_t i = 0; i < lineage->key_count && !lineage->forgotten; i++)
    for (size_t j = 0; j < domain->key_count; j++) {
      struct import_key *key = &domain->keys[j];
      if (key_was_made(&lineage->keys[i]) || !text_equal(key->selector, lineage->keys[i].selector)) continue;
      key->fate = IMPORT_LEFT;
      key->row = lineage->keys[i].id;
      key->lineage = lineage->id;
    }
  return 0;
}

static int look_into_store(struct import *import, struct import_domain *domain, struct error *error) {
  struct store *store = import->session.store;
  const struct store_filter filter = {.domain = domain->policy->name};
  bool any_known = false;
  if (!store) return 0;
  int result = store->ops->select(store, STORE_SELECT_LINEAGES, &filter, note_active, domain, error);
  for (size_t i = 0; i < domain->key_count && !result; i++) {
    bool known = false;
    const struct store_filter one = {.domain = domain->policy->name, .text = domain->keys[i].selector};
    result = store->ops->select(store, STORE_SELECT_SELECTORS, &one, note_known, &known, error);
    if (result == 1) result = 0;
    if (known) domain->keys[i].fate = IMPORT_KNOWN;
    any_known |= known;
  }
  if (!result && any_known) result = store->ops->select(store, STORE_SELECT_REMOVED, &filter, note_guarded, domain, error);
  return result;
}

/* ---- what was left where a domain signs no more ---- */

struct entry_search {
  const struct import_signer *signer;
  const struct survey_key *entry;
  bool managed;
};

static int note_managed(void *context, const void *row) {
  struct entry_search *search = context;
  const struct lineage *lineage = row;
  for (size_t i = 0; i < lineage->key_count; i++)
    for (size_t j = 0; j < lineage->keys[i].placement_count; j++)
      search->managed |= text_equal_nocase(lineage->keys[i].selector, search->entry->selector) &&
                         text_equal(lineage->keys[i].placements[j].signer->key_table, search->signer->policy->key_table);
  return 0;
}

static bool signs_elsewhere(const struct import_signer *signer, const struct survey_key *entry) {
  const struct policy *policy = signer->import->policy;
  const struct policy_domain *domain = bsearch(entry->domain, policy->domains, policy->domain_count, sizeof *policy->domains, compare_name);
  for (size_t i = 0; domain && i < domain->signer_count; i++)
    if (&signer->import->signers[domain->signers[i]] == signer) return false;
  return domain && entry->line > 0 && !entry->every;
}

/* Of a key in the store dkimroll itself takes the lines away. */
static int find_left(struct import_signer *signer, struct error *error) {
  struct store *store = signer->import->session.store;
  int result = 0;
  signer->left = calloc(signer->survey.count + 1, sizeof *signer->left);
  if (!signer->left) return error_set(error, ERROR_NO_MEMORY, "out of memory for the tables");
  for (size_t i = 0; i < signer->survey.count && !result; i++) {
    struct entry_search search = {.signer = signer, .entry = signer->by_domain[i]};
    const struct store_filter filter = {.domain = search.entry->domain};
    if (!signs_elsewhere(signer, search.entry)) continue;
    if (store) result = store->ops->select(store, STORE_SELECT_LINEAGES, &filter, note_managed, &search, error);
    if (!search.managed) signer->left[signer->left_count++] = search.entry;
  }
  return result;
}

/* ---- the steps, from the loop ---- */

static void stop(struct import *import) {
  loop_stop(import->session.backends.loop);
}

static void proofs_done(struct import *import) {
  import_judge(import);
  stop(import);
}

static void signer_proved(void *context, const struct signer_result *results, size_t count) {
  struct import_signer *signer = context;
  signer->operation = NULL;
  for (size_t i = 0; i < count; i++) {
    struct import_domain *domain = signer->proved[i];
    domain->proved = true;
    for (size_t j = 0; j < domain->policy->signer_count; j++)
      if (import_signer_of(signer->import, domain, j) == signer) domain->signs_there[j] = !results[i].error.code;
    if (results[i].error.code && !domain->proof.code) domain->proof = results[i].error;
  }
  if (--signer->import->pending == 0) proofs_done(signer->import);
}

/* The record that its mail is to be verified with. Of a private key that cannot be read here it is what a server says: OpenDKIM may see more. NULL: there is none. */
static const char *record_to_prove(const struct import_key *key) {
  const char *record = key->expected;
  for (size_t i = 0; i < key->server_count && !record; i++) record = key->servers[i].record;
  return record;
}

/* What a domain that signs by this signer must show. */
static void add_proof(struct import_signer *signer, struct import_domain *domain, size_t place) {
  const struct import_key *key = domain->signs;
  if (domain->sender_counts[place] == 0 || !record_to_prove(key) || domain->obstacle[0] || signer->item_count == SIGNER_ITEMS_MAX) return;
  signer->proved[signer->item_count] = domain;
  signer->items[signer->item_count++] = (struct signer_item){.domain = domain->policy->name,
                                                             .selector = key->selector,
                                                             .record = record_to_prove(key),
                                                             .senders = domain->senders[place],
                                                             .sender_count = domain->sender_counts[place]};
}

static int start_proof(struct import_signer *signer, struct error *error) {
  struct import *import = signer->import;
  const struct engine_factory *factory = &import->session.backends.factory;
  signer->items = calloc(import->domain_count + 1, sizeof *signer->items);
  signer->proved = calloc(import->domain_count + 1, sizeof(struct import_domain *));
  if (!signer->items || !signer->proved) return error_set(error, ERROR_NO_MEMORY, "out of memory for the proofs");
  for (size_t i = 0; i < import->domain_count; i++) {
    struct import_domain *domain = &import->domains[i];
    for (size_t j = 0; j < domain->policy->signer_count && domain->signs; j++)
      if (import_signer_of(import, domain, j) == signer && domain->signs->fate != IMPORT_KNOWN) add_proof(signer, domain, j);
  }
  if (signer->item_count == 0) return 0;
  int result = factory->make_signer(factory->context, signer->policy, &signer->signer, error);
  if (!result)
    result = signer_prove(signer->signer, signer->items, signer->item_count,
                          loop_boottime(import->session.backends.loop) + IMPORT_PROVE_SECONDS * INT64_C(1000), signer_proved, signer,
                          &signer->operation, error);
  if (!result) import->pending++;
  return result;
}

static void start_proofs(struct import *import) {
  int result = 0;
  import->pending = 1;
  for (size_t i = 0; i < import->policy->signer_count && !result; i++)
    if (import->signers[i].used) result = start_proof(&import->signers[i], import->error);
  if (result)
    stop(import);
  else if (--import->pending == 0)
    proofs_done(import);
}

static int keep_answer(struct import_key *key, const struct observe_result *result) {
  key->asked = result->error;
  text_copy(key->zone, sizeof key->zone, result->zone);
  text_copy(key->owner, sizeof key->owner, result->owner);
  key->ttl_negative = result->ttl_negative;
  key->servers = calloc(result->server_count + 1, sizeof *key->servers);
  if (!key->servers) return ERROR_NO_MEMORY;
  for (; key->server_count < result->server_count; key->server_count++) {
    struct import_server *server = &key->servers[key->server_count];
    server->seen = result->servers[key->server_count];
    const char *served = server->seen.served;
    server->seen.served = NULL;
    /* A NUL is in no record of a key. */
    if (!served || memchr(served, '\0', server->seen.served_size)) continue;
    server->record = strndup(served, server->seen.served_size);
    if (!server->record) return ERROR_NO_MEMORY;
  }
  return 0;
}

static void observe_next(struct import *import);

static void observed(void *context, const struct observe_result *results, size_t count) {
  struct import *import = context;
  import->observation = NULL;
  for (size_t i = 0; i < count; i++) {
    if (keep_answer(import->asking[i], &results[i]) == 0) continue;
    error_set(import->error, ERROR_NO_MEMORY, "out of memory for the records");
    stop(import);
    return;
  }
  observe_next(import);
}

static void observe_next(struct import *import) {
  struct cli_backends *backends = &import->session.backends;
  size_t count = 0;
  for (; import->observed < import->key_count && count < OBSERVE_ITEMS_MAX; import->observed++) {
    struct import_key *key = &import->keys[import->observed];
    const struct policy_publisher *publisher = &import->policy->publishers[key->domain->policy->publisher];
    if (!key->name[0] || key->fate == IMPORT_KNOWN || key->fate == IMPORT_UNRELATED) continue;
    import->asking[count] = key;
    import->asked[count++] = (struct observe_item){.name = key->name,
                                                   .record = key->expected ? key->expected : "",
                                                   .zone = key->domain->policy->zone ? key->domain->policy->zone : publisher->zone,
                                                   .publisher = publisher};
  }
  if (count == 0) {
    start_proofs(import);
    return;
  }
  if (observer_start(backends->observer, OBSERVE_PRESENT, import->asked, count,
                     loop_boottime(backends->loop) + IMPORT_OBSERVE_SECONDS * INT64_C(1000), observed, import, &import->observation, import->error))
    stop(import);
}

static void surveys_done(struct import *import) {
  int result = import->error->code;
  for (size_t i = 0; i < import->policy->signer_count && !result; i++)
    if (import->signers[i].surveyed) result = import_index(&import->signers[i], import->error);
  if (!result) result = import_find_keys(import, import->error);
  for (size_t i = 0; i < import->domain_count && !result; i++) {
    result = import_find_signing(import, &import->domains[i], import->error);
    if (!result) result = look_into_store(import, &import->domains[i], import->error);
  }
  for (size_t i = 0; i < import->policy->signer_count && !result; i++)
    if (import->signers[i].surveyed) result = find_left(&import->signers[i], import->error);
  import->asked = calloc(OBSERVE_ITEMS_MAX, sizeof *import->asked);
  import->asking = calloc(OBSERVE_ITEMS_MAX, sizeof(struct import_key *));
  if (!result && (!import->asked || !import->asking)) result = error_set(import->error, ERROR_NO_MEMORY, "out of memory for the records");
  if (result)
    stop(import);
  else
    observe_next(import);
}

static void surveyed(void *context, const struct error *result, const uint8_t *reply, size_t size) {
  struct import_signer *signer = context;
  struct import *import = signer->import;
  struct error failure = *result;
  if (!failure.code) (void)!survey_read(reply, size, signer->policy, &signer->survey, &failure);
  signer->surveyed = !failure.code;
  if (failure.code) error_context(&failure, "signer %s", signer->policy->name);
  if (failure.code && !signer->used)
    signer->missed = failure;
  else if (failure.code && !import->error->code)
    *import->error = failure;
  if (--import->pending == 0) surveys_done(import);
}

static void begin(void *context) {
  struct import *import = context;
  struct loop *loop = import->session.backends.loop;
  import->now = loop_wall(loop);
  import->pending = 1;
  for (size_t i = 0; i < import->policy->signer_count && !import->error->code; i++) {
    struct import_signer *signer = &import->signers[i];
    struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
    /* Where no domain signs any more, its lines may have been left. */
    if (!signer->used && import->cli->arguments->operand_count > 0) continue;
    survey_request(&payload, signer->policy, import->names, import->domain_count);
    if (keeper_submit(import->session.backends.keeper, KEEPER_SURVEY, &payload, loop_boottime(loop) + IMPORT_SURVEY_SECONDS * INT64_C(1000), surveyed,
                      signer, import->error) == 0)
      import->pending++;
    buffer_release(&payload);
  }
  if (--import->pending == 0) stop(import);
}

/* ---- the command ---- */

/* Looking needs no lease, and no store. */
static int open_for_looking(struct import *import, struct error *error) {
  struct error missing = {0};
  int result = session_start_backends(&import->session, error);
  if (!result) result = session_open_for_reading(&import->session, &missing);
  if (result && missing.code && missing.code != ERROR_NOT_FOUND) *error = missing;
  return missing.code == ERROR_NOT_FOUND ? 0 : result;
}

static int open_for_writing(struct import *import, struct error *error) {
  int result = session_open(&import->session, error);
  if (!result) result = session_take_over(&import->session, "dkimroll import", error);
  if (result == ERROR_BUSY && wake_is_heard(import->session.state))
    error_remedy(error, "stop the daemon for it: systemctl stop dkimroll, and start it again afterwards");
  return result;
}

static int look(struct import *import, struct error *error) {
  import->policy = import->session.policy;
  *error = (struct error){0}; /* a store that is not there yet was no failure, and the steps report theirs here */
  const int result = choose_domains(import, error);
  return result ? result : session_run_loop(&import->session, begin, import, error);
}

int cli_command_import(const struct cli *cli) {
  struct error error = {0};
  CLEANUP(release_import) struct import import = {.cli = cli, .session = {.cli = cli}, .error = &error};
  int result = cli->arguments->apply ? open_for_writing(&import, &error) : open_for_looking(&import, &error);
  if (!result) result = look(&import, &error);
  if (!result && cli->arguments->apply) result = import_apply(&import, &error);
  if (result) return cli_report(cli, &error);
  const size_t left = import_report(&import, cli->arguments->apply);
  return cli->arguments->apply && left > 0 ? EX_TEMPFAIL : EX_OK;
}
