#include <regex.h>
#include <string.h>
#include <strings.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/table_lines.h"
#include "dkimroll/text.h"

/* The local part, or the label, that stands for "anything" in addresses of proof messages. */
#define TABLE_PROOF_WORD "dkimroll-proof"

enum { TABLE_SHOWN_MAX = 64 /* octets of a sender that is too long to be shown whole */ };

/* Characters of extended regular expressions that OpenDKIM hands on as they are when it makes one of a wildcard
 * pattern. */
#define TABLE_EXPRESSION_LETTERS "[](){}?|^$\\"

static bool table_span_has(const struct table_span *span, const char *letters) {
  for (size_t i = 0; i < span->size; i++)
    if (strchr(letters, span->text[i])) return true;
  return false;
}

bool table_pattern_tail(const struct table_span *pattern, struct table_span *ret_tail) {
  *ret_tail = (struct table_span){.text = "", .size = 0};
  if (table_span_has(pattern, TABLE_EXPRESSION_LETTERS)) return true;
  const char *star = memrchr(pattern->text, '*', pattern->size);
  const char *literal = star ? star + 1 : pattern->text;
  size_t size = (size_t)(pattern->text + pattern->size - literal);
  const char *at = memrchr(literal, '@', size);
  if (at)
    *ret_tail = (struct table_span){.text = at, .size = (size_t)(literal + size - at)};
  else if (star && size > 0 && literal[0] == '.')
    *ret_tail = (struct table_span){.text = literal, .size = size};
  /* Without "@" and "*" it equals no address; a name of a host alone is a frequent mistake in refile: tables. */
  return at || star;
}

/* What compiling the pattern may cost: its octets, times every number within braces. */
static bool table_expression_is_cheap(const struct table_span *pattern) {
  uint64_t cost = pattern->size;
  bool counts = false;
  for (size_t i = 0; i < pattern->size && cost <= TABLE_EXPRESSION_COST_MAX; i++) {
    uint64_t number = 0;
    if (pattern->text[i] == '{') counts = true;
    if (pattern->text[i] == '}') counts = false;
    if (!counts) continue;
    while (i + 1 < pattern->size && pattern->text[i + 1] >= '0' && pattern->text[i + 1] <= '9' &&
           number <= TABLE_EXPRESSION_COST_MAX)
      number = number * 10 + (uint64_t)(pattern->text[++i] - '0');
    if (number > 1) cost *= number;
  }
  return cost <= TABLE_EXPRESSION_COST_MAX;
}

/* Extended regular expression as OpenDKIM makes it: anchored, "*" anything, "+" and "." themselves, all else as it
 * stands, case ignored. */
static bool table_match_expression(const struct table_span *pattern, const char *address) {
  if (!table_expression_is_cheap(pattern)) return false;
  struct buffer text = BUFFER_WITH_MAXIMUM((size_t)TABLE_LINE_MAX * 4);
  buffer_add_text(&text, "^");
  for (size_t i = 0; i < pattern->size; i++) {
    if (pattern->text[i] == '*')
      buffer_add_text(&text, ".");
    else if (pattern->text[i] == '+' || pattern->text[i] == '.')
      buffer_add_text(&text, "\\");
    buffer_add(&text, &pattern->text[i], 1);
  }
  buffer_add_text(&text, "$");
  CLEANUP_FREE char *expression = buffer_take_text(&text);
  regex_t compiled;
  /* OpenDKIM refuses a table with a pattern that does not compile (as one does not for which memory runs out), so nothing that such a line says
   * takes effect. */
  if (!expression || regcomp(&compiled, expression, REG_EXTENDED | REG_ICASE | REG_NOSUB) != 0) return false;
  bool matched = regexec(&compiled, address, 0, NULL, 0) == 0;
  regfree(&compiled);
  return matched;
}

static bool table_match_wildcards(const struct table_span *pattern, const char *address) {
  size_t at = 0;              /* in pattern */
  size_t star = SIZE_MAX;     /* behind the last "*" that was passed */
  const char *restart = NULL; /* where in address that "*" ended so far */
  while (*address) {
    if (at < pattern->size && pattern->text[at] == '*') {
      star = ++at;
      restart = address;
    } else if (at < pattern->size && strncasecmp(&pattern->text[at], address, 1) == 0) {
      at++;
      address++;
    } else if (star != SIZE_MAX) {
      at = star;
      address = ++restart;
    } else {
      return false;
    }
  }
  while (at < pattern->size && pattern->text[at] == '*') at++;
  return at == pattern->size;
}

/* The line that stands first of those that match address and ask its end to be tail, if it stands before best. */
static uint32_t table_match_tail(const struct table *signing, const char *address, const char *tail, uint32_t best) {
  uint32_t line = table_index_first(&signing->by_tail, table_hash(tail, strlen(tail), true));
  for (; line != TABLE_NO_LINE; line = table_index_next(&signing->by_tail, line)) {
    const struct table_line *candidate = &signing->lines[line];
    struct table_span own;
    if (candidate->removed || (best != TABLE_NO_LINE && candidate->order >= signing->lines[best].order)) continue;
    if (!table_pattern_tail(&candidate->key, &own) || !table_span_equal_nocase(&own, tail)) continue;
    bool expression = table_span_has(&candidate->key, TABLE_EXPRESSION_LETTERS);
    if (expression ? table_match_expression(&candidate->key, address) : table_match_wildcards(&candidate->key, address))
      best = line;
  }
  return best;
}

static uint32_t table_match_refile(const struct table *signing, const char *address) {
  const char *at = strrchr(address, '@');
  uint32_t best = table_match_tail(signing, address, "", TABLE_NO_LINE);
  if (!at) return best;
  best = table_match_tail(signing, address, at, best);
  for (const char *dot = strchr(at, '.'); dot; dot = strchr(dot + 1, '.'))
    best = table_match_tail(signing, address, dot, best);
  return best;
}

/* user@host, host, user@.domain and .domain for each parent, user@*, *: the first key that has an entry decides
 * (opendkim.conf(5)). */
static uint32_t table_match_file(const struct table *signing, const char *address) {
  const char *at = strrchr(address, '@');
  if (!at) return table_first_of_key(signing, "*");
  int user = (int)(at - address);
  uint32_t line = table_first_of_key(signing, address);
  if (line == TABLE_NO_LINE) line = table_first_of_key(signing, at + 1);
  for (const char *dot = strchr(at, '.'); dot && line == TABLE_NO_LINE; dot = strchr(dot + 1, '.')) {
    CLEANUP_FREE char *key = text_format("%.*s@%s", user, address, dot);
    if (key) line = table_first_of_key(signing, key);
    if (line == TABLE_NO_LINE) line = table_first_of_key(signing, dot);
  }
  if (line == TABLE_NO_LINE) {
    CLEANUP_FREE char *key = text_format("%.*s@*", user, address);
    if (key) line = table_first_of_key(signing, key);
  }
  return line == TABLE_NO_LINE ? table_first_of_key(signing, "*") : line;
}

uint32_t table_match_line(const struct table *signing, const char *address) {
  return signing->kind == TABLE_SIGNING_FILE ? table_match_file(signing, address)
                                             : table_match_refile(signing, address);
}

static int table_take_text(char *text, char **ret_text, struct error *error) {
  if (!text) return error_set(error, ERROR_NO_MEMORY, "out of memory");
  *ret_text = text;
  return 0;
}

static int table_take_address(struct buffer *text, const char *sender, char **ret_address, struct error *error) {
  char *address = buffer_take_text(text);
  if (!address && (text->no_memory || !text->failed)) return error_set(error, ERROR_NO_MEMORY, "out of memory for an address of sender \"%.*s\"", TABLE_SHOWN_MAX, sender);
  if (!address) {
    error_set(error, ERROR_LIMIT, "sender \"%.*s...\": an address that it stands for is longer than %d octets",
              TABLE_SHOWN_MAX, sender, TABLE_LINE_MAX);
    error_remedy(error, "write a shorter sender in the policy, with fewer \"*\"");
    return ERROR_LIMIT;
  }
  *ret_address = address;
  return 0;
}

static int table_refuse_sender(const char *sender, const char *why, struct error *error) {
  error_set(error, ERROR_CONFIG, "sender \"%s\": %s", sender, why);
  error_remedy(error, "write senders as \"*@example.com\", \"user@example.com\", \"*@*.example.com\" or \"*\"");
  return ERROR_CONFIG;
}

/* "example.com" and ".example.com", as a file: table has them. */
static bool table_is_host(const char *sender) {
  return sender[0] != '\0' && !strpbrk(sender, "@*");
}

int table_sender_pattern(enum table_kind kind, const char *sender, char **ret_pattern, struct error *error) {
  const char *at = strrchr(sender, '@');
  if (kind == TABLE_SIGNING_FILE && table_is_host(sender)) return table_take_text(text_duplicate(sender), ret_pattern, error);
  if ((!at && !strchr(sender, '*')) || (at && at[1] == '\0')) return table_refuse_sender(sender, "names no address", error);
  if (kind == TABLE_SIGNING_REFILE && at && at[1] == '.')
    return table_refuse_sender(sender, "names all hosts below a domain as only a file: SigningTable knows them", error);
  if (kind == TABLE_SIGNING_REFILE)
    return table_take_text(text_format("%s%s", at == sender ? "*" : "", sender), ret_pattern, error);

  const char *domain = at ? at + 1 : "*";
  int user = at ? (int)(at - sender) : 1;
  bool any_user = user == 0 || (user == 1 && sender[0] == '*');
  bool any_domain = text_equal(domain, "*");
  bool below = text_starts(domain, "*."); /* "*.example.com": the key is ".example.com" */
  if ((!at && !text_equal(sender, "*")) || (!any_user && memchr(sender, '*', (size_t)user)) ||
      (!any_domain && strchr(domain + (below ? 1 : 0), '*')))
    return table_refuse_sender(sender, "a file: SigningTable cannot express this wildcard; only a refile: table can",
                               error);
  if (below) domain++;
  char *pattern = any_user ? text_duplicate(domain) : text_format("%.*s@%s", user, sender, domain);
  return table_take_text(pattern, ret_pattern, error);
}

static void table_add_filled(struct buffer *text, const char *part, size_t size) {
  for (size_t i = 0; i < size; i++) {
    if (part[i] == '*')
      buffer_add_text(text, TABLE_PROOF_WORD);
    else
      buffer_add(text, &part[i], 1);
  }
}

int table_sender_address(const char *sender, const char *domain, char **ret_address, struct error *error) {
  const char *at = strrchr(sender, '@');
  if (strpbrk(sender, TABLE_EXPRESSION_LETTERS))
    return table_refuse_sender(sender, "has characters of regular expressions, so no address can be made of it", error);
  struct buffer text = BUFFER_WITH_MAXIMUM(TABLE_LINE_MAX);
  const char *host = at ? at + 1 : sender;
  if (!at && sender[0] != '*' && !table_is_host(sender)) return table_refuse_sender(sender, "names no address", error);
  if (!at || at == sender)
    buffer_add_text(&text, TABLE_PROOF_WORD);
  else
    table_add_filled(&text, sender, (size_t)(at - sender));
  buffer_add_text(&text, "@");
  if (host[0] == '.') buffer_add_text(&text, TABLE_PROOF_WORD); /* any host below it */
  if (text_equal(host, "*"))
    buffer_add_text(&text, domain);
  else if (!at && sender[0] == '*' && sender[1] != '.') /* "*example.com": the "*" is the local part with its "@" */
    table_add_filled(&text, host + 1, strlen(host + 1));
  else
    table_add_filled(&text, host, strlen(host));
  return table_take_address(&text, sender, ret_address, error);
}
