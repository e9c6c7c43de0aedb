/* The lines of the SigningTable that name a key: which of them OpenDKIM takes, and how they are told. It takes the first line that matches, so a line for one sender
 * signs above that of the whole domain, and never does below it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/import.h"
#include "dkimroll/text.h"

enum { LINES_SHOWN = 4 };

/* The pattern as a sender of the policy would be written. NULL: out of memory. Caller frees. */
static char *sender_of(const struct import_signer *signer, struct table_span pattern) {
  CLEANUP_FREE char *text = strndup(pattern.text, pattern.size);
  if (!text) return NULL;
  if (signer->policy->signing_table_format != SIGNING_TABLE_FILE || text_equal(text, "*") || strchr(text, '@')) return TAKE_PTR(text);
  return text_format(text[0] == '.' ? "*@*%s" : "*@%s", text);
}

/* For a pattern of any domain it is one that no other line is for. A pattern that no address can be made of may well be taken: what signs must not be said never to. */
static bool is_taken(const struct import_signer *signer, unsigned line, struct table_span pattern) {
  struct error unused = {0};
  struct table_span name;
  unsigned taken = 0;
  CLEANUP_FREE char *sender = sender_of(signer, pattern);
  CLEANUP_FREE char *address = NULL;
  if (!sender || table_sender_address(sender, "dkimroll-proof.invalid", &address, &unused)) return true;
  return table_match_sender(signer->survey.signing, address, &name, &taken) && taken == line;
}

static bool signs_others_at(const struct import *import, const struct import_key *key, size_t place) {
  const struct import_signer *signer = import_signer_of(import, key->domain, place);
  struct table_span pattern;
  unsigned line = 0;
  while ((line = import_next_line(signer, key, place, false, line, &pattern)) > 0)
    if (is_taken(signer, line, pattern)) return true;
  return false;
}

bool import_signs_others(const struct import *import, const struct import_key *key) {
  bool signs = false;
  for (size_t i = 0; i < key->domain->policy->signer_count && !signs; i++) signs = signs_others_at(import, key, i);
  return signs;
}

/* "; SigningTable line 2, 4", or of other senders "; SigningTable line 2 (info@example.com)". Returns how many. */
static size_t print_some(FILE *out, const struct import_signer *signer, const struct import_key *key, size_t place, bool own) {
  struct table_span pattern;
  unsigned line = 0;
  size_t count = 0;
  while ((line = import_next_line(signer, key, place, own, line, &pattern)) > 0 && count < LINES_SHOWN) {
    fprintf(out, "%s %u", count++ ? "," : "; SigningTable line", line);
    if (!own) fprintf(out, " (%.*s)", (int)pattern.size, pattern.text);
  }
  if (line > 0) fputs(", ...", out);
  return count;
}

void import_print_lines(FILE *out, const struct import *import, const struct import_key *key, size_t place) {
  const struct import_signer *signer = import_signer_of(import, key->domain, place);
  const size_t own = print_some(out, signer, key, place, true);
  if (key->role == IMPORT_SIGNS && own == 0) fprintf(out, "; %s", key->domain->lines);
  if (key->role == IMPORT_SIGNS || key->at[place]->line == 0) return;
  const size_t others = print_some(out, signer, key, place, false);
  if (own == 0 && others == 0) fputs("; no line of the SigningTable names it", out);
  if (own > 0 && key->domain->signs)
    fprintf(out, ", below the line of %s: the first match signs", key->domain->signs->selector);
  else if (others > 0 && !signs_others_at(import, key, place))
    fputs(", below a line that takes that mail: the first match signs", out);
}
