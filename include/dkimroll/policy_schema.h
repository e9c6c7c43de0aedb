/* The schema: tables of rows that say which keys a mapping has, of which type, with which default and bounds, and where each value goes in a struct. The
 * same tables read the policy, fill in what is not given, write JSON for the store, free what they made, and are held against the man page by a test. */
#ifndef DKIMROLL_POLICY_SCHEMA_H
#define DKIMROLL_POLICY_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/buffer.h"
#include "dkimroll/clock.h"
#include "dkimroll/error.h"
#include "dkimroll/policy_report.h"
#include "dkimroll/policy_yaml.h"

struct schema_row;

/* How one text becomes one value. */
struct schema_type {
  const char *expects; /* for messages: "a duration such as 90d, 1h30m or 3600 (seconds)" */
  /* Reads text into the row's field of record. ERROR_INVALID: text is not what is expected; ERROR_NO_MEMORY. */
  int (*read)(const struct schema_row *row, const char *text, void *record);
  /* Adds the value as JSON; false: there is none, and the key is left out. */
  bool (*write)(const struct schema_row *row, const void *record, struct buffer *buffer);
  void (*release)(const struct schema_row *row, void *record); /* NULL: nothing to free */
  /* The value that minimum and maximum bound; NULL: nothing to bound. */
  int64_t (*number)(const struct schema_row *row, const void *record);
  void (*show)(int64_t number, char buffer[DURATION_TEXT_SIZE]); /* a bound, for messages */
};

extern const struct schema_type schema_text;       /* char * */
extern const struct schema_type schema_number;     /* unsigned */
extern const struct schema_type schema_duration;   /* int64_t, seconds */
extern const struct schema_type schema_duration32; /* uint32_t, seconds */
extern const struct schema_type schema_choice;     /* an enum, one of row->choices; 0 is unset */
extern const struct schema_type schema_switch;     /* bool */
extern const struct schema_type schema_mode;       /* mode_t, octal */

enum schema_shape {
  SCHEMA_VALUE = 1, /* one text of row->type */
  SCHEMA_LIST =
      2, /* texts: char ** at offset, size_t at count_offset; one text alone is a list of one, unless SCHEMA_STRICT_LIST */
  SCHEMA_GROUP = 3,   /* a mapping of row->table, whose values go into the same record */
  SCHEMA_ENTRIES = 4, /* name: mapping of row->table; an array of records at offset, size_t at count_offset */
  SCHEMA_STREAM = 5,  /* read by whoever walks the mapping (domains) */
};

enum schema_flags {
  SCHEMA_REQUIRED = 1,
  SCHEMA_NEVER = 2,       /* a duration that may be `never` (TIME_NEVER) */
  SCHEMA_STRICT_LIST = 4, /* a list also where it has one item, and repetition is fine: a command and its arguments */
  SCHEMA_VARIANT =
      8, /* giving this key sets the enum at variant_offset to variant; written only where it has that value */
};

struct schema_choice {
  const char *name;
  unsigned value;
};

/* Checks one text; the error says what is wrong and, as remedy, what would be right. */
typedef int schema_check(const char *text, struct error *error);

struct schema_table;
struct schema_row {
  const char *name;
  enum schema_shape shape;
  const struct schema_type *type; /* VALUE */
  unsigned flags;
  size_t offset;
  size_t count_offset;
  const char *
      standard; /* VALUE: default, as it would stand in the file; ENTRIES: name of the one entry, all defaults; NULL: none */
  int64_t minimum; /* of numbers and durations; LIST, ENTRIES: of their length */
  int64_t maximum;
  const struct schema_choice *choices;  /* ends with a NULL name */
  const struct schema_table *table;     /* GROUP, ENTRIES */
  schema_check *check;                  /* text and items of lists, after canonical */
  char *(*canonical)(const char *text); /* text and items of lists: the form to be kept; caller frees; NULL: as it is */
  size_t variant_offset;
  unsigned variant;
};

/* A rule between values of one mapping. It is tried if the rows that it needs had no findings and the mapping holds no key that is unknown or given twice: so
 * one mistake hides no other, and is not told a second time by its consequences. */
enum { SCHEMA_NEEDS_MAX = 6 };
struct schema_check {
  void (*check)(const struct policy_node *node, void *record, struct policy_report *report);
  const char *needs[SCHEMA_NEEDS_MAX]; /* names of rows; NULL behind the last */
};

struct schema_table {
  const char *what; /* "policy": what one entry is called */
  const struct schema_row *rows;
  size_t row_count;
  size_t size;        /* ENTRIES: of a record */
  size_t name_offset; /* ENTRIES: of its char *name */
  const struct schema_check *checks; /* borrowed, check_count of them */
  size_t check_count;
};

/* The row of that name; else a finding with the nearest name, and NULL. */
const struct schema_row *schema_find_row(const struct schema_table *table, const struct policy_node *node,
                                         const char *name, struct policy_place place, struct policy_report *report);
/* Reads node as a mapping of table into record, which is zero before; what is not given gets its default. null is an empty mapping. */
void schema_read(const struct schema_table *table, const struct policy_node *node, void *record,
                 struct policy_report *report);
/* Reads the value of one row. */
void schema_read_row(const struct schema_row *row, const struct policy_node *node, void *record,
                     struct policy_report *report);
/* The row's key is not given in the mapping node (NULL: the whole file): default, or a finding if it is required. */
void schema_read_absent(const struct schema_row *row, const struct policy_node *node, void *record,
                        struct policy_report *report);
/* Adds record as one line of JSON. */
void schema_write(const struct schema_table *table, const void *record, struct buffer *buffer);
/* Adds text as a JSON string. */
void schema_write_text(const char *text, struct buffer *buffer);
/* Frees what the rows point to and zeroes those pointers; record itself and its name stay. */
void schema_release(const struct schema_table *table, void *record);
/* Frees an array of records and their names. */
void schema_release_entries(const struct schema_table *table, void *records, size_t count);

/* The field of a record. */
#define SCHEMA_FIELD(type, record, offset) ((type *)(void *)((char *)(record) + (offset)))
#define SCHEMA_FIELD_CONST(type, record, offset) ((type const *)(const void *)((const char *)(record) + (offset)))

#endif
