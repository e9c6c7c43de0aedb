/* The lines of one table, for table*.c: parsed fields that point into the text, and lines that were added or removed
 * since. A line never changes: to replace it is to remove it and to add another in its place. */
#ifndef DKIMROLL_TABLE_LINES_H
#define DKIMROLL_TABLE_LINES_H

#include "dkimroll/table.h"
#include "dkimroll/table_index.h"

/* One line. The entry's parts are spans of text; key.size 0: no entry (blank, comment). */
struct table_line {
  struct table_span text;  /* with its line end, if it has one */
  struct table_span key;   /* KeyTable: key name; SigningTable: pattern */
  struct table_span value; /* KeyTable: domain:selector:path; SigningTable: key name (what precedes a ":") */
  struct table_span path;  /* KeyTable: third field of value; size 0: none */
  char *owned;             /* text, if the line was added; else NULL */
  uint32_t number;         /* in the file; 0: added */
  uint32_t order;          /* place among the lines: of two entries the lower one counts first */
  uint32_t following;      /* first line that was added right below this one, or TABLE_NO_LINE */
  bool removed;
};

struct table {
  enum table_kind kind;
  char *path;
  char *data;
  size_t size;
  struct table_line *lines;
  size_t count, capacity;
  size_t parsed;                /* lines[0 .. parsed) are those of the file, in order */
  uint32_t end_first, end_last; /* chain (by following) of lines that were added at the end, or TABLE_NO_LINE */
  bool changed;
  bool final_newline;   /* the file ended with a line end, or was empty */
  const char *line_end; /* of lines to be added: that of the first line that has one */
  struct table_index by_key;
  struct table_index by_value; /* KeyTable: by path (those with a "%" all under "%"); SigningTable: by key name */
  struct table_index by_tail;  /* refile: by what an address must end with (table_match.c) */
};

bool table_span_equal(const struct table_span *span, const char *text);
bool table_span_equal_nocase(const struct table_span *span, const char *text);

/* Adds a line with that content, which has no line end, right below line above (TABLE_NO_LINE: at the end). false: out
 * of memory. */
bool table_add_line(struct table *table, const char *content, size_t size, uint32_t above);
void table_remove_line(struct table *table, uint32_t line);

/* "KeyTable /etc/opendkim/KeyTable, line 12", for messages. */
enum { TABLE_PLACE_SIZE = 320 };
const char *table_place(const struct table *table, uint32_t line, char buffer[TABLE_PLACE_SIZE]);

/* The live entry with that key (SigningTable: in any letter case) that stands first; next: another one after line in
 * the index, TABLE_NO_LINE none. To see all, start with table_any_of_key. */
uint32_t table_any_of_key(const struct table *table, const char *key);
uint32_t table_first_of_key(const struct table *table, const char *key);
uint32_t table_next_of_key(const struct table *table, const char *key, uint32_t line);
/* The same for the value side: KeyTable: path; SigningTable: key name. */
uint32_t table_first_of_value(const struct table *table, const char *value);
uint32_t table_next_of_value(const struct table *table, const char *value, uint32_t line);

/* The line that OpenDKIM applies to address, or TABLE_NO_LINE. */
uint32_t table_match_line(const struct table *signing, const char *address);
/* What a pattern asks the end of an address to be: "@example.com", ".example.com", or "" for anything. A pattern that
 * matches no address: false. */
bool table_pattern_tail(const struct table_span *pattern, struct table_span *ret_tail);

#endif
