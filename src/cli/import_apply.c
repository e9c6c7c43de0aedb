/* Writes what was judged: lineages with their adopted keys, in one transaction. Tables, files and records stay as they are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/import.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"

/* Everything of the transaction. */
struct writing {
  struct import *import;
  struct lineage *lineages; /* owned */
  size_t count, capacity;
  struct event_list events;
  const struct import_domain *domain; /* whose rows are being read */
  struct error *error;
};

static void release_writing(struct writing *writing) {
  for (size_t i = 0; i < writing->count; i++) lineage_release(&writing->lineages[i]);
  free(writing->lineages);
  event_list_release(&writing->events);
}

/* ---- versions of signers ---- */

static int no_memory(struct error *error) {
  return error_set(error, ERROR_NO_MEMORY, "out of memory for the import");
}

/* text with each occurrence of word replaced by field. Caller frees; NULL: out of memory. */
static char *generalise(const char *text, const char *word, const char *field) {
  struct buffer result = BUFFER_WITH_MAXIMUM(POLICY_FILE_MAX);
  for (const char *found; (found = strstr(text, word)); text = found + strlen(word)) {
    buffer_add(&result, text, (size_t)(found - text));
    buffer_add_text(&result, field);
  }
  buffer_add_text(&result, text);
  char *whole = buffer_take_text(&result);
  if (!whole) buffer_release(&result);
  return whole;
}

static bool lies_below(const char *path, const char *directory_template) {
  const size_t length = strcspn(directory_template, "%");
  return strncmp(path, directory_template, length) == 0 && (length == 0 || directory_template[length - 1] == '/' || path[length] == '/');
}

bool import_keeps_file(const struct policy_signer *policy, const struct survey_key *entry) {
  const char *slash = strrchr(entry->path, '/');
  if (!slash || lies_below(entry->path, policy->key_directory)) return false;
  /* "/etc/dkim.key", "/dkim.key" */
  return !memchr(entry->path + 1, '/', (size_t)(slash - entry->path)) || strchr(entry->path + 1, '/') == slash;
}

/* The policy's key-directory, if the file lies in it or below its fixed part; else the directory where it is. */
static char *find_directory(const struct policy_signer *policy, const struct survey_key *entry) {
  const char *slash = strrchr(entry->path, '/');
  if (!slash || lies_below(entry->path, policy->key_directory) || import_keeps_file(policy, entry)) return text_duplicate(policy->key_directory);
  CLEANUP_FREE char *directory = strndup(entry->path, (size_t)(slash - entry->path));
  return directory ? generalise(directory, entry->domain, "%d") : NULL;
}

static char *find_name(const struct policy_signer *policy, const struct survey_key *entry) {
  CLEANUP_FREE char *usual = policy_signer_key_name(policy, entry->domain, entry->selector);
  if (!usual) return NULL;
  if (entry->line == 0 || text_equal(usual, entry->name)) return text_duplicate(policy->key_name);
  CLEANUP_FREE char *part = generalise(entry->name, entry->domain, "%d");
  return part ? generalise(part, entry->selector, "%s") : NULL;
}

/* The signer with the directory and the name that the entry really has. *ret_version NULL: those are the policy's. */
static int find_version(struct import *import, const struct policy_signer *policy, const struct survey_key *entry,
                        const struct policy_signer **ret_version, struct error *error) {
  CLEANUP_FREE char *directory = find_directory(policy, entry);
  CLEANUP_FREE char *name = find_name(policy, entry);
  if (!directory || !name) return no_memory(error);
  *ret_version = NULL;
  if (text_equal(directory, policy->key_directory) && text_equal(name, policy->key_name)) return 0;
  for (size_t i = 0; i < import->version_count; i++) {
    const struct policy_signer *version = &import->versions[i]->signer;
    *ret_version = version;
    if (version->name == policy->name && text_equal(version->key_directory, directory) && text_equal(version->key_name, name)) return 0;
  }
  if (import->version_count + import->session.old_signer_count >= IMPORT_VERSIONS_MAX) {
    error_set(error, ERROR_LIMIT, "more than %d different directories and names of keys, with those of keys that are known", IMPORT_VERSIONS_MAX);
    return error_remedy(error, "name key-directory and key-name in the policy as most of the keys have them, or leave domains out: dkimroll import "
                               "--apply DOMAIN...");
  }
  struct import_version *version = calloc(1, sizeof *version);
  if (!version) return no_memory(error);
  version->signer = *policy;
  version->signer.key_directory = TAKE_PTR(directory);
  version->signer.key_name = TAKE_PTR(name);
  import->versions[import->version_count++] = version;
  *ret_version = &version->signer;
  return 0;
}

/* ---- one key ---- */

static int fill_places(struct import *import, const struct import_key *key, const struct lineage *lineage, struct adoption *adoption,
                       struct adoption_place *places, struct error *error) {
  for (size_t i = 0; i < key->domain->policy->signer_count && i < lineage->signer_count; i++) {
    const struct survey_key *entry = key->at[i];
    const struct policy_signer *version = NULL, *policy = import_signer_of(import, key->domain, i)->policy;
    if (!entry) continue;
    const int result = find_version(import, policy, entry, &version, error);
    if (result) return result;
    places[adoption->place_count++] = (struct adoption_place){.signer_id = version ? 0 : lineage->signer_ids[i],
                                                              .signer = version ? version : lineage->signers[i],
                                                              .key_path = entry->place == SURVEY_INLINE ? NULL : entry->path,
                                                              .keep_file = import_keeps_file(policy, entry),
                                                              .named = entry->line > 0,
                                                              .signs = key == key->domain->signs && key->domain->signs_there[i]};
  }
  adoption->places = places;
  return 0;
}

static void fill_sightings(const struct import_key *key, struct adoption *adoption, struct sighting_report *reports) {
  for (size_t i = 0; i < key->server_count; i++) {
    const struct observe_server *seen = &key->servers[i].seen;
    const bool right = key->served && text_equal(key->servers[i].record, key->record);
    reports[i] = (struct sighting_report){.host = seen->host,
                                          .address = seen->address,
                                          .right = right,
                                          .no_route = seen->verdict == OBSERVE_NO_ROUTE,
                                          .at = seen->at,
                                          .ttl = seen->ttl,
                                          .ttl_negative = seen->ttl_negative,
                                          .answer = seen->answer};
  }
  adoption->sightings = reports;
  adoption->sighting_count = key->server_count;
}

static enum key_state fate_state(enum import_fate fate) {
  switch (fate) {
  case IMPORT_ACTIVE: return KEY_ACTIVE;
  case IMPORT_RETIRED: return KEY_RETIRED;
  case IMPORT_REVOKED: return KEY_REVOKED;
  case IMPORT_RESERVED:
  case IMPORT_UNRELATED:
  case IMPORT_LEFT:
  case IMPORT_KNOWN: break;
  }
  return KEY_REMOVED;
}

static const char *describe(const struct import_key *key, char *buffer, size_t size) {
  if (key->fate == IMPORT_ACTIVE)
    snprintf(buffer, size, "signs by %s%s", key->domain->lines, key->served ? "" : "; no server has its record yet");
  else if (key->fate == IMPORT_RESERVED)
    snprintf(buffer, size, "%.400s; only its selector is reserved", key->why);
  else
    snprintf(buffer, size, "%s does not sign%s", key->role == IMPORT_UNNAMED ? "no table names it and it" : "in KeyTable, and",
             key->served ? "" : "; no server has its record");
  return buffer;
}

/* Of a private key that cannot be read, the record tells the kind; RSA keys of the usual sizes have records of these (SubjectPublicKeyInfo, e = 65537). */
static int find_kind(const struct import_key *key, struct adoption *adoption, struct error *error) {
  static const struct {
    size_t octets;
    unsigned bits;
  } sizes[] = {{162, 1024}, {294, 2048}, {422, 3072}, {550, 4096}};
  const struct keypair_public *half = &key->first->public_half;
  struct record record = {0};
  struct error reason = {0};
  adoption->algorithm = half->public_key ? half->algorithm : KEY_ALGORITHM_RSA;
  adoption->bits = half->public_key ? half->bits : 1;
  if (half->public_key || !key->served) return 0;
  if (record_parse(key->record, strlen(key->record), &record, &reason)) return reason.code == ERROR_NO_MEMORY ? no_memory(error) : 0;
  if (record.algorithm == KEY_ALGORITHM_ED25519) {
    adoption->algorithm = KEY_ALGORITHM_ED25519;
    adoption->bits = 256;
  }
  for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
    if (record.algorithm == KEY_ALGORITHM_RSA && record.public_key_size == sizes[i].octets) adoption->bits = sizes[i].bits;
  record_release(&record);
  return 0;
}

static int adopt_key(struct writing *writing, const struct import_key *key, struct lineage *lineage) {
  struct adoption_place places[POLICY_SIGNERS_MAX];
  char reason[512];
  struct sighting_report *reports = calloc(key->server_count + 1, sizeof *reports);
  if (!reports) return no_memory(writing->error);
  struct adoption adoption = {.selector = key->selector,
                              .id = key->row,
                              .state = fate_state(key->fate),
                              .record = key->fate == IMPORT_RESERVED ? NULL : key->record,
                              .unserved = !key->served || key->alien,
                              .replace = key->replace,
                              .since = key->since,
                              .ttl = key->ttl,
                              .ttl_negative = key->ttl_negative,
                              .zone = key->zone,
                              .owner = key->owner,
                              .reason = describe(key, reason, sizeof reason)};
  fill_sightings(key, &adoption, reports);
  int result = find_kind(key, &adoption, writing->error);
  if (!result) result = fill_places(writing->import, key, lineage, &adoption, places, writing->error);
  if (!result) result = lifecycle_adopt(lineage, &adoption, writing->import->now, &writing->events, writing->error);
  free(reports);
  return result;
}

/* ---- one domain ---- */

static int keep_lineage(void *context, const void *row) {
  struct writing *writing = context;
  if (writing->count == writing->capacity) {
    const size_t capacity = writing->capacity ? writing->capacity * 2 : 64;
    struct lineage *grown = reallocarray(writing->lineages, capacity, sizeof *grown);
    if (!grown) return no_memory(writing->error);
    writing->lineages = grown;
    writing->capacity = capacity;
  }
  const int result = lineage_copy(row, &writing->lineages[writing->count], writing->error);
  if (!result) writing->count++;
  return result;
}

/* The slot that guards the selector; else the one whose keys are of the same kind; else the first. */
static struct lineage *choose_slot(struct writing *writing, size_t first, const struct import_key *key) {
  for (size_t i = first; i < writing->count && key->row; i++)
    if (writing->lineages[i].id == key->lineage) return &writing->lineages[i];
  for (size_t i = first; i < writing->count; i++) {
    const struct policy_key *rule = lineage_rule(&writing->lineages[i]);
    if (rule && rule->algorithm == key->first->public_half.algorithm) return &writing->lineages[i];
  }
  return &writing->lineages[first];
}

static bool is_adopted(const struct import_key *key) {
  return key->fate != IMPORT_LEFT && key->fate != IMPORT_KNOWN && key->fate != IMPORT_UNRELATED;
}

/* Keys of domain that go to this one of its lineages: the chosen one, but for those whose selectors another one guards. The key that signs comes first, because the others count on it. */
static int adopt_into(struct writing *writing, const struct import_domain *domain, struct lineage *lineage, const struct lineage *chosen) {
  CLEANUP(lineage_release) struct lineage before = {0};
  int result = lineage_copy(lineage, &before, writing->error);
  for (int pass = 0; pass < 2; pass++)
    for (size_t i = 0; i < domain->key_count && !result; i++) {
      const struct import_key *key = &domain->keys[i];
      const bool here = key->row ? key->lineage == lineage->id : lineage == chosen;
      if (here && is_adopted(key) && (key == domain->signs) == (pass == 0)) result = adopt_key(writing, key, lineage);
    }
  return result ? result : invariant_holds(&before, lineage, writing->error);
}

/* The key that signs goes where the others go, so that they have a successor. */
static int adopt_domain(struct writing *writing, const struct import_domain *domain) {
  const size_t first = writing->count;
  const struct store_filter filter = {.domain = domain->policy->name};
  struct store *store = writing->import->session.store;
  bool any = false;
  for (size_t i = 0; i < domain->key_count; i++) any |= is_adopted(&domain->keys[i]);
  if (!any) return 0;
  int result = store->ops->select(store, STORE_SELECT_LINEAGES, &filter, keep_lineage, writing, writing->error);
  if (!result && writing->count == first)
    result = error_set(writing->error, ERROR_INTERNAL, "%s is in the policy and not in the store", domain->policy->name);
  if (result) return result;
  const struct lineage *chosen = choose_slot(writing, first, domain->signs ? domain->signs : &domain->keys[0]);
  for (size_t i = first; i < writing->count && !result; i++) result = adopt_into(writing, domain, &writing->lineages[i], chosen);
  return result;
}

static int commit(struct writing *writing) {
  struct store *store = writing->import->session.store;
  struct lineage **rows = calloc(writing->count + 1, sizeof(struct lineage *));
  if (!rows) return no_memory(writing->error);
  for (size_t i = 0; i < writing->count; i++) rows[i] = &writing->lineages[i];
  const struct store_commit all = {.lineages = rows,
                                   .lineage_count = writing->count,
                                   .events = writing->events.items,
                                   .event_count = writing->events.count};
  const int result = writing->count > 0 ? store->ops->commit(store, &all, writing->error) : 0;
  free(rows);
  return result;
}

int import_apply(struct import *import, struct error *error) {
  CLEANUP(release_writing) struct writing writing = {.import = import, .error = error};
  int result = 0;
  for (size_t i = 0; i < import->domain_count && !result; i++) result = adopt_domain(&writing, &import->domains[i]);
  return result ? result : commit(&writing);
}
