/* The lines of the SigningTable that name a key: which of them OpenDKIM takes, and how they are told. It takes the first line that matches, so a line for one sender
 * signs above that of the whole domain, and never does below it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/import.h"
#include "dkimroll/text.h"

enum { LINES_SHOWN = 4 };

const char *import_table_kind(const struct import_signer *signer) {
  return signer->policy->signing_table_format == SIGNING_TABLE_FILE ? "file:" : "refile:";
}

bool import_matches_nothing(const struct import_signer *signer, struct table_span pattern) {
  const enum table_kind kind = signer->policy->signing_table_format == SIGNING_TABLE_FILE ? TABLE_SIGNING_FILE : TABLE_SIGNING_REFILE;
  CLEANUP_FREE char *text = strndup(pattern.text, pattern.size);
  CLEANUP_FREE char *address = NULL;
  CLEANUP_FREE char *written = NULL;
  struct error error = {0};
  /* No address is made of a regular expression, which may match any. */
  int result = text ? table_sender_address(text, "dkimroll-proof.invalid", &address, &error) : ERROR_NO_MEMORY;
  import_note_lack(signer->import, result);
  if (result) return false;
  result = table_sender_pattern(kind, text, &written, &error);
  import_note_lack(signer->import, result);
  return result == ERROR_CONFIG || (!result && !text_equal(text, written));
}

/* For a pattern of any domain it is one that no other line is for. A pattern that no address can be made of may well be taken: what signs must not be said never to. */
static bool is_taken(const struct import_signer *signer, unsigned line, struct table_span pattern) {
  struct error unused = {0};
  struct table_span name;
  unsigned taken = 0;
  CLEANUP_FREE char *sender = strndup(pattern.text, pattern.size);
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

/* No line for others that names the key is for any mail. */
static bool all_match_nothing(const struct import_signer *signer, const struct import_key *key, size_t place) {
  struct table_span pattern;
  unsigned line = 0;
  while ((line = import_next_line(signer, key, place, false, line, &pattern)) > 0)
    if (!import_matches_nothing(signer, pattern)) return false;
  return true;
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
  const bool signs_here = key->domain->sender_counts[place] > 0;
  if (key->role == IMPORT_SIGNS && own == 0) fprintf(out, "; %s", signs_here ? key->domain->lines : "no line of the SigningTable names it");
  if (key->role == IMPORT_SIGNS || key->at[place]->line == 0) return;
  const unsigned first = import_line_of_name(signer, key->at[place]);
  if (first != key->at[place]->line) {
    fprintf(out, ", below line %u of the same name: the first one counts", first);
    return;
  }
  const size_t others = print_some(out, signer, key, place, false);
  if (own == 0 && others == 0) fputs("; no line of the SigningTable names it", out);
  if (own > 0 && key->domain->signs)
    fprintf(out, ", below the line of %s: the first match signs", key->domain->signs->selector);
  else if (others > 0 && all_match_nothing(signer, key, place))
    fprintf(out, ", which no address matches in a %s table", import_table_kind(signer));
  else if (others > 0 && !signs_others_at(import, key, place))
    fputs(", below a line that takes that mail: the first match signs", out);
}
