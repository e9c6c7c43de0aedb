/* Drop-ins for the units, made from the policy: what the sandboxes of dkimroll's units have to open because of the paths that the policy names, and they and other
 * drop-ins do not open yet. */
#ifndef DKIMROLL_UNITS_H
#define DKIMROLL_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

#include "dkimroll/error.h"
#include "dkimroll/policy.h"

struct session;

#define UNITS_FILE_NAME "50-dkimroll-policy.conf"
#define UNITS_DIRECTORY "/etc/systemd/system"

enum {
  UNITS_TEXT_MAX = 256 * 1024, /* of a unit or drop-in */
  UNITS_DROP_INS_MAX = 64,     /* of one unit in one directory */
  UNITS_SIGNERS_TEXT_MAX = 16 * 1024 * 1024, /* of signers that living keys were made with, as many as there are grants (GRANTS_FILE_MAX) */
  UNITS_LINES_MAX = 512,       /* of one drop-in of ours: a policy names at most 1,000 signers, which share directories */
  UNITS_GROUPS_MAX = 64,       /* of the user dkimroll */
};

/* The side that needs it, and its units. */
enum units_side { UNITS_KEEPER = 0, UNITS_LOOP = 1 };

/* One line that a unit lacks. */
struct units_line {
  char *text; /* "ReadWritePaths=/srv/mail/dkim" */
  char *why;  /* "keys of signer local" */
};

/* One unit of dkimroll that is installed. */
struct units_unit {
  const char *name; /* "dkimroll-keeper@.service" */
  enum units_side side;
  char *text;       /* of the unit and of the drop-ins of others, one after the other */
  char *ours;       /* of our drop-in; NULL: there is none */
  struct units_line lines[UNITS_LINES_MAX]; /* what it lacks without ours */
  size_t line_count;
};

enum { UNITS_COUNT = 3, UNITS_NOTES_MAX = 64 };

struct units {
  const char *root;  /* "" or a directory in which a host lies */
  bool has_user;     /* the user dkimroll is known */
  uid_t user;
  gid_t groups[UNITS_GROUPS_MAX];
  int group_count;
  struct units_unit units[UNITS_COUNT];
  size_t count;      /* those that are installed */
  char *notes[UNITS_NOTES_MAX]; /* what no drop-in can do */
  size_t note_count;
};

/* Versions of signers that living keys were made with: undoing goes where they are, whatever the policy says by now. */
struct units_signers {
  struct policy_signer **items; /* owned */
  size_t count;
};

/* As the database says it, and where that belongs to another user than root only what root granted the keeper. None before the first run. Caller releases. (units_keys.c) */
int units_read_signers(struct session *session, struct units_signers *ret_signers, struct error *error) ERROR_USE_RESULT;
void units_signers_release(struct units_signers *signers);

/* Finds the units of the host below root and what they lack for policy, and for keys that were made with signers (NULL: none). Caller releases. (units_needs.c) */
int units_find(const char *root, const struct policy *policy, const struct units_signers *signers, struct units *ret_units, struct error *error) ERROR_USE_RESULT;
void units_release(struct units *units);
/* Parts of units_find. (units_host.c) */
int units_read(struct units *units, struct error *error) ERROR_USE_RESULT;
/* Does text name path, or a directory above it, in an assignment of key? */
bool units_text_covers(const char *text, const char *key, const char *path);
/* May a unit with that text write below path, by ReadWritePaths= or StateDirectory=? */
bool units_text_opens(const char *text, const char *path);
/* Is there an assignment of key whose value is, or begins with, value followed by ":"? */
bool units_text_has(const char *text, const char *key, const char *value);
/* May the user dkimroll read (4), write (2) path, by its modes and those of all directories above? ret_group may be NULL; else, if a group would open all of it: that one. */
enum units_answer { UNITS_NO = 0, UNITS_YES = 1, UNITS_BY_GROUP = 2, UNITS_UNKNOWN = 3, UNITS_MISSING = 4 };
enum units_answer units_may(const struct units *units, const char *path, unsigned bits, gid_t *ret_group);

/* The command for the host below root: shows the drop-ins or, with --apply, writes them. Returns the exit status. (units.c) */
struct cli;
int units_carry_out(const struct cli *cli, const char *root);

/* The drop-in of unit as it should be. Caller frees; NULL: out of memory. (units.c) */
char *units_format(const struct units_unit *unit);
/* Where it belongs. Caller frees. (units.c) */
char *units_path(const struct units *units, const struct units_unit *unit);
/* Is that line in force? */
bool units_has_line(const struct units_unit *unit, const struct units_line *line);

#endif
