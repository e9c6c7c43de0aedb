/* The two tables of OpenDKIM, edited in meaning and not in text: KeyTable (key name -> domain:selector:path) and
 * SigningTable (sender pattern -> key name). Lines that no edit names stay octet for octet, with their order, comments,
 * blanks, tabs and line ends.
 *
 * How OpenDKIM reads them (opendkim.conf(5), and measured in docs/architecture.md): "#" starts a comment anywhere; the
 * key ends at the first white space; a line of a refile: table that starts with white space is no entry; of several
 * entries of one key the first counts. */
#ifndef DKIMROLL_TABLE_H
#define DKIMROLL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/buffer.h"
#include "dkimroll/error.h"
#include "dkimroll/policy.h"

enum {
  TABLE_FILE_MAX = 512 * 1024 * 1024, /* two million domains of 250 octets a line */
  TABLE_LINES_MAX = 8 * 1000 * 1000,  /* line numbers are 32 bits, and new lines need room */
  TABLE_LINE_MAX =
      1021, /* OpenDKIM reads lines into 1,024 octets; CR LF and the NUL must fit. For lines of ours only */
  /* Octets of a foreign pattern times every count in it ("x{30}"): regcomp(3) writes each repetition out, and "x{30000}{30000}" costs all
     memory there is, or seconds below that. Patterns of people have a few hundred. */
  TABLE_EXPRESSION_COST_MAX = 64 * 1024,
  TABLE_EDITS_MAX = POLICY_SENDERS_MAX + 2, /* of one item: a KeyTable entry, and each sender */
};

enum table_kind { TABLE_KEYS = 1, TABLE_SIGNING_REFILE = 2, TABLE_SIGNING_FILE = 3 };

/* One table in memory. */
struct table;

/* Parses a table. path is for messages (copied); data (size octets, heap) becomes the table's on success.
 * ERROR_INVALID: a NUL octet; ERROR_LIMIT. Caller frees with table_free. */
int table_parse(enum table_kind kind, const char *path, char *data, size_t size, struct table **ret_table,
                struct error *error) ERROR_USE_RESULT;
void table_free(struct table *table); /* NULL is fine */

/* Some edit changed it since it was parsed. */
bool table_is_changed(const struct table *table);
/* Appends the table as it is now. A table without a final newline stays one. */
void table_format(const struct table *table, struct buffer *text);

/* The value of the first KeyTable entry of name, or the key name ("%" as it stands) and number of the SigningTable line
 * that OpenDKIM applies to address. Borrowed until the next edit, not terminated; false: none. ret_line: its number in
 * the file, 0 for a line that was added since. */
struct table_span {
  const char *text;
  size_t size;
};
bool table_find_key(const struct table *keys, const char *name, struct table_span *ret_value, unsigned *ret_line);
bool table_match_sender(const struct table *signing, const char *address, struct table_span *ret_name,
                        unsigned *ret_line);

/* Entry number index, from 0, in the order of the file: its key, its value and its line. Borrowed as above; lines without an entry have an
 * empty key. false: there are no more. */
bool table_read_entry(const struct table *table, size_t index, struct table_span *ret_key, struct table_span *ret_value,
                      unsigned *ret_line);

enum table_edit_kind {
  /* KeyTable: name gets value. An entry of that name must have value already, or `before`; else ERROR_CONFLICT. A new
     line goes below the entry of beside, or to the end. */
  TABLE_KEY_SET = 1,
  /* KeyTable: the entries of name with value go. ERROR_CONFLICT if a SigningTable line would then name nothing (and no
   * edit of this item removes that line), or if another line still names the path in value (its file must live) and the
   * edit is not `shared`. */
  TABLE_KEY_REMOVE = 2,
  /* SigningTable: the line of pattern names name; before it named name or `before`, else ERROR_CONFLICT. Others of that
   * pattern that stand below it never count, and stay. Its second field and comment stay. A missing line goes to the end. ERROR_CONFLICT if another line takes address first (but one that
   * names `before` in a file: table, which takes the most specific entry);
   * ERROR_NOT_FOUND if KeyTable has no entry of name or the entry's file is not there. */
  TABLE_SIGN_POINT = 3,
  /* SigningTable: the lines of pattern that name name go. */
  TABLE_SIGN_REMOVE = 4,
};

/* Strings are borrowed, free of white space, "#" and control characters (ERROR_CONFIG). */
struct table_edit {
  enum table_edit_kind kind;
  const char *pattern; /* SIGN_*: as it stands in this kind of table (table_sender_pattern) */
  const char *name;    /* key name */
  const char *value;   /* KEY_*: "domain:selector:path" */
  const char *before;  /* KEY_SET: the value, SIGN_POINT: the key name that may be replaced; NULL: none */
  const char *beside;  /* KEY_SET: key name; NULL */
  const char *address; /* SIGN_POINT: an address that pattern stands for (table_sender_address); KEY_REMOVE: one that a
                          SigningTable line "%" must not take to name; NULL: not asked */
  bool shared;   /* KEY_REMOVE: other lines may go on naming the path */
  bool kept;     /* KEY_SET: an entry of name with another value is no conflict, and stays */
  bool existing; /* KEY_SET, SIGN_POINT: change what has before, leave all else as it is: nothing is added, and others'
                    entries are no conflict */
};

/* What belongs together: all edits of an item are done, or none. */
struct table_item {
  const struct table_edit *edits;
  size_t edit_count; /* at most TABLE_EDITS_MAX */
};

enum table_made { TABLE_MADE_NOTHING = 0, TABLE_MADE_ADDED = 1, TABLE_MADE_REPLACED = 2, TABLE_MADE_REMOVED = 3 };

struct table_outcome {
  struct error error; /* code 0: the tables hold what the item wants */
  uint8_t made[TABLE_EDITS_MAX];
};

/* Is the file of a private key there? For TABLE_SIGN_POINT; the real one asks the file system. */
typedef bool table_key_file_exists(const char *path);

struct table_pair {
  struct table *keys;
  struct table *signing;
  bool multiple_signatures; /* every matching line of a refile: table signs: other lines of a pattern are no conflict */
  table_key_file_exists *exists; /* NULL: not asked */
};

/* Applies each item to both tables in memory, in order; every item has its outcome. Near-linear in lines and items.
 * Returns an error only when out of memory. */
int table_apply(const struct table_pair *pair, const struct table_item *items, size_t count,
                struct table_outcome *outcomes, struct error *error) ERROR_USE_RESULT;

/* What a sender of the policy ("*@example.com", "user@example.com", "*") is in a table of this kind. refile: itself
 * ("@D": "*@D"); the forms of a file: table "D", ".D" and "user@.D" are ERROR_CONFIG. file: "*@D" is "D", "*@*.D" ".D",
 * "user@*.D" "user@.D", "*" and "*@*" "*", and its own forms are themselves; other wildcards are ERROR_CONFIG. Caller
 * frees. */
int table_sender_pattern(enum table_kind kind, const char *sender, char **ret_pattern,
                         struct error *error) ERROR_USE_RESULT;

/* An address that the sender stands for: each "*" becomes "dkimroll-proof", a domain part of "*" alone becomes domain:
 * "*@example.com" and "example.com" are dkimroll-proof@example.com, "user@example.com" itself, "*@*.example.com" and
 * ".example.com" dkimroll-proof@dkimroll-proof.example.com, "*" dkimroll-proof@DOMAIN. ERROR_CONFIG for a sender with characters of
 * regular expressions, ERROR_LIMIT over TABLE_LINE_MAX. Caller frees. */
int table_sender_address(const char *sender, const char *domain, char **ret_address,
                         struct error *error) ERROR_USE_RESULT;

#endif
