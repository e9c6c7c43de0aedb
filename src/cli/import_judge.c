/* What becomes of each key. Pure: everything that was found is in the arguments. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/import.h"
#include "dkimroll/record.h"
#include "dkimroll/text.h"

/* ---- age ---- */

static bool is_digit(char letter) {
  return letter >= '0' && letter <= '9';
}

static bool read_date(const char *digits, size_t count, int64_t now, int64_t *ret_moment) {
  char text[sizeof "2026-01-24"];
  const int64_t earliest = INT64_C(1167609600); /* 2007, when RFC 4871 came: no selector is older */
  snprintf(text, sizeof text, "%.4s-%.2s-%.2s", digits, digits + 4, count == 8 ? digits + 6 : "01");
  int64_t moment;
  if (!time_parse(text, &moment) || moment < earliest || moment > now) return false;
  *ret_moment = moment;
  return true;
}

bool import_selector_date(const char *selector, int64_t now, int64_t *ret_moment) {
  for (const char *at = selector; *at;) {
    size_t count = 0;
    while (is_digit(at[count])) count++;
    /* Eight digits are a day, and more than that a day with its hour; six are a month. */
    if ((count == 8 || count == 10 || count == 12) && read_date(at, 8, now, ret_moment)) return true;
    if (count == 6 && read_date(at, 6, now, ret_moment)) return true;
    at += count ? count : 1;
  }
  return false;
}

static void judge_age(const struct import *import, struct import_key *key) {
  key->since = import->now;
  key->since_by = "";
  if (import_selector_date(key->selector, import->now, &key->since)) {
    key->since_by = "by its name";
  } else if (key->first->modified > 0 && key->first->modified <= import->now) {
    key->since = key->first->modified;
    key->since_by = "by its file";
  }
}

/* ---- DNS ---- */

/* fault: of size octets, why it is no record of any key. */
static bool is_revoked(const struct import *import, const char *text, char *fault, size_t size) {
  struct record record = {0};
  struct error error = {0};
  fault[0] = '\0';
  const int result = record_parse(text, strlen(text), &record, &error);
  import_note_lack(import, result);
  if (result == ERROR_INVALID) text_copy(fault, size, error.message);
  if (result) return false;
  const bool revoked = record.revoked;
  record_release(&record);
  return revoked;
}

/* Which of the records that servers serve is the one that counts: one that belongs to the private key, else the first. */
static void choose_record(const struct import *import, struct import_key *key) {
  const struct keypair_public *half = &key->first->public_half;
  for (size_t i = 0; i < key->server_count; i++) {
    const char *text = key->servers[i].record;
    if (!text || (key->served && key->belongs)) continue;
    bool good = false;
    import_note_lack(import, record_holds(text, half->algorithm, half->public_key, half->public_key_size, &good, NULL));
    if (key->served && !good) continue;
    key->served = true;
    key->record = text;
    key->belongs = good;
    key->revoked = is_revoked(import, text, key->fault, sizeof key->fault);
  }
  for (size_t i = 0; i < key->server_count; i++) {
    if (!key->record || !text_equal(key->servers[i].record, key->record)) continue;
    key->serving++;
    if (key->servers[i].seen.ttl > (int64_t)key->ttl) key->ttl = (uint32_t)key->servers[i].seen.ttl;
  }
  /* That of another key is nothing to put back when it vanishes, nor to take away: what it stands for is in other hands. */
  key->alien = key->served && !key->belongs && !key->revoked && key->expected;
  if (!key->record || key->alien) key->record = key->expected;
}

static bool any_answers(const struct import_key *key) {
  for (size_t i = 0; i < key->server_count; i++)
    if (key->servers[i].seen.verdict == OBSERVE_RIGHT || key->servers[i].seen.verdict == OBSERVE_WRONG) return true;
  return false;
}

static void leave(struct import_key *key, const char *why, const char *remedy) {
  key->fate = IMPORT_LEFT;
  text_copy(key->why, sizeof key->why, why);
  text_copy(key->remedy, sizeof key->remedy, remedy);
}

/* What keeps a key from being taken over, whatever it is for. */
static bool is_out_of_reach(struct import_key *key) {
  if (!key->name[0]) {
    leave(key, "its selector is none that RFC 6376 3.1 knows (letters, digits and hyphens, with dots between), or is longer than 63 octets",
          key->role == IMPORT_SIGNS ? "publish its record under another selector, too; when every server has it, write that selector into its KeyTable entry in "
                                      "the place of this one, reload OpenDKIM and import again"
                                    : "remove its lines, its file and its record yourself");
    return true;
  }
  if (key->asked.code) {
    leave(key, key->asked.message, key->asked.remedy);
    return true;
  }
  if (!any_answers(key)) {
    leave(key, "no name server gives a usable answer about its record", "see that the name servers are up and reachable, and import again");
    return true;
  }
  for (size_t i = 0; i < key->server_count; i++) {
    const struct import_server *server = &key->servers[i];
    if (server->seen.ttl < 0 || server->record) continue;
    snprintf(key->why, sizeof key->why, "%s answers for its record: %s", server->seen.host, server->seen.answer);
    key->fate = IMPORT_LEFT;
    text_copy(key->remedy, sizeof key->remedy, "let one TXT record stand at that name, and import again");
    return true;
  }
  return false;
}

/* ---- fates ---- */

/* A pattern that no sender of the policy can say is nothing to add there. */
static void advise_for_others(const struct import_signer *signer, struct import_key *key, struct table_span pattern) {
  const struct policy_domain *policy = key->domain->policy;
  CLEANUP_FREE char *text = strndup(pattern.text, pattern.size);
  CLEANUP_FREE char *address = NULL;
  struct error unused = {0};
  const int result = text ? table_sender_address(text, policy->name, &address, &unused) : ERROR_NO_MEMORY;
  import_note_lack(signer->import, result);
  if (import_matches_nothing(signer, pattern))
    snprintf(key->remedy, sizeof key->remedy,
             "remove that line, which signs nothing, and import again; or correct signing-table in the policy, if opendkim.conf does not have that table as %s",
             import_table_kind(signer));
  else if (result)
    snprintf(key->remedy, sizeof key->remedy,
             "write a line for each address or domain that it stands for in its place, and add these to the senders of %s in the policy, or point the line at "
             "another key; then import again", policy->name);
  else
    snprintf(key->remedy, sizeof key->remedy, "add that pattern to the senders of %s in the policy, or point the line at another key; then import again",
             policy->name);
}

static void leave_for_others(const struct import_signer *signer, struct import_key *key, unsigned line, struct table_span pattern) {
  const struct policy_domain *policy = key->domain->policy;
  const bool nothing = import_matches_nothing(signer, pattern);
  key->fate = IMPORT_LEFT;
  snprintf(key->why, sizeof key->why, "%s, line %u, has it for \"%.*s\", which %s %s %s", signer->policy->signing_table, line, (int)pattern.size, pattern.text,
           nothing ? "no address matches in a" : "is no sender of", nothing ? import_table_kind(signer) : policy->name, nothing ? "table" : "in the policy");
  advise_for_others(signer, key, pattern);
  if (nothing || policy->sender_count > 0) return;
  const size_t size = strlen(key->remedy);
  snprintf(key->remedy + size, sizeof key->remedy - size, " (it names none there, which stands for \"*@%s\": write both)", policy->name);
}

/* A line for other senders goes on signing with the key when its domain has switched, so its record must live. */
static bool serves_others(const struct import *import, struct import_key *key) {
  for (size_t i = 0; i < key->domain->policy->signer_count; i++) {
    const struct import_signer *signer = import_signer_of(import, key->domain, i);
    struct table_span pattern = {0};
    const unsigned line = key->at[i] && key->at[i]->literal ? import_next_line(signer, key, i, false, 0, &pattern) : 0;
    if (line == 0) continue;
    leave_for_others(signer, key, line, pattern);
    return true;
  }
  return false;
}

/* A stable key name is switched by its KeyTable entry alone, which then must be of the form that dkimroll writes. */
static bool name_is_stable(const struct import *import, const struct import_key *key, size_t place) {
  const struct import_signer *signer = import_signer_of(import, key->domain, place);
  const struct survey_key *entry = key->at[place];
  char *name = policy_signer_key_name(signer->policy, key->domain->policy->name, "x");
  if (!name) import_note_lack(import, ERROR_NO_MEMORY);
  const bool stable = entry && !entry->literal && text_equal(name, entry->name);
  free(name);
  return stable;
}

static void leave_unproved(struct import_key *key) {
  const struct import_domain *domain = key->domain;
  const struct survey_key *first = key->first;
  leave(key, domain->proof.code ? domain->proof.message : "its signer was not asked whether it signs: that is done for 5000 domains at a time",
        domain->proof.code ? domain->proof.remedy : "import again, or name the domain");
  if (!domain->proof.code || first->place != SURVEY_INLINE || first->public_half.bits < IMPORT_INLINE_BITS) return;
  snprintf(key->remedy, sizeof key->remedy,
           "write the key into a file, name that file in KeyTable line %u in its place, reload OpenDKIM and import again: OpenDKIM reads at most %d octets of a line, "
           "and the key is longer", first->line, TABLE_LINE_MAX);
}

/* As a rule OpenDKIM cannot read it either. */
static void leave_unread(struct import_key *key) {
  const struct survey_key *first = key->first;
  const struct import_domain *domain = key->domain;
  if (first->place == SURVEY_FILE && first->path[0] != '/') {
    leave(key, first->problem, "write the whole path of that file into KeyTable, and import again");
    return;
  }
  if (domain->proved && domain->proof.code && domain->proof.code != ERROR_PROOF) { /* the signer was not reached: who knows what it reads? */
    leave_unproved(key);
    return;
  }
  const bool signs = domain->proved && !domain->proof.code;
  key->fate = IMPORT_LEFT;
  snprintf(key->why, sizeof key->why, "%s, %s mail of %s is %s", first->problem, signs ? "although" : "so", domain->policy->name,
           signs ? "signed with it: OpenDKIM sees what the keeper does not" : "deferred");
  if (signs)
    snprintf(key->remedy, sizeof key->remedy,
             "do not remove anything; move that file to where dkimroll-keeper@.service may read it (/home, /root, /run/user and /tmp are hidden from it), correct "
             "KeyTable line %u, reload OpenDKIM and import again", first->line);
  else if (first->place == SURVEY_INLINE)
    snprintf(key->remedy, sizeof key->remedy,
             "write the whole path of its file, from the first / on, into KeyTable line %u in the place of what stands there, reload OpenDKIM and import again", first->line);
  else
    snprintf(key->remedy, sizeof key->remedy,
             "put the key back from a backup and import again; if there is none, remove %s and import again: another line may sign then, else `dkimroll run` "
             "gives the domain a key", domain->lines);
}

static bool signing_is_out_of_reach(const struct import *import, struct import_key *key) {
  struct import_domain *domain = key->domain;
  if (domain->obstacle[0]) {
    leave(key, domain->obstacle, domain->remedy);
    return true;
  }
  for (size_t i = 0; i < domain->policy->signer_count; i++) {
    if (!name_is_stable(import, key, i)) continue;
    leave(key, "the policy's key-name is that of its KeyTable entry, which holds no plain path", "choose key-name: \"%s._domainkey.%d\" in the policy");
    return true;
  }
  if (domain->has_active) {
    snprintf(key->why, sizeof key->why, "dkimroll's own key %s should sign for the domain, and this one does", domain->active);
    key->fate = IMPORT_LEFT;
    snprintf(key->remedy, sizeof key->remedy,
             "`dkimroll prove %s` tells more; if the database is an old copy, move it away and import anew; else remove the lines of %s from the SigningTable",
             domain->policy->name, key->selector);
    return true;
  }
  const struct keypair_public *half = &key->first->public_half;
  if (!half->public_key) {
    leave_unread(key);
    return true;
  }
  if ((!key->expected || (half->algorithm == KEY_ALGORITHM_RSA && half->bits < IMPORT_LEAST_BITS))) {
    leave(key, "verifiers reject keys of less than 1024 bits (RFC 8301 3.2), so nothing is lost with it",
          "remove its lines from the SigningTable; the domain gets a key by `dkimroll run`");
    return true;
  }
  if (!domain->proved || domain->proof.code) {
    leave_unproved(key);
    return true;
  }
  return false;
}

static void judge_signing(const struct import *import, struct import_key *key) {
  if (is_out_of_reach(key) || signing_is_out_of_reach(import, key) || serves_others(import, key)) return;
  const int64_t life = import->policy->rules[key->domain->policy->rules].rotate_every;
  key->fate = IMPORT_ACTIVE;
  key->overdue = life != TIME_NEVER && time_add(key->since, life) <= import->now;
  key->replace = key->weak || (key->served && !key->belongs);
}

static bool is_own_form(const struct import *import, const struct import_key *key) {
  char *text = NULL;
  struct error unused = {0};
  const enum key_algorithm algorithm = key->first->public_half.algorithm == KEY_ALGORITHM_ED25519 ? KEY_ALGORITHM_ED25519 : KEY_ALGORITHM_RSA;
  const int result = record_build_revoked(algorithm, &text, &unused);
  import_note_lack(import, result);
  const bool own = result == 0 && text_equal(text, key->record);
  free(text);
  return own;
}

/* Whoever does not answer may be the only one that has its record, which then would stand for ever, or be taken away before its time. */
static bool is_unsettled(struct import_key *key) {
  for (size_t i = 0; i < key->server_count && !key->served; i++) {
    const struct observe_server *seen = &key->servers[i].seen;
    if (seen->verdict != OBSERVE_SILENT) continue;
    snprintf(key->why, sizeof key->why, "%s may have its record, and does not tell: %s", seen->host, seen->answer);
    key->fate = IMPORT_LEFT;
    text_copy(key->remedy, sizeof key->remedy, "import again when it answers; a server that nobody asks is named under ignore-servers of the publisher");
    return true;
  }
  return false;
}

static void judge_unused(const struct import *import, struct import_key *key) {
  if (is_out_of_reach(key) || serves_others(import, key) || is_unsettled(key)) return;
  if (key->domain->signs && key->domain->signs->fate == IMPORT_LEFT) {
    leave(key, "it waits for the key that signs", "");
    return;
  }
  if (!key->domain->signs && key->domain->obstacle[0]) {
    char why[DNS_NAME_TEXT_SIZE + 48];
    snprintf(why, sizeof why, "the line of %s has to be put right first", key->domain->policy->name);
    leave(key, why, "");
    return;
  }
  key->fate = key->served && key->revoked && is_own_form(import, key) ? IMPORT_REVOKED : IMPORT_RETIRED;
}

/* Does a template make selectors like this one? Only digits differ, and "-2" at the end. */
static bool fits_template(const char *template_text, const char *selector) {
  const char *at = selector;
  for (const char *p = template_text; *p; p++) {
    if (*p != '%') {
      if (*at++ != *p) return false;
      continue;
    }
    const size_t width = *++p == 'Y' ? 4 : *p == 'j' ? 3 : 2;
    for (size_t i = 0; i < width; i++)
      if (!is_digit(*at++)) return false;
  }
  return *at == '\0' || (*at == '-' && is_digit(at[1]) && at[1 + strspn(at + 1, "0123456789")] == '\0');
}

static bool fits_policy(const struct import *import, const struct import_key *key) {
  const struct policy_rules *rules = &import->policy->rules[key->domain->policy->rules];
  for (size_t i = 0; i < rules->key_count; i++)
    if (fits_template(rules->keys[i].selector, key->selector)) return true;
  return false;
}

/* Nobody's tables name it. It was made by an earlier dkimroll, whose store was lost, if name and record are in its very form; any other may belong to another
 * program, which signs with it, and nobody here can know. */
static void judge_unnamed(const struct import *import, struct import_key *key) {
  if (is_out_of_reach(key) || is_unsettled(key)) return;
  const bool own_record = key->served && !key->alien && (text_equal(key->record, key->expected) || (key->revoked && is_own_form(import, key)));
  if (own_record && fits_policy(import, key)) {
    /* A reservation is for ever: what may be known at the next attempt is not decided at this one. */
    if (key->domain->signs && key->domain->signs->fate == IMPORT_LEFT) {
      leave(key, "it waits for the key that signs", "");
      return;
    }
    if (!key->domain->signs && !key->domain->has_active) {
      leave(key, "no table names it, and no key signs for the domain", "let `dkimroll run` give the domain a key, and import again");
      return;
    }
    key->fate = key->revoked ? IMPORT_REVOKED : IMPORT_RETIRED;
    return;
  }
  key->fate = IMPORT_RESERVED;
  text_copy(key->why, sizeof key->why,
            key->served ? "no table names it, but its record is served: another program may sign with it" : "no table names it, and no server has a record of it");
}

static void judge_key(const struct import *import, struct import_key *key) {
  choose_record(import, key);
  judge_age(import, key);
  key->weak = key->first->public_half.algorithm == KEY_ALGORITHM_RSA && key->first->public_half.public_key &&
              key->first->public_half.bits < IMPORT_WEAK_BITS;
}

static int compare_since(const void *a, const void *b) {
  const struct import_key *x = *(const struct import_key *const *)a, *y = *(const struct import_key *const *)b;
  return (x->since > y->since) - (x->since < y->since);
}

/* The oldest ones first: what is left is for another time. */
static void limit_keys(const struct import *import, struct import_domain *domain) {
  struct import_key **order = calloc(domain->key_count + 1, sizeof(struct import_key *));
  const size_t taken = domain->living + IMPORT_ROOM_KEPT, left = taken < LINEAGE_KEYS_MAX ? LINEAGE_KEYS_MAX - taken : 0;
  const size_t room = left < IMPORT_ADOPTED_MAX ? left : IMPORT_ADOPTED_MAX;
  size_t count = 0;
  if (!order) import_note_lack(import, ERROR_NO_MEMORY);
  for (size_t i = 0; order && i < domain->key_count; i++)
    if (domain->keys[i].fate > IMPORT_ACTIVE && domain->keys[i].fate != IMPORT_UNRELATED) order[count++] = &domain->keys[i];
  if (order) qsort(order, count, sizeof(struct import_key *), compare_since);
  for (size_t i = room; i < count; i++)
    leave(order[i], "more old keys than are taken over at once", "import again when the first of them are removed");
  free(order);
}

/* Where dkimroll's own key has come to sign at one signer and another one is in its way at the next, say, that one is to make room. */
static void make_room(struct import_domain *domain) {
  const struct import_key *own = NULL, *other = NULL;
  for (size_t i = 0; i < domain->key_count; i++) {
    const struct import_key *key = &domain->keys[i];
    if (key->role == IMPORT_SIGNS && key->fate == IMPORT_KNOWN && !key->row) own = key;
    if (key->role == IMPORT_SIGNS && (key->fate != IMPORT_KNOWN || key->row)) other = key;
  }
  if (!own || !other || domain->has_active) return;
  snprintf(domain->obstacle, sizeof domain->obstacle, "dkimroll's own key %s signs some of its mail, and %s is in its way for the rest", own->selector, other->selector);
  snprintf(domain->remedy, sizeof domain->remedy, "remove the lines of %s from the SigningTables, and `dkimroll run` lets %s sign that too; then import again", other->selector,
           own->selector);
}

void import_judge(struct import *import) {
  for (size_t i = 0; i < import->domain_count; i++) {
    struct import_domain *domain = &import->domains[i];
    for (size_t j = 0; j < domain->key_count; j++) judge_key(import, &domain->keys[j]);
    make_room(domain);
    if (domain->signs && domain->signs->fate != IMPORT_KNOWN) judge_signing(import, domain->signs);
    for (size_t j = 0; j < domain->key_count; j++) {
      struct import_key *key = &domain->keys[j];
      if (key->fate == IMPORT_KNOWN || key->fate == IMPORT_UNRELATED || key == domain->signs) continue;
      if (key->role == IMPORT_SIGNS) /* beside another one */
        leave(key, domain->obstacle, domain->remedy);
      else if (key->role == IMPORT_UNNAMED)
        judge_unnamed(import, key);
      else
        judge_unused(import, key);
      if (key->fate == IMPORT_RESERVED && key->row) key->fate = IMPORT_KNOWN;
    }
    limit_keys(import, domain);
  }
}
