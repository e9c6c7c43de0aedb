#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/columns.h"
#include "dkimroll/import.h"
#include "dkimroll/text.h"

static const char *plural(size_t count) {
  return count == 1 ? "" : "s";
}

static const char *algorithm_name(const struct keypair_public *half) {
  return half->algorithm == KEY_ALGORITHM_ED25519 ? "ed25519" : "rsa";
}

/* "rsa 1024: weak, since 2026-01-24 by its name" */
static void print_kind(FILE *out, const struct import_key *key) {
  const struct keypair_public *half = &key->first->public_half;
  char moment[TIME_TEXT_SIZE];
  if (!half->public_key)
    fprintf(out, "%snot readable: %s", text_starts(key->first->problem, "private key") ? "" : "private key ", key->first->problem);
  else if (half->algorithm == KEY_ALGORITHM_RSA)
    fprintf(out, "rsa %u%s", half->bits, key->weak ? " (weak: less than 2048 bits, RFC 8301)" : "");
  else
    fputs(algorithm_name(half), out);
  if (key->since_by[0]) fprintf(out, ", since %.10s %s", time_format(key->since, moment), key->since_by);
  fputc('\n', out);
}

/* Where it stands at each signer. */
static void print_places(FILE *out, const struct import *import, const struct import_key *key) {
  const struct import_domain *domain = key->domain;
  for (size_t i = 0; i < domain->policy->signer_count; i++) {
    const struct survey_key *entry = key->at[i];
    const struct import_signer *signer = import_signer_of(import, domain, i);
    if (!entry) continue;
    const struct survey_key *sharer = import_find_sharer(signer, entry);
    fputs("      ", out);
    if (domain->policy->signer_count > 1) fprintf(out, "%s: ", signer->policy->name);
    if (entry->line == 0)
      fprintf(out, "%s, which no table names", entry->path);
    else
      fprintf(out, "KeyTable line %u", entry->line);
    if (key->copies > 0) fprintf(out, " (and %zu more that say%s the same)", key->copies, key->copies == 1 ? "s" : "");
    if (entry->every) fputs(", \"%\" for any domain", out);
    const bool inlined = entry->place == SURVEY_INLINE && entry->public_half.public_key;
    if (inlined) fputs(", with the private key in the table itself", out);
    import_print_lines(out, import, key, i);
    fputc('\n', out);
    if (import_keeps_file(signer->policy, entry)) fprintf(out, "      its file %s stays when the key is gone: remove it then\n", entry->path);
    if (inlined)
      fputs("      that entry stays in KeyTable when the key is gone: remove it then\n", out);
    else if (entry->every)
      fputs("      that entry stays in KeyTable, for whoever else it serves\n", out);
    else if (entry->place == SURVEY_FILE && !entry->literal)
      fprintf(out, "      that entry and its file stay when the key is gone: remove them then (the entry does not say %s:%s:%s)\n", entry->domain,
              entry->selector, entry->path);
    if (key->other && i == 0)
      fprintf(out, "      KeyTable line %u (%s) is another entry of that selector, and stays: remove it with its file when the key is gone\n", key->other->line,
              key->other->name);
    if (sharer)
      fprintf(out, "      its private key file is also that of %s (KeyTable line %u), and stays as long as any line names it\n", sharer->domain, sharer->line);
  }
}

static bool seen_by_all(const struct import_key *key) {
  bool all = true;
  for (size_t i = 0; i < key->server_count; i++) all &= key->servers[i].seen.verdict != OBSERVE_SILENT;
  return all;
}

/* What may be removed by whoever knows whose it is. */
static void print_alien(FILE *out, const struct import_key *key) {
  if (!key->alien) return;
  fputs("      that record stays, since it may be somebody else's: if it is not, remove it", out);
  fputs(key->role == IMPORT_SIGNS ? ", so that the right one can be published and this key can end\n" : "\n", out);
}

static void print_record(FILE *out, const struct import_key *key) {
  if (key->asked.code || key->server_count == 0) return;
  if (key->served && key->owner[0] && !text_equal_nocase(key->owner, key->name))
    fprintf(out, "      its name is an alias of %s, in zone %s: the publisher must be allowed to change that record; else put the record itself in the place of the alias\n", key->owner, key->zone);
  if (!key->served && key->servers[0].seen.ttl >= 0)
    fprintf(out, "      what stands at its name is not one record (%zu servers asked: %s)\n", key->server_count, key->servers[0].seen.answer);
  else if (!key->served)
    fprintf(out, "      no server %s its record (%zu asked: %s)\n", seen_by_all(key) ? "has" : "tells", key->server_count, key->servers[0].seen.answer);
  else if (key->revoked)
    fprintf(out, "      its record says that it is revoked, on %zu of %zu servers\n", key->serving, key->server_count);
  else if (key->fault[0])
    fprintf(out, "      NO RECEIVER ACCEPTS its record; %zu of %zu servers serve it: %s\n", key->serving, key->server_count, key->fault);
  else if (!key->belongs && key->first->public_half.public_key)
    fprintf(out, "      its record DOES NOT BELONG to its private key; %zu of %zu servers serve it\n", key->serving, key->server_count);
  else
    fprintf(out, "      its record is served by %zu of %zu servers%s\n", key->serving, key->server_count,
            key->belongs ? " and belongs to its private key" : "");
  print_alien(out, key);
}

static const char *fate_text(const struct import_key *key) {
  switch (key->fate) {
  case IMPORT_ACTIVE: return "becomes active";
  case IMPORT_RETIRED: return "becomes retired";
  case IMPORT_REVOKED: return "becomes revoked";
  case IMPORT_RESERVED: return "is left alone; its selector is never used again";
  case IMPORT_KNOWN: return key->row ? "is left alone; its selector is reserved already" : "dkimroll has it already";
  case IMPORT_UNRELATED:
  case IMPORT_LEFT: break;
  }
  return "is left alone";
}

/* An entry of KeyTable that is not in our words is none that an edit of ours could find. */
static bool entry_stays(const struct import_key *key) {
  bool stays = false;
  for (size_t i = 0; i < key->domain->policy->signer_count; i++) stays |= key->at[i] && key->at[i]->line > 0 && !key->at[i]->literal;
  return stays;
}

/* What follows from it, where that is not the ordinary course of things. */
static const char *fate_consequence(const struct import_key *key) {
  if (key->fate == IMPORT_ACTIVE && !key->served) return "; its record is published by the next run";
  if (key->fate == IMPORT_ACTIVE && key->weak) return "; a new key follows at once, because this one is weak";
  if (key->fate == IMPORT_ACTIVE && key->replace) return "; a new key follows at once, because no mail that it signs verifies";
  if (key->fate == IMPORT_ACTIVE && key->overdue) return "; a new key follows at once, because this one is older than rotate-every";
  if (key->fate == IMPORT_ACTIVE) return "; the next rotation replaces it";
  if (key->fate == IMPORT_RETIRED && entry_stays(key))
    return key->served ? "; its record goes as the policy says, that entry stays" : "; there is nothing of it that goes";
  if (key->fate == IMPORT_RETIRED && (!key->served || key->alien)) return "; its lines and its file go";
  if (key->fate == IMPORT_RETIRED && key->role == IMPORT_UNNAMED) return "; its record, then its file go as the policy says";
  if (key->fate == IMPORT_RETIRED) return "; its lines go after the drain, its record and its file as the policy says";
  return "";
}

static void print_fate(FILE *out, const struct import_key *key) {
  fprintf(out, "   -> %s%s%s%s\n", fate_text(key), fate_consequence(key), key->why[0] ? ": " : "", key->why);
  if (key->fate == IMPORT_LEFT && key->remedy[0]) fprintf(out, "      remedy: %s\n", key->remedy);
}

static const char *role_text(const struct import *import, const struct import_key *key) {
  if (key->role == IMPORT_SIGNS) return "signs today";
  if (key->role == IMPORT_UNNAMED) return "file only";
  return import_signs_others(import, key) ? "signs some" : "never signs";
}

static void print_key(FILE *out, const struct import *import, const struct import_key *key) {
  fprintf(out, "  %-12s %s   ", role_text(import, key), key->selector);
  print_kind(out, key);
  print_places(out, import, key);
  print_record(out, key);
  if (key->role == IMPORT_SIGNS && key->domain->proved && !key->domain->proof.code)
    fputs("      a message of each sender was signed with it\n", out);
  print_fate(out, key);
}

static void print_domain(FILE *out, const struct import *import, const struct import_domain *domain) {
  fprintf(out, "%s\n", domain->policy->name);
  if (domain->signs) print_key(out, import, domain->signs);
  if (!domain->signs && domain->obstacle[0]) fprintf(out, "  %s\n      remedy: %s\n", domain->obstacle, domain->remedy);
  if (!domain->signs && !domain->obstacle[0] && !domain->has_active) fputs("  nothing signs for it yet: `dkimroll run` makes its first key\n", out);
  if (domain->signs && domain->signs->fate == IMPORT_ACTIVE && domain->unsigned_sender)
    fprintf(out, "  note: no line of %s matches mail of %s, so it is not signed there; from the next %s on it is\n", import_signer_of(import, domain, domain->unsigned_at)->policy->signing_table,
            domain->unsigned_sender, domain->signs_there[domain->unsigned_at] ? "rotation" : "run");
  for (size_t i = 0; i < domain->key_count; i++)
    if (&domain->keys[i] != domain->signs && domain->keys[i].fate != IMPORT_UNRELATED) print_key(out, import, &domain->keys[i]);
}

/* Domains that have nothing that is new are not worth a paragraph each. */
static bool is_worth_telling(const struct import_domain *domain) {
  for (size_t i = 0; i < domain->key_count; i++)
    if (domain->keys[i].fate != IMPORT_KNOWN && domain->keys[i].fate != IMPORT_UNRELATED) return true;
  return domain->obstacle[0] != '\0';
}

struct counts {
  size_t all, active, retired, reserved, known, left, quiet;
};

static void count_keys(const struct import *import, struct counts *counts) {
  for (size_t i = 0; i < import->domain_count; i++) {
    counts->quiet += !is_worth_telling(&import->domains[i]);
    for (size_t j = 0; j < import->domains[i].key_count; j++) {
      const enum import_fate fate = import->domains[i].keys[j].fate;
      counts->all += fate != IMPORT_UNRELATED;
      counts->active += fate == IMPORT_ACTIVE;
      counts->retired += fate == IMPORT_RETIRED || fate == IMPORT_REVOKED;
      counts->reserved += fate == IMPORT_RESERVED;
      counts->known += fate == IMPORT_KNOWN;
      counts->left += fate == IMPORT_LEFT;
    }
  }
}

/* ---- what the policy does not have ---- */

static int compare_policy_domain(const void *name, const void *domain) {
  return strcmp(name, ((const struct policy_domain *)domain)->name);
}

/* Whose next entry is of a domain that the policy lacks, and that none before was of; *at goes behind it. NULL: there is none any more. */
static const char *next_stranger(const struct import *import, const struct import_signer *signer, size_t *at) {
  const struct survey *survey = &signer->survey;
  while (*at < survey->count) {
    const struct survey_key *key = signer->by_domain[(*at)++];
    const bool again = *at > 1 && text_equal(signer->by_domain[*at - 2]->domain, key->domain);
    if (key->line == 0 || key->every || again) continue;
    if (!bsearch(key->domain, import->policy->domains, import->policy->domain_count, sizeof *import->policy->domains, compare_policy_domain)) return key->domain;
  }
  return NULL;
}

/* The same of those that sign elsewhere. */
static const char *next_left(const struct import *import, const struct import_signer *signer, size_t *at) {
  (void)import;
  while (*at < signer->left_count) {
    const char *domain = signer->left[(*at)++]->domain;
    if (*at == 1 || !text_equal(signer->left[*at - 2]->domain, domain)) return domain;
  }
  return NULL;
}

typedef const char *next_domain(const struct import *import, const struct import_signer *signer, size_t *at);

static void print_strangers(FILE *out, const struct import *import, const struct import_signer *signer, next_domain *next, const char *what, const char *advice) {
  size_t count = 0;
  const char *name;
  for (size_t at = 0; next(import, signer, &at);) count++;
  if (count == 0) return;
  fprintf(out, "%s has keys of %zu domain%s that %s not %s: ", signer->policy->key_table, count, plural(count), count == 1 ? "is" : "are", what);
  size_t shown = 0;
  for (size_t at = 0; shown < IMPORT_STRANGERS_SHOWN && (name = next(import, signer, &at)); shown++) fprintf(out, "%s%s", shown ? ", " : "", name);
  fprintf(out, "%s %s\n", count > shown ? ", ..." : ".", advice);
}

/* Whoever takes over a host with many domains easily forgets one in the policy, and whoever moves one to another signer the lines that it had. */
static void print_elsewhere(FILE *out, const struct import *import, const struct import_signer *signer) {
  if (signer->missed.code) fprintf(out, "%s. No domain signs there by the policy; lines that were left there are not seen.\n", signer->missed.message);
  if (!signer->surveyed) return;
  print_strangers(out, import, signer, next_stranger, "in the policy", "They stay as they are.");
  print_strangers(out, import, signer, next_left, "to sign there by the policy",
                  "Mail that is signed there all the same fails once their records are gone: remove their lines from both tables, or give them that signer in the policy "
                  "and import again.");
}

/* A path in the policy that is not that of opendkim.conf looks just like a host where nothing signs yet. */
static void print_empty(FILE *out, const struct import_signer *signer) {
  for (size_t i = 0; i < signer->survey.count; i++)
    if (signer->survey.keys[i].line > 0) return;
  fprintf(out, "%s has no entries. If OpenDKIM signs today, it does so by other tables than those of the policy, or by Domain, Selector and KeyFile of opendkim.conf: "
               "give that key entries in the tables first.\n", signer->policy->key_table);
}

size_t import_report(const struct import *import, bool applied) {
  FILE *out = import->cli->out;
  struct counts counts = {0};
  count_keys(import, &counts);
  for (size_t i = 0; i < import->domain_count; i++)
    if (is_worth_telling(&import->domains[i])) print_domain(out, import, &import->domains[i]);
  for (size_t i = 0; import->cli->arguments->operand_count == 0 && i < import->policy->signer_count; i++)
    print_elsewhere(out, import, &import->signers[i]);
  for (size_t i = 0; i < import->policy->signer_count; i++)
    if (import->signers[i].used) print_empty(out, &import->signers[i]);
  if (counts.quiet > 0) fprintf(out, "%zu domain%s without anything to import\n", counts.quiet, plural(counts.quiet));
  const size_t adopted = counts.active + counts.retired + counts.reserved;
  fprintf(out, "\n%zu key%s found: %zu active, %zu retired, %zu with a reserved selector, %zu known already, %zu left alone.\n", counts.all,
          plural(counts.all), counts.active, counts.retired, counts.reserved, counts.known, counts.left);
  if (applied)
    fprintf(out, adopted > 0 ? "Taken over; no table and no record was changed. `dkimroll plan` tells what comes next, and `dkimroll run` does it.\n"
                             : "There was nothing to take over.\n");
  else
    fprintf(out, adopted > 0       ? "Nothing was changed. `dkimroll import --apply` does what stands behind \"->\".\n"
                 : counts.left > 0 ? "Nothing was changed. What is left alone can be taken over when its remedy is done.\n"
                                   : "Nothing was changed, and nothing is to be done.\n");
  return counts.left;
}
