/* The three formats of key files. None of the readers copies a value, and no message quotes one. */
#include "dkimroll/tsig_key_text.h"

#include <string.h>
#include <strings.h>

/* A place in the text, moving forward only. */
struct scanner {
  const char *place;
  const char *position;
  const char *end;
  unsigned line;
};

static const char formats_remedy[] = "give the output of \"tsig-keygen -a hmac-sha256 NAME\" (BIND) or \"keymgr -t "
                                     "NAME hmac-sha256\" (Knot), or one line "
                                     "algorithm:name:secret";

static int refuse(const struct scanner *scanner, unsigned line, const char *what, struct error *error) {
  error_set(error, ERROR_INVALID, "%s:%u: %s", scanner->place, line, what);
  error_remedy(error, "%s", formats_remedy);
  return ERROR_INVALID;
}

static bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f';
}

static bool slice_equal(const struct tsig_slice *slice, const char *text) {
  return slice->size == strlen(text) && strncasecmp(slice->data, text, slice->size) == 0;
}

static void slice_trim(struct tsig_slice *slice) {
  while (slice->size && is_blank(slice->data[0])) {
    slice->data++;
    slice->size--;
  }
  while (slice->size && is_blank(slice->data[slice->size - 1])) slice->size--;
}

/* Fills the field that name means. ERROR_INVALID: no field has that name, or it was seen before. */
static int set_field(const struct scanner *scanner, struct tsig_slice *field, const struct tsig_slice *value,
                     struct error *error) {
  if (!field) return refuse(scanner, value->line, "a key has nothing but a name, an algorithm and a secret", error);
  if (field->data) return refuse(scanner, value->line, "the key has this value twice", error);
  *field = *value;
  return 0;
}

static int check_complete(const struct scanner *scanner, const struct tsig_key_text *found, unsigned line,
                          struct error *error) {
  if (!found->name.data) return refuse(scanner, line, "the key has no name", error);
  if (!found->algorithm.data) return refuse(scanner, line, "the key has no algorithm", error);
  if (!found->secret.data) return refuse(scanner, line, "the key has no secret", error);
  return 0;
}

/* BIND: key "name" { algorithm hmac-sha256; secret "..."; }; */

enum token_kind { TOKEN_END, TOKEN_TEXT, TOKEN_MARK /* one of { } ; */ };

struct token {
  enum token_kind kind;
  struct tsig_slice text; /* without quotes */
};

static bool is_mark(char c) {
  return c == '{' || c == '}' || c == ';';
}

static bool token_is(const struct token *token, enum token_kind kind, const char *text) {
  return token->kind == kind && slice_equal(&token->text, text);
}

static void skip_line(struct scanner *scanner) {
  const char *newline = memchr(scanner->position, '\n', (size_t)(scanner->end - scanner->position));
  scanner->position = newline ? newline : scanner->end;
}

static int skip_comment(struct scanner *scanner, struct error *error) {
  unsigned line = scanner->line;
  const char *end = memmem(scanner->position + 2, (size_t)(scanner->end - scanner->position) - 2, "*/", 2);
  if (!end) return refuse(scanner, line, "the comment that begins here has no end", error);
  for (; scanner->position < end + 2; scanner->position++)
    if (*scanner->position == '\n') scanner->line++;
  return 0;
}

static bool at_text(const struct scanner *scanner, const char *text) {
  size_t size = strlen(text);
  return (size_t)(scanner->end - scanner->position) >= size && memcmp(scanner->position, text, size) == 0;
}

static int skip_space(struct scanner *scanner, struct error *error) {
  while (scanner->position < scanner->end) {
    if (at_text(scanner, "#") || at_text(scanner, "//")) {
      skip_line(scanner);
    } else if (at_text(scanner, "/*")) {
      int code = skip_comment(scanner, error);
      if (code < 0) return code;
    } else if (is_blank(*scanner->position)) {
      scanner->line += *scanner->position++ == '\n';
    } else {
      break;
    }
  }
  return 0;
}

static int next_quoted(struct scanner *scanner, struct token *ret_token, struct error *error) {
  const char *start = scanner->position + 1;
  const char *quote = memchr(start, '"', (size_t)(scanner->end - start));
  if (!quote || memchr(start, '\n', (size_t)(quote - start)))
    return refuse(scanner, scanner->line, "the quoted text that begins here has no end in its line", error);
  *ret_token = (struct token){TOKEN_TEXT, {start, (size_t)(quote - start), scanner->line}};
  scanner->position = quote + 1;
  return 0;
}

static int next_token(struct scanner *scanner, struct token *ret_token, struct error *error) {
  int code = skip_space(scanner, error);
  if (code < 0) return code;
  const char *start = scanner->position;
  *ret_token = (struct token){TOKEN_END, {start, 0, scanner->line}};
  if (start == scanner->end) return 0;
  if (*start == '"') return next_quoted(scanner, ret_token, error);
  ret_token->kind = is_mark(*start) ? TOKEN_MARK : TOKEN_TEXT;
  do scanner->position++;
  while (ret_token->kind == TOKEN_TEXT && scanner->position < scanner->end && !is_blank(*scanner->position) &&
         !is_mark(*scanner->position) && *scanner->position != '"');
  ret_token->text.size = (size_t)(scanner->position - start);
  return 0;
}

/* One "word value;" of a key clause, whose word was read. */
static int read_statement(struct scanner *scanner, const struct token *word, struct tsig_key_text *found,
                          struct error *error) {
  struct tsig_slice *field = token_is(word, TOKEN_TEXT, "algorithm") ? &found->algorithm
                             : token_is(word, TOKEN_TEXT, "secret")  ? &found->secret
                                                                     : NULL;
  struct token value = {.kind = TOKEN_END}, end = value;
  int code = next_token(scanner, &value, error);
  if (code == 0) code = next_token(scanner, &end, error);
  if (code < 0) return code;
  if (field && (value.kind != TOKEN_TEXT || !token_is(&end, TOKEN_MARK, ";")))
    return refuse(scanner, word->text.line, "algorithm and secret have one value each, and \";\" behind it", error);
  value.text.line = word->text.line;
  return set_field(scanner, field, &value.text, error);
}

static int read_clause(struct scanner *scanner, unsigned line, struct tsig_key_text *found, struct error *error) {
  for (;;) {
    struct token token;
    int code = next_token(scanner, &token, error);
    if (code < 0) return code;
    if (token.kind == TOKEN_END)
      return refuse(scanner, line, "the key clause that begins here has no end: \"};\"", error);
    if (token_is(&token, TOKEN_MARK, "}")) return check_complete(scanner, found, line, error);
    code = read_statement(scanner, &token, found, error);
    if (code < 0) return code;
  }
}

/* Looks for: key, a name, "{". No other statement of named.conf(5) has that form, so it is found at any depth, also in a view. */
static int find_bind(struct scanner *scanner, struct tsig_key_text *found, struct error *error) {
  struct token before = {.kind = TOKEN_END}, name = before, token = before;
  do {
    before = name;
    name = token;
    int code = next_token(scanner, &token, error);
    if (code < 0) return code;
    if (!token_is(&token, TOKEN_MARK, "{") || name.kind != TOKEN_TEXT || !token_is(&before, TOKEN_TEXT, "key"))
      continue;
    found->name = name.text;
    return read_clause(scanner, before.text.line, found, error);
  } while (token.kind != TOKEN_END);
  return refuse(scanner, 1, "there is no TSIG key in it", error);
}

/* The other two formats are made of lines. false: there is none left. */
static bool next_line(struct scanner *scanner, struct tsig_slice *ret_line) {
  if (scanner->position == scanner->end) return false;
  const char *start = scanner->position;
  skip_line(scanner);
  *ret_line = (struct tsig_slice){start, (size_t)(scanner->position - start), scanner->line++};
  if (scanner->position < scanner->end) scanner->position++;
  return true;
}

/* Cuts what follows "#" at the beginning or after white space, and white space at the end; false: nothing is left. */
static bool line_strip(struct tsig_slice *line) {
  for (size_t i = 0; i < line->size; i++)
    if (line->data[i] == '#' && (i == 0 || is_blank(line->data[i - 1]))) line->size = i;
  while (line->size && is_blank(line->data[line->size - 1])) line->size--;
  return line->size > 0;
}

/* Knot, the block form of YAML that keymgr(8) and knot.conf(5) use: "name: value", the value bare or in quotes. */
static int read_pair(const struct scanner *scanner, const struct tsig_slice *line, struct tsig_key_text *found,
                     struct error *error) {
  const char *colon = memchr(line->data, ':', line->size);
  if (!colon) return refuse(scanner, line->line, "a line \"name: value\" should be here", error);
  struct tsig_slice word = {line->data, (size_t)(colon - line->data), line->line};
  struct tsig_slice value = {colon + 1, line->size - word.size - 1, line->line};
  slice_trim(&word);
  slice_trim(&value);
  if (value.size >= 2 && (value.data[0] == '"' || value.data[0] == '\'') &&
      value.data[value.size - 1] == value.data[0]) {
    value.data++;
    value.size -= 2;
  }
  struct tsig_slice *field = slice_equal(&word, "id")          ? &found->name
                             : slice_equal(&word, "algorithm") ? &found->algorithm
                             : slice_equal(&word, "secret")    ? &found->secret
                                                               : NULL;
  return set_field(scanner, field, &value, error);
}

/* Takes "- " off a line. */
static bool line_begins_item(struct tsig_slice *line) {
  if (line->data[0] != '-' || (line->size > 1 && !is_blank(line->data[1]))) return false;
  line->data++;
  line->size--;
  slice_trim(line);
  return true;
}

static int find_knot(struct scanner *scanner, struct tsig_key_text *found, struct error *error) {
  bool in_section = false;
  unsigned item_line = 0;
  struct tsig_slice line;
  while (next_line(scanner, &line)) {
    if (!line_strip(&line)) continue;
    bool top = !is_blank(line.data[0]) && line.data[0] != '-';
    if (top && item_line) break;
    if (top) in_section = slice_equal(&line, "key:");
    if (top || !in_section) continue;
    slice_trim(&line);
    if (line_begins_item(&line)) {
      if (item_line) break; /* the second key */
      item_line = line.line;
    } else if (!item_line) {
      return refuse(scanner, line.line, "below \"key:\" a line \"  - id: NAME\" should be here", error);
    }
    int code = line.size ? read_pair(scanner, &line, found, error) : 0;
    if (code < 0) return code;
  }
  if (!item_line)
    return refuse(scanner, 1, "there is no TSIG key in it, no section \"key:\" with a line \"  - id: NAME\"", error);
  return check_complete(scanner, found, item_line, error);
}

/* algorithm:name:secret. */
static int find_bare(const struct scanner *scanner, const struct tsig_slice *line, struct tsig_key_text *found,
                     struct error *error) {
  const char *end = line->data + line->size;
  const char *first = memchr(line->data, ':', line->size);
  const char *second = first ? memchr(first + 1, ':', (size_t)(end - first - 1)) : NULL;
  if (!second) return refuse(scanner, line->line, "of algorithm:name:secret one is missing", error);
  found->algorithm = (struct tsig_slice){line->data, (size_t)(first - line->data), line->line};
  found->name = (struct tsig_slice){first + 1, (size_t)(second - first - 1), line->line};
  found->secret = (struct tsig_slice){second + 1, (size_t)(end - second - 1), line->line};
  return 0;
}

/* The first line with content tells the format: YAML begins with "word:" and white space, the bare form with "word:" and more. */
enum format { FORMAT_BIND, FORMAT_KNOT, FORMAT_BARE };

static enum format find_format(struct tsig_slice line) {
  bool indented = is_blank(line.data[0]);
  slice_trim(&line);
  if (slice_equal(&line, "---")) return FORMAT_KNOT;
  const char *colon = memchr(line.data, ':', line.size);
  if (!colon) return FORMAT_BIND;
  for (const char *at = line.data; at < colon; at++)
    if (is_blank(*at) || is_mark(*at) || *at == '"' || *at == '/') return FORMAT_BIND;
  bool ends = colon + 1 == line.data + line.size || is_blank(colon[1]);
  return ends && !indented ? FORMAT_KNOT : FORMAT_BARE;
}

int tsig_key_text_find(const char *place, const char *text, size_t size, struct tsig_key_text *ret_found,
                       struct error *error) {
  struct scanner scanner = {.place = place, .position = text, .end = text + size, .line = 1};
  struct scanner start = scanner;
  struct tsig_slice line;
  bool content = false;
  while (!content && next_line(&scanner, &line)) content = line_strip(&line);
  if (!content) return refuse(&scanner, 1, "there is no TSIG key in it", error);
  struct tsig_key_text found = {.name = {.data = NULL}};
  int code = 0;
  switch (find_format(line)) {
  case FORMAT_BIND: code = find_bind(&start, &found, error); break;
  case FORMAT_KNOT: code = find_knot(&start, &found, error); break;
  case FORMAT_BARE:
    slice_trim(&line);
    code = find_bare(&scanner, &line, &found, error);
    break;
  }
  if (code == 0) *ret_found = found;
  return code;
}
