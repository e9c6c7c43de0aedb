/* What status and check found: sentences about domains, grouped so that one dead server is one line, and not one for each of its domains. */
#ifndef DKIMROLL_FINDINGS_H
#define DKIMROLL_FINDINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "dkimroll/error.h"

enum { FINDINGS_MAX = 500 }; /* different ones; more would not be read, and the first often cause the rest */

enum finding_level { FINDING_OK = 0, FINDING_NOTE = 1, FINDING_WARNING = 2, FINDING_FAILED = 3 };

struct finding {
  enum finding_level level;
  int code;      /* of enum error_code; FAILED */
  const char *kind; /* a word that stays the same while the text changes, for who remembers it; borrowed for ever; NULL: none */
  char *subject; /* heading under which it stands */
  char *who;     /* the first domain or zone that it is about; NULL: none */
  size_t others; /* more of them */
  char *text;
  char *remedy;  /* may be empty */
  int64_t since; /* wall seconds, the earliest of the group; 0: not said */
};

struct findings {
  struct finding *items; /* owned */
  size_t count;
  size_t failed, warnings; /* added, those that were dropped included */
  size_t dropped;          /* beyond FINDINGS_MAX, or without memory */
  bool no_memory;          /* one was dropped for want of it */
  int first_code;          /* of the first that FAILED; 0: none did */
};

/* Adds a copy. One that is equal but for who and since joins the first. */
void findings_add(struct findings *findings, const struct finding *finding);
/* The same for an error, with its code, message and remedy. */
void findings_add_error(struct findings *findings, enum finding_level level, const char *subject, const char *who,
                        const struct error *error);
/* Findings of one subject stand together, subjects in the order in which they came up, each with its remedy. */
void findings_print(const struct findings *findings, FILE *out);
void findings_release(struct findings *findings);

#endif
