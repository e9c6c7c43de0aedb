/* What tables and key directories hold, domain by domain, and which line signs today. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/import.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"

/* ---- indexes ---- */

static int compare_lines(unsigned a, unsigned b) {
  return (a > b) - (a < b);
}

static int compare_names(const void *a, const void *b) {
  const struct survey_key *x = *(const struct survey_key *const *)a, *y = *(const struct survey_key *const *)b;
  const int order = strcmp(x->name, y->name);
  return order != 0 ? order : compare_lines(x->line, y->line);
}

static int compare_paths(const void *a, const void *b) {
  const struct survey_key *x = *(const struct survey_key *const *)a, *y = *(const struct survey_key *const *)b;
  const int order = strcmp(x->path, y->path);
  return order != 0 ? order : compare_lines(x->line, y->line);
}

/* KeyTable entries (with a line) stand before files of the same selector. */
static int compare_keys(const void *a, const void *b) {
  const struct survey_key *x = *(const struct survey_key *const *)a, *y = *(const struct survey_key *const *)b;
  int order = strcmp(x->domain, y->domain);
  if (order == 0) order = strcasecmp(x->selector, y->selector);
  return order != 0 ? order : compare_lines(x->line - 1, y->line - 1);
}

static int compare_spans(struct table_span a, struct table_span b) {
  const size_t size = a.size < b.size ? a.size : b.size;
  const int order = size > 0 ? memcmp(a.text, b.text, size) : 0;
  return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static int compare_values(const void *a, const void *b, void *context) {
  const struct table *signing = context;
  const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  struct table_span key, x_value = {0}, y_value = {0};
  unsigned line;
  (void)!table_read_entry(signing, x, &key, &x_value, &line);
  (void)!table_read_entry(signing, y, &key, &y_value, &line);
  const int order = compare_spans(x_value, y_value);
  return order != 0 ? order : compare_lines(x, y);
}

int import_index(struct import_signer *signer, struct error *error) {
  const struct survey *survey = &signer->survey;
  struct table_span key, value;
  unsigned line;
  size_t lines = 0;
  while (table_read_entry(survey->signing, lines, &key, &value, &line)) lines++;
  signer->by_name = calloc(survey->count + 1, sizeof(const struct survey_key *));
  signer->by_domain = calloc(survey->count + 1, sizeof(const struct survey_key *));
  signer->by_path = calloc(survey->count + 1, sizeof(const struct survey_key *));
  signer->by_value = calloc(lines + 1, sizeof *signer->by_value);
  if (!signer->by_name || !signer->by_domain || !signer->by_path || !signer->by_value)
    return error_set(error, ERROR_NO_MEMORY, "out of memory for the tables");
  for (size_t i = 0; i < survey->count; i++) signer->by_name[i] = signer->by_domain[i] = signer->by_path[i] = &survey->keys[i];
  qsort(signer->by_name, survey->count, sizeof *signer->by_name, compare_names);
  qsort(signer->by_domain, survey->count, sizeof *signer->by_domain, compare_keys);
  qsort(signer->by_path, survey->count, sizeof *signer->by_path, compare_paths);
  for (uint32_t i = 0; i < lines; i++)
    if (table_read_entry(survey->signing, i, &key, &value, &line) && key.size > 0) signer->by_value[signer->line_count++] = i;
  qsort_r(signer->by_value, signer->line_count, sizeof *signer->by_value, compare_values, survey->signing);
  return 0;
}

struct import_signer *import_signer_of(const struct import *import, const struct import_domain *domain, size_t place) {
  return &import->signers[domain->policy->signers[place]];
}

/* Of count keys, sorted by the text at offset member, the first one that is not before text. */
static size_t first_not_before(const struct survey_key *const *keys, size_t count, size_t member, const char *text) {
  size_t low = 0, high = count;
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    const char *const *at = (const void *)((const char *)keys[middle] + member);
    if (strcmp(*at, text) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* The first entry of KeyTable with that name, which is the one that OpenDKIM takes, as it is for domain. NULL: none. */
static const struct survey_key *find_entry(const struct import_signer *signer, const char *name, const char *domain) {
  size_t low = first_not_before(signer->by_name, signer->survey.count, offsetof(struct survey_key, name), name);
  if (low == signer->survey.count || !text_equal(signer->by_name[low]->name, name)) return NULL;
  const struct survey_key *found = signer->by_name[low];
  for (; low < signer->survey.count && found->every; low++) {
    const struct survey_key *same = signer->by_name[low];
    if (same->line != found->line || !text_equal(same->name, name)) break;
    if (text_equal(same->domain, domain)) return same;
  }
  return found;
}

unsigned import_line_of_name(const struct import_signer *signer, const struct survey_key *entry) {
  const size_t low = first_not_before(signer->by_name, signer->survey.count, offsetof(struct survey_key, name), entry->name);
  return low < signer->survey.count ? signer->by_name[low]->line : entry->line;
}

const struct survey_key *import_find_sharer(const struct import_signer *signer, const struct survey_key *entry) {
  size_t low = first_not_before(signer->by_path, signer->survey.count, offsetof(struct survey_key, path), entry->path);
  for (; entry->path[0] && low < signer->survey.count && text_equal(signer->by_path[low]->path, entry->path); low++) {
    const struct survey_key *other = signer->by_path[low];
    if (entry->line > 0 && other->line == entry->line) continue; /* one entry for any domain */
    if (!text_equal(other->domain, entry->domain) || !text_equal_nocase(other->selector, entry->selector)) return other;
  }
  return NULL;
}

/* ---- keys ---- */

static struct import_key *find_key(struct import_domain *domain, const char *selector) {
  for (size_t i = 0; i < domain->key_count; i++)
    if (text_equal_nocase(domain->keys[i].selector, selector)) return &domain->keys[i];
  return NULL;
}

static int complete_key(const struct policy_domain *policy, const struct survey_key *first, struct import_key *key, struct error *error) {
  struct error reason = {0};
  if (selector_owner_name(key->selector, policy->name, key->name, &reason)) key->name[0] = '\0';
  if (strlen(key->selector) >= SELECTOR_SIZE) key->name[0] = '\0';
  key->ttl_negative = -1;
  key->role = first->place == SURVEY_UNNAMED ? IMPORT_UNNAMED : IMPORT_UNUSED;
  /* A key that no verifier accepts has no record that could be built. */
  const struct keypair_public *half = &first->public_half;
  if (!half->public_key || !record_build(half->algorithm, half->public_key, half->public_key_size, &key->expected, &reason)) return 0;
  key->expected = NULL;
  if (reason.code != ERROR_NO_MEMORY) return 0;
  *error = reason;
  return error->code;
}

void import_note_lack(const struct import *import, int code) {
  if (code == ERROR_NO_MEMORY) (void)!error_set(import->error, ERROR_NO_MEMORY, "out of memory while keys were compared with tables and records");
}

static const char *sender_at(const struct import_domain *domain, size_t index) {
  return domain->policy->sender_count > 0 ? domain->policy->senders[index] : domain->everybody;
}

static size_t sender_count(const struct import_domain *domain) {
  return domain->policy->sender_count > 0 ? domain->policy->sender_count : 1;
}

/* The key name that a line of the SigningTable gives to mail of the domain. Caller frees; NULL: out of memory. */
static char *name_for(const struct import_domain *domain, struct table_span value) {
  return value.size == 1 && value.text[0] == '%' ? text_duplicate(domain->policy->name) : strndup(value.text, value.size);
}

/* Is it the entry that mail of some sender of the domain is signed by? */
static int is_taken(const struct import_domain *domain, const struct import_signer *signer, const struct survey_key *entry, bool *ret_taken, struct error *error) {
  *ret_taken = false;
  for (size_t i = 0; i < sender_count(domain) && !*ret_taken; i++) {
    CLEANUP_FREE char *address = NULL;
    struct table_span value;
    unsigned line;
    const int result = table_sender_address(sender_at(domain, i), domain->policy->name, &address, error);
    if (result) return result;
    if (!table_match_sender(signer->survey.signing, address, &value, &line)) continue;
    CLEANUP_FREE char *name = name_for(domain, value);
    if (!name) return error_set(error, ERROR_NO_MEMORY, "out of memory for a name");
    *ret_taken = find_entry(signer, name, domain->policy->name) == entry;
  }
  return 0;
}

/* Two entries of one selector, of which key has the first. One that serves any domain need not be meant for this one, and of two that name one file it is the one that signs. */
static int choose_entry(struct import_key *key, size_t place, const struct import_signer *signer, const struct survey_key *found, struct error *error) {
  const struct import_domain *domain = key->domain;
  const struct survey_key *before = key->at[place];
  const bool same = found->place == before->place && text_equal(found->path, before->path) && found->every == before->every;
  if (same && text_equal(found->name, before->name)) {
    key->copies += found->line > 0;
    return 0;
  }
  bool taken = false, before_taken = false;
  int result = is_taken(domain, signer, found, &taken, error);
  if (!result) result = is_taken(domain, signer, before, &before_taken, error);
  if (result) return result;
  const bool yields = !before_taken && ((before->every && !found->every) || ((before->every || found->every || same) && taken));
  const struct survey_key *other = yields ? before : found;
  if (yields) {
    key->at[place] = found;
    if (key->first == before) key->first = found;
  }
  if (!other->every && other->line > 0 && !key->other) key->other = other;
  return 0;
}

static int add_keys_of(struct import *import, struct import_domain *domain, size_t place, size_t *room, struct error *error) {
  const struct import_signer *signer = import_signer_of(import, domain, place);
  for (size_t i = first_not_before(signer->by_domain, signer->survey.count, offsetof(struct survey_key, domain), domain->policy->name);
       i < signer->survey.count && text_equal(signer->by_domain[i]->domain, domain->policy->name); i++) {
    const struct survey_key *found = signer->by_domain[i];
    struct import_key *key = find_key(domain, found->selector);
    if (key && key->at[place]) {
      const int result = choose_entry(key, place, signer, found, error);
      if (result) return result;
      continue;
    }
    if (!key) {
      if (*room == 0) return error_set(error, ERROR_INTERNAL, "more keys than were counted");
      --*room;
      key = &domain->keys[domain->key_count++];
      *key = (struct import_key){.domain = domain, .selector = found->selector, .first = found};
    }
    key->at[place] = found;
    if (key->first->line == 0 && found->line > 0) key->first = found;
  }
  return 0;
}

int import_find_keys(struct import *import, struct error *error) {
  size_t room = 0;
  for (size_t i = 0; i < import->policy->signer_count; i++) room += import->signers[i].survey.count;
  /* A signer's keys are those of at most one domain each. */
  import->keys = calloc(room + 1, sizeof *import->keys);
  if (!import->keys) return error_set(error, ERROR_NO_MEMORY, "out of memory for the keys");
  int result = 0;
  for (size_t i = 0; i < import->domain_count && !result; i++) {
    struct import_domain *domain = &import->domains[i];
    domain->keys = &import->keys[import->key_count];
    for (size_t j = 0; j < domain->policy->signer_count && !result; j++) result = add_keys_of(import, domain, j, &room, error);
    for (size_t j = 0; j < domain->key_count && !result; j++)
      if (domain->keys[j].first) result = complete_key(domain->policy, domain->keys[j].first, &domain->keys[j], error);
    import->key_count += domain->key_count;
  }
  return result;
}

/* ---- which line signs ---- */

static void hinder(struct import_domain *domain, char *why, char *remedy) {
  if (!domain->obstacle[0]) {
    text_copy(domain->obstacle, sizeof domain->obstacle, why ? why : "out of memory");
    text_copy(domain->remedy, sizeof domain->remedy, remedy ? remedy : "");
  }
  free(why);
  free(remedy);
}

static enum table_kind signing_kind(const struct import_signer *signer) {
  return signer->policy->signing_table_format == SIGNING_TABLE_FILE ? TABLE_SIGNING_FILE : TABLE_SIGNING_REFILE;
}

static bool span_is(struct table_span span, const char *text) {
  return span.size == strlen(text) && strncasecmp(span.text, text, span.size) == 0;
}

/* Is it, as it stands in this table, a sender that the policy gives to the domain? */
static bool is_own_pattern(const struct import_signer *signer, const struct policy_domain *domain, struct table_span pattern) {
  CLEANUP_FREE char *everybody = text_format("*@%s", domain->name);
  const size_t count = domain->sender_count > 0 ? domain->sender_count : 1;
  bool own = false;
  if (!everybody) import_note_lack(signer->import, ERROR_NO_MEMORY);
  for (size_t i = 0; i < count && everybody && !own; i++) {
    CLEANUP_FREE char *text = NULL;
    struct error unused = {0};
    const int result = table_sender_pattern(signing_kind(signer), domain->sender_count > 0 ? domain->senders[i] : everybody, &text, &unused);
    import_note_lack(signer->import, result);
    own = result == 0 && span_is(pattern, text);
  }
  return own;
}

unsigned import_next_line(const struct import_signer *signer, const struct import_key *key, size_t place, bool own, unsigned after,
                          struct table_span *ret_pattern) {
  const struct survey_key *entry = key->at[place];
  if (!entry || entry->line == 0 || import_line_of_name(signer, entry) != entry->line) return 0;
  const struct table_span name = {.text = entry->name, .size = strlen(entry->name)};
  size_t low = 0, high = signer->line_count;
  struct table_span pattern, value;
  unsigned line;
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    (void)!table_read_entry(signer->survey.signing, signer->by_value[middle], &pattern, &value, &line);
    if (compare_spans(value, name) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  for (; low < signer->line_count; low++) {
    (void)!table_read_entry(signer->survey.signing, signer->by_value[low], &pattern, &value, &line);
    if (compare_spans(value, name) != 0) return 0;
    if (line <= after || is_own_pattern(signer, key->domain->policy, pattern) != own) continue;
    *ret_pattern = pattern;
    return line;
  }
  return 0;
}

/* A line that signs for one sender of a domain at one signer. */
struct match {
  struct import_domain *domain;
  size_t place;
  const char *sender, *pattern; /* as in the policy, and as it would stand in this table */
  const char *name;             /* key name */
  struct table_span found;      /* the pattern that really stands there */
  unsigned line;
};

/* every: the line or the entry that it names serves any domain, and goes on doing so for others. */
static void judge_pattern(const struct import_signer *signer, const struct match *match, bool every) {
  if (span_is(match->found, match->pattern) || signing_kind(signer) == TABLE_SIGNING_FILE) return;
  hinder(match->domain,
         text_format("mail of %s is signed by a line for more than these senders: %s, line %u, \"%.*s\"", match->sender,
                     signer->policy->signing_table, match->line, (int)match->found.size, match->found.text),
         every ? text_format("write \"%s %s\" above that line: the same key signs on, by a line that can be switched alone; then import again",
                             match->pattern, match->name)
               : text_format("write \"%s %s\" in its place: the same key signs on, by a line that can be switched alone; or add \"%.*s\" to the senders "
                             "of %s in the policy; then import again",
                             match->pattern, match->name, (int)match->found.size, match->found.text, match->domain->policy->name));
}

/* With MultipleSignatures every line that matches signs. */
static void judge_others(const struct import_signer *signer, const struct match *match) {
  struct table_span pattern, value;
  unsigned line;
  if (!signer->policy->multiple_signatures || signing_kind(signer) == TABLE_SIGNING_FILE) return;
  for (size_t i = 0; table_read_entry(signer->survey.signing, i, &pattern, &value, &line); i++) {
    if (line == match->line || !span_is(pattern, match->pattern) || span_is(value, match->name)) continue;
    hinder(match->domain,
           text_format("two lines sign mail of %s, because opendkim.conf has MultipleSignatures: %s, lines %u and %u", match->sender,
                       signer->policy->signing_table, match->line, line),
           text_format("remove the line of the key that is to go, and import again"));
    return;
  }
}

static bool is_with_dot(const char *name, const char *domain) {
  const size_t size = strlen(domain);
  return strlen(name) == size + 1 && strncmp(name, domain, size) == 0 && name[size] == '.';
}

static void judge_other_domain(const struct import_signer *signer, const struct match *match, const struct survey_key *entry) {
  const char *name = match->domain->policy->name;
  if (entry->every) /* and this domain is none of those that it was told for */
    hinder(match->domain,
           text_format("%s, line %u, serves any domain, and is looked at for %d of them at a time", signer->policy->key_table, entry->line, SURVEY_EVERY_MAX),
           text_format("name the domain: dkimroll import %s", name));
  else
    hinder(match->domain,
           text_format("mail of %s is signed with d=%s, by %s, line %u", match->sender, entry->domain, signer->policy->signing_table, match->line),
           is_with_dot(entry->domain, name)
               ? text_format("write %s without the dot at its end into %s, line %u, reload OpenDKIM and import again", name, signer->policy->key_table, entry->line)
               : text_format("give that sender to %s in the policy, or remove the line", entry->domain));
}

static void take_entry(struct import *import, const struct match *match, const struct survey_key *entry) {
  struct import_domain *domain = match->domain;
  const struct import_signer *signer = import_signer_of(import, domain, match->place);
  struct import_key *key = find_key(domain, entry->selector);
  if (!text_equal(entry->domain, domain->policy->name) || !key) {
    judge_other_domain(signer, match, entry);
    return;
  }
  if (key->at[match->place] != entry)
    hinder(domain, text_format("%s has two entries for the selector %s, lines %u and %u", signer->policy->key_table, entry->selector, entry->line,
                               key->at[match->place] ? key->at[match->place]->line : 0),
           entry->every ? text_format("let all its lines name one of the two, and import again")
                        : text_format("remove the one that is wrong, and import again"));
  if (domain->signs && domain->signs != key)
    hinder(domain, text_format("two keys sign for it: %s and %s", domain->signs->selector, key->selector),
           domain->signs_at == match->place
               ? text_format("let all its lines in the SigningTable name one of them (its senders are in the policy), and import again")
               : text_format("remove the lines of %s from %s and import again, without a reload of OpenDKIM in between: %s is taken over, and the next run lets it sign there too",
                             key->selector, signer->policy->signing_table, domain->signs->selector));
  key->role = IMPORT_SIGNS;
  if (domain->signs) return;
  domain->signs_at = match->place;
  snprintf(domain->lines, sizeof domain->lines, "SigningTable line %u (%.*s)", match->line, (int)match->found.size, match->found.text);
  domain->signs = key;
}

static int find_match(struct import *import, struct match *match, struct error *error) {
  struct import_domain *domain = match->domain;
  const struct import_signer *signer = import_signer_of(import, domain, match->place);
  CLEANUP_FREE char *address = NULL;
  CLEANUP_FREE char *pattern = NULL;
  struct table_span name;
  unsigned line;
  int result = table_sender_address(match->sender, domain->policy->name, &address, error);
  if (!result) result = table_sender_pattern(signing_kind(signer), match->sender, &pattern, error);
  if (result) return result;
  if (!table_match_sender(signer->survey.signing, address, &name, &match->line)) {
    if (domain->unsigned_sender) return 0;
    domain->unsigned_sender = match->sender;
    domain->unsigned_at = match->place;
    return 0;
  }
  (void)!table_read_entry(signer->survey.signing, match->line - 1, &match->found, &name, &line);
  CLEANUP_FREE char *key_name = name_for(domain, name);
  if (!key_name) return error_set(error, ERROR_NO_MEMORY, "out of memory for a name");
  match->pattern = pattern;
  match->name = key_name;
  domain->senders[match->place][domain->sender_counts[match->place]++] = match->sender;
  const struct survey_key *entry = find_entry(signer, key_name, domain->policy->name);
  judge_pattern(signer, match, span_is(name, "%") || (entry && entry->every));
  judge_others(signer, match);
  if (entry)
    take_entry(import, match, entry);
  else
    hinder(domain, text_format("%s, line %u, names %s, which %s does not have: mail of %s is deferred", signer->policy->signing_table, match->line,
                               key_name, signer->policy->key_table, match->sender),
           text_format("correct that line; a domain that has no key that signs can simply be left to `dkimroll run`"));
  return 0;
}

/* An entry for any domain is a key of those that have a line for it. */
static void set_unrelated(const struct import *import, struct import_key *key) {
  struct table_span pattern;
  bool used = key == key->domain->signs || !key->first->every;
  for (size_t i = 0; i < key->domain->policy->signer_count && !used; i++)
    used = import_next_line(import_signer_of(import, key->domain, i), key, i, true, 0, &pattern) > 0;
  if (!used) key->fate = IMPORT_UNRELATED;
}

int import_find_signing(struct import *import, struct import_domain *domain, struct error *error) {
  const struct policy_domain *policy = domain->policy;
  const size_t count = sender_count(domain);
  int result = 0;
  for (size_t i = 0; i < policy->signer_count && !result; i++) {
    domain->senders[i] = calloc(count + 1, sizeof(const char *));
    if (!domain->senders[i]) return error_set(error, ERROR_NO_MEMORY, "out of memory for senders");
    for (size_t j = 0; j < count && !result; j++) {
      struct match match = {.domain = domain, .place = i, .sender = sender_at(domain, j)};
      result = find_match(import, &match, error);
    }
  }
  for (size_t i = 0; i < domain->key_count && !result; i++) set_unrelated(import, &domain->keys[i]);
  return result;
}
