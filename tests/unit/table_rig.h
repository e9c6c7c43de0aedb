/* For the tests of OpenDKIM's tables: two tables made from texts, the usual edits of a switch from an old key to a new one, and what they lead to. */
#ifndef DKIMROLL_TESTS_TABLE_RIG_H
#define DKIMROLL_TESTS_TABLE_RIG_H

#include <stdbool.h>

#include "dkimroll/table.h"

#define OLD_NAME "old._domainkey.example.com"
#define NEW_NAME "new._domainkey.example.com"
#define OLD_VALUE "example.com:old:/keys/old.private"
#define NEW_VALUE "example.com:new:/keys/new.private"

/* A table with that text. Caller frees it with table_free. */
struct table *rig_parse(enum table_kind kind, const char *text);
/* The text of the table now. Caller frees. */
char *rig_format(const struct table *table);

/* Two tables, what is done to them, and what they are afterwards. */
struct scene {
  enum table_kind kind;
  struct table *keys;
  struct table *signing;
  bool multiple_signatures;
  table_key_file_exists *exists;
  struct table_outcome outcome;
};

/* KeyTable, and a SigningTable of that kind. */
struct scene scene_of(enum table_kind kind, const char *keys, const char *signing);
void scene_release(struct scene *scene);
/* The edits of one item; the code of its outcome. */
int scene_apply(struct scene *scene, const struct table_edit *edits, size_t count);
/* From the old key to the new one, for a sender whose pattern is pattern. */
int scene_switch(struct scene *scene, const char *pattern);
void scene_assert(const struct scene *scene, const char *keys, const char *signing);

/* The line of the new key; before is the value that it may replace, and a new line goes below that of beside. Both may be NULL. */
struct table_edit edit_key(const char *before, const char *beside);
/* The line of the sender names the new key instead of the old one; address is one that the pattern takes. */
struct table_edit edit_point(const char *pattern, const char *address);

#endif
