/* Fragments of zones: any file is read, or refused. What was read is written and reads back as itself, each line is of the zone; and an edit changes the record that it names and no other. */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "dkimroll/zone_fragment.h"
#include "fuzz.h"

#define ZONE "example.com"
#define NAME "s1._domainkey." ZONE

static char *write_out(const struct fragment *fragment) {
  struct buffer text = BUFFER_WITH_MAXIMUM(FRAGMENT_FILE_MAX);
  fragment_write(fragment, ZONE, "/z", &text);
  char *written = buffer_take_text(&text);
  FUZZ_HOLDS(written, "a fragment that was read cannot be written");
  return written;
}

static void expect_same(const struct fragment *a, const struct fragment *b) {
  FUZZ_HOLDS(a->count == b->count, "%zu records and then %zu", a->count, b->count);
  for (size_t i = 0; i < a->count; i++) {
    FUZZ_HOLDS(text_equal(a->records[i].name, b->records[i].name) && text_equal(a->records[i].text, b->records[i].text) && a->records[i].ttl == b->records[i].ttl, "%s",
               a->records[i].name);
    FUZZ_HOLDS(text_ends(a->records[i].name, ZONE), "%s is no name of the zone", a->records[i].name);
    FUZZ_HOLDS(i == 0 || strcmp(a->records[i - 1].name, a->records[i].name) < 0, "%s is not in order", a->records[i].name);
  }
}

static void edit_one(struct fragment *fragment, enum fragment_change change) {
  const struct fragment_edit edit = {.change = change, .name = NAME, .ttl = 60, .record = change == FRAGMENT_DELETE ? NULL : "new", .record_before = "old"};
  struct error error = {0};
  bool changed = false;
  const size_t before = fragment->count;
  const int result = fragment_edit(fragment, ZONE, &edit, &changed, &error);
  if (result) fuzz_expect_error(result, &error);
  if (result || !changed) FUZZ_HOLDS(fragment->count == before, "an edit that did nothing made %zu records of %zu", fragment->count, before);
  for (size_t i = 0; i < fragment->count; i++)
    FUZZ_HOLDS(!text_equal(fragment->records[i].name, NAME) || result || change == FRAGMENT_KEEP || text_equal(fragment->records[i].text, "new"),
               "%s stands there after edit %d", fragment->records[i].text, (int)change);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const enum fragment_change changes[] = {FRAGMENT_ADD, FRAGMENT_REPLACE, FRAGMENT_DELETE, FRAGMENT_KEEP};
  CLEANUP_FREE char *text = fuzz_text(data, size);
  CLEANUP(fragment_release) struct fragment fragment = {0};
  CLEANUP(fragment_release) struct fragment again = {0};
  struct error error = {0};
  const int result = fragment_parse(text, strlen(text), ZONE, &fragment, &error);
  if (result) {
    fuzz_expect_error(result, &error);
    return 0;
  }
  CLEANUP_FREE char *written = write_out(&fragment);
  FUZZ_HOLDS(fragment_parse(written, strlen(written), ZONE, &again, &error) == 0, "%s in:\n%s", error.message, written);
  expect_same(&fragment, &again);
  for (size_t i = 0; i < ARRAY_SIZE(changes); i++) edit_one(&again, changes[i]);
  return 0;
}
