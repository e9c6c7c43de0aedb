/* What a reading of the policy finds wrong, collected while it goes on, so that a postmaster sees every error in one go. */
#ifndef DKIMROLL_POLICY_REPORT_H
#define DKIMROLL_POLICY_REPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "dkimroll/error.h"
#include "dkimroll/policy.h"

/* The state of one reading. Zero is a fresh one; release it with policy_report_release. */
struct policy_report {
  struct policy_findings findings;
  size_t total; /* findings ever made, also those beyond POLICY_ERRORS_MAX: tells whether a step found something */
  size_t
      passed_over; /* values that are left out because of an earlier finding: what holds them is not complete either */
  char **files;    /* names of the files, in the order in which they were read; owned */
  size_t file_count;
  bool stored;  /* the text was written by policy_*_format: shape counts, bounds and rules do not */
  bool stopped; /* the text ended early (not YAML): what is missing must not be reported */
  int failure;  /* ERROR_NO_MEMORY: what was read is of no use; 0 */
  struct error trouble; /* of the host, the first: nothing is known of what stands there, so it is no finding; code 0: none */
};

/* Adds a finding. */
void policy_report_add(struct policy_report *report, struct policy_place place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Adds a finding "where: message; remedy". where may be NULL. */
void policy_report_error(struct policy_report *report, struct policy_place place, const char *where,
                         const struct error *error);
/* "did you mean \"NAME\"?" with the nearest of names, else "known: NAME, NAME". Caller frees; NULL: no memory, or nobody will read it because there
 * are findings enough: a wrong name in each of 100,000 domains is not to be compared with a thousand names each time. */
char *policy_report_hint(const struct policy_report *report, const char *text, const char *const *names, size_t count);
/* Notes that a value could not be looked at, as for want of a descriptor. */
void policy_report_trouble(struct policy_report *report, const struct error *error);
/* Notes that memory ran out. */
void policy_report_no_memory(struct policy_report *report);
/* Appends a file name (copied) and returns its index. */
unsigned policy_report_add_file(struct policy_report *report, const char *name);
/* Sorts the findings by file, line and column. */
void policy_report_sort(struct policy_report *report);
void policy_report_release(struct policy_report *report);

#endif
