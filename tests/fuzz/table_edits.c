#include "table_edits.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

/* One edit with the strings that it borrows. */
struct fuzz_edit {
  struct table_edit edit;
  char *words[6];
  char *pattern;
  char *address;
  bool joined; /* to the item of the edit before */
};

struct fuzz_edits {
  struct fuzz_edit items[TABLE_EDITS_LINES_MAX];
  size_t count;
};

static void edit_release(struct fuzz_edit *edit) {
  for (size_t i = 0; i < ARRAY_SIZE(edit->words); i++) free(edit->words[i]);
  free(edit->pattern);
  free(edit->address);
}

static void edits_release(struct fuzz_edits *edits) {
  for (size_t i = 0; i < edits->count; i++) edit_release(&edits->items[i]);
}

static const char *word_or_null(const char *word) {
  return text_equal(word, "-") ? NULL : word;
}

/* Pattern and address are made of the sender as the signer makes them. false: no edit that could ever be asked for. */
static bool edit_complete(struct fuzz_edit *edit, enum table_kind kind) {
  const char *letters = edit->words[0], *sender = edit->words[1], *value = edit->words[3];
  const char *domain = strchr(value, ':');
  const char *path = domain ? strchr(domain + 1, ':') : NULL;
  if (!path || domain == value || path == domain + 1 || path[1] == '\0' || strchr(path + 1, ':')) return false;
  for (size_t i = 1; i < ARRAY_SIZE(edit->words); i++)
    if (edit->words[i][0] == '\0') return false;
  CLEANUP_FREE char *home = text_format("%.*s", (int)(domain - value), value);
  if (!home || table_sender_pattern(kind, sender, &edit->pattern, NULL) < 0 ||
      table_sender_address(sender, home, &edit->address, NULL) < 0)
    return false;
  const bool points = strchr(letters, 'p') || strchr(letters, 'r');
  edit->joined = strchr(letters, 'j');
  edit->edit = (struct table_edit){
      .kind = strchr(letters, 'p')   ? TABLE_SIGN_POINT
              : strchr(letters, 'r') ? TABLE_SIGN_REMOVE
              : strchr(letters, 'd') ? TABLE_KEY_REMOVE
                                     : TABLE_KEY_SET,
      .pattern = points ? edit->pattern : NULL,
      .address = edit->address,
      .name = edit->words[2],
      .value = points ? NULL : value,
      .before = word_or_null(edit->words[4]),
      .beside = points ? NULL : word_or_null(edit->words[5]),
      .existing = strchr(letters, 'e'),
  };
  return true;
}

static void edits_read(struct fuzz_input input, enum table_kind kind, struct fuzz_edits *edits) {
  while (input.size > 0 && edits->count < TABLE_EDITS_LINES_MAX) {
    struct fuzz_input line = fuzz_take_until(&input, '\n');
    struct fuzz_edit *edit = &edits->items[edits->count];
    *edit = (struct fuzz_edit){0};
    for (size_t i = 0; i < ARRAY_SIZE(edit->words); i++) edit->words[i] = fuzz_take_text(&line, ' ');
    if (edit_complete(edit, kind))
      edits->count++;
    else
      edit_release(edit);
  }
}

/* ---- what a line is, read in another way than table.c does ---- */

struct piece {
  const char *text;
  size_t size;
};

static bool piece_is(struct piece piece, const char *text, bool nocase) {
  return text && piece.size == strlen(text) &&
         (nocase ? strncasecmp(piece.text, text, piece.size) : memcmp(piece.text, text, piece.size)) == 0;
}

/* The first word of a line, and what follows it, without a comment. */
static void line_words(struct piece line, struct piece *ret_first, struct piece *ret_rest) {
  size_t size = 0;
  while (size < line.size && line.text[size] != '#') size++;
  size_t start = 0;
  while (start < size && isspace((unsigned char)line.text[start])) start++;
  size_t end = start;
  while (end < size && !isspace((unsigned char)line.text[end])) end++;
  *ret_first = (struct piece){line.text + start, end - start};
  while (end < size && isspace((unsigned char)line.text[end])) end++;
  while (size > end && isspace((unsigned char)line.text[size - 1])) size--;
  *ret_rest = (struct piece){line.text + end, size - end};
}

/* May an edit add, change or remove this line? */
static bool line_is_named(struct piece line, const struct fuzz_edits *edits, bool is_keys) {
  struct piece first, rest;
  line_words(line, &first, &rest);
  if (!is_keys) {
    const char *colon = memchr(rest.text, ':', rest.size);
    if (colon) rest.size = (size_t)(colon - rest.text);
    while (rest.size > 0 && isspace((unsigned char)rest.text[rest.size - 1])) rest.size--;
  }
  for (size_t i = 0; i < edits->count; i++) {
    const struct table_edit *edit = &edits->items[i].edit;
    const char *key = is_keys ? edit->name : edit->pattern;
    const char *value = is_keys ? edit->value : edit->name;
    if (value && piece_is(first, key, !is_keys) &&
        (piece_is(rest, value, false) || piece_is(rest, edit->before, false)))
      return true;
  }
  return false;
}

/* The next line of text that no edit names, without its line end; false: there is none. */
static bool next_foreign(struct piece *text, const struct fuzz_edits *edits, bool is_keys, struct piece *ret_line,
                         bool *ret_last) {
  while (text->size > 0) {
    const char *newline = memchr(text->text, '\n', text->size);
    struct piece line = {text->text, newline ? (size_t)(newline - text->text) : text->size};
    const size_t taken = line.size + (newline ? 1 : 0);
    text->text += taken;
    text->size -= taken;
    *ret_last = text->size == 0;
    *ret_line = line;
    if (!line_is_named(line, edits, is_keys)) return true;
  }
  return false;
}

/* A last line without an end gets one if lines follow it now, which may be CR LF, and the other way round. */
static bool line_same(struct piece a, struct piece b, bool last) {
  if (last && a.size > 0 && a.text[a.size - 1] == '\r') a.size--;
  if (last && b.size > 0 && b.text[b.size - 1] == '\r') b.size--;
  return a.size == b.size && memcmp(a.text, b.text, a.size) == 0;
}

static void expect_foreign_lines(struct piece before, struct piece after, const struct fuzz_edits *edits,
                                 bool is_keys) {
  struct piece old, new;
  bool old_last = false, new_last = false;
  while (next_foreign(&before, edits, is_keys, &old, &old_last)) {
    if (!next_foreign(&after, edits, is_keys, &new, &new_last)) {
      /* A file without a final line end stays one, so an empty line that has become the last one cannot be seen any more. */
      FUZZ_HOLDS(old.size == 0 || (old.size == 1 && old.text[0] == '\r'), "a line is gone: %.*s", (int)old.size,
                 old.text);
      FUZZ_HOLDS(!next_foreign(&before, edits, is_keys, &old, &old_last), "a line is gone: %.*s", (int)old.size,
                 old.text);
      return;
    }
    FUZZ_HOLDS(line_same(old, new, old_last || new_last), "a line changed from\n%.*s\nto\n%.*s", (int)old.size,
               old.text, (int)new.size, new.text);
  }
  FUZZ_HOLDS(!next_foreign(&after, edits, is_keys, &new, &new_last), "a line came: %.*s", (int)new.size, new.text);
}

/* ---- running the edits ---- */

static struct table *parse(enum table_kind kind, const void *data, size_t size, struct error *error) {
  char *copy = malloc(size > 0 ? size : 1);
  struct table *table = NULL;
  if (!copy) abort();
  if (size > 0) memcpy(copy, data, size);
  const int result = table_parse(kind, "/t/Table", copy, size, &table, error);
  if (result == 0) return table;
  fuzz_expect_error(result, error);
  FUZZ_HOLDS(!table, "a table in spite of %s", error->message);
  free(copy);
  return NULL;
}

static void format(const struct table *table, struct buffer *text) {
  *text = BUFFER_WITH_MAXIMUM(TABLE_FILE_MAX);
  table_format(table, text);
  FUZZ_HOLDS(!text->failed, "the table does not fit");
}

static bool buffer_same(const struct buffer *a, const struct buffer *b) {
  return a->size == b->size && (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
}

/* What is written reads back as itself. */
static void expect_same_again(enum table_kind kind, const struct buffer *text) {
  CLEANUP(buffer_release) struct buffer again = {0};
  struct error error = {0};
  struct table *table = parse(kind, text->data, text->size, &error);
  FUZZ_HOLDS(table, "%s", error.message);
  format(table, &again);
  FUZZ_HOLDS(buffer_same(text, &again), "a table changed without an edit");
  FUZZ_HOLDS(!table_is_changed(table), "a table counts as changed without an edit");
  table_free(table);
}

/* The mail of a sender that was pointed at a key is signed with that key. */
static void expect_pointed(const struct table_pair *pair, const struct table_edit *edit) {
  struct table_span name = {0};
  unsigned line = 0;
  if (edit->existing || pair->multiple_signatures) return;
  FUZZ_HOLDS(table_match_sender(pair->signing, edit->address, &name, &line), "nothing takes %s", edit->address);
  const char *at = strrchr(edit->address, '@');
  const bool named = name.size == strlen(edit->name) && memcmp(name.text, edit->name, name.size) == 0;
  const bool stands = name.size == 1 && name.text[0] == '%' && at && text_equal_nocase(at + 1, edit->name);
  FUZZ_HOLDS(named || stands, "%s is signed with %.*s and not with %s", edit->address, (int)name.size, name.text,
             edit->name);
}

static void expect_key(const struct table_pair *pair, const struct table_edit *edit) {
  struct table_span value = {0};
  unsigned line = 0;
  const bool found = table_find_key(pair->keys, edit->name, &value, &line);
  const bool same = found && value.size == strlen(edit->value) && memcmp(value.text, edit->value, value.size) == 0;
  if (edit->kind == TABLE_KEY_SET && !edit->existing) FUZZ_HOLDS(same, "%s is not what was set", edit->name);
  if (edit->kind == TABLE_KEY_REMOVE) FUZZ_HOLDS(!same, "%s is still there", edit->name);
}

/* An item of one edit that was done: it is so, and to do it again changes nothing. */
static void expect_done(const struct table_pair *pair, const struct table_item *item) {
  struct table_outcome outcome = {0};
  struct error error = {0};
  if (item->edits->kind == TABLE_SIGN_POINT) expect_pointed(pair, item->edits);
  if (item->edits->kind == TABLE_KEY_SET || item->edits->kind == TABLE_KEY_REMOVE) expect_key(pair, item->edits);
  FUZZ_HOLDS(table_apply(pair, item, 1, &outcome, &error) == 0, "%s", error.message);
  FUZZ_HOLDS(outcome.error.code == 0, "the second time: %s", outcome.error.message);
  FUZZ_HOLDS(outcome.made[0] == TABLE_MADE_NOTHING, "the second time something was done");
}

static void apply_item(const struct table_pair *pair, const struct table_item *item) {
  CLEANUP(buffer_release) struct buffer keys = {0}, signing = {0}, keys_after = {0}, signing_after = {0};
  struct table_outcome outcome = {0};
  struct error error = {0};
  format(pair->keys, &keys);
  format(pair->signing, &signing);
  FUZZ_HOLDS(table_apply(pair, item, 1, &outcome, &error) == 0, "%s", error.message);
  format(pair->keys, &keys_after);
  format(pair->signing, &signing_after);
  bool made = false;
  for (size_t i = 0; i < item->edit_count; i++) made |= outcome.made[i] != TABLE_MADE_NOTHING;
  if (outcome.error.code < 0) {
    fuzz_expect_error(outcome.error.code, &outcome.error);
    FUZZ_HOLDS(!made, "an item that failed made something");
  }
  if (!made) FUZZ_HOLDS(buffer_same(&keys, &keys_after), "KeyTable changed though nothing was made");
  if (!made) FUZZ_HOLDS(buffer_same(&signing, &signing_after), "SigningTable changed though nothing was made");
  if (outcome.error.code == 0 && item->edit_count == 1) expect_done(pair, item);
}

static void apply_edits(const struct table_pair *pair, const struct fuzz_edits *edits) {
  struct table_edit together[TABLE_EDITS_LINES_MAX];
  for (size_t i = 0; i < edits->count;) {
    struct table_item item = {.edits = together};
    do together[item.edit_count++] = edits->items[i++].edit;
    while (i < edits->count && edits->items[i].joined);
    apply_item(pair, &item);
  }
}

/* The edited table against what it was read from. */
static void expect_table(const struct table *table, enum table_kind kind, struct fuzz_input origin,
                         const struct fuzz_edits *edits) {
  CLEANUP(buffer_release) struct buffer text = {0};
  format(table, &text);
  const struct piece before = {(const char *)origin.data, origin.size};
  const struct piece after = {(const char *)text.data, text.size};
  if (!table_is_changed(table))
    FUZZ_HOLDS(before.size == after.size && (before.size == 0 || memcmp(before.text, after.text, before.size) == 0),
               "an unchanged table is written otherwise than it was read");
  expect_foreign_lines(before, after, edits, kind == TABLE_KEYS);
  expect_same_again(kind, &text);
}

void table_case_run(const struct table_case *input) {
  CLEANUP(edits_release) struct fuzz_edits edits = {.count = 0};
  struct error error = {0};
  edits_read(input->edits, input->kind, &edits);
  struct table *keys = parse(TABLE_KEYS, input->keys.data, input->keys.size, &error);
  struct table *signing = keys ? parse(input->kind, input->signing.data, input->signing.size, &error) : NULL;
  if (signing) {
    const struct table_pair pair = {
        .keys = keys, .signing = signing, .multiple_signatures = input->multiple_signatures};
    apply_edits(&pair, &edits);
    expect_table(keys, TABLE_KEYS, input->keys, &edits);
    expect_table(signing, input->kind, input->signing, &edits);
  }
  table_free(keys);
  table_free(signing);
}
