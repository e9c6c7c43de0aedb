/* The lives of a lineage's keys as bars over time, for a terminal: the past as it was, the future as the planner sees it. Pure but for where it prints. */
#ifndef DKIMROLL_TIMELINE_H
#define DKIMROLL_TIMELINE_H

#include <stdbool.h>
#include <stdio.h>

#include "dkimroll/lifecycle.h"

enum {
  TIMELINE_ROWS_MAX = 40,     /* keys: LINEAGE_KEYS_MAX that live, and some to come; more would not be looked at */
  TIMELINE_SPANS_MAX = 16,    /* of one key: its states, and a way back from ready to published or two */
  TIMELINE_BAR_LEAST = 24,    /* columns for the bars; a terminal that has fewer gets no timeline */
  TIMELINE_LIFE_MAX = 400 * 86400, /* seconds to come that status looks at most: a year's life and its end */
};

/* One key, in one state after the other. */
struct timeline_span {
  enum key_state state; /* KEY_REMOVED: it is gone */
  int64_t from;
};
struct timeline_row {
  char selector[SELECTOR_SIZE];
  struct timeline_span spans[TIMELINE_SPANS_MAX];
  size_t span_count;
};

struct timeline {
  int64_t from, now, until;
  struct timeline_row rows[TIMELINE_ROWS_MAX];
  size_t row_count;
  size_t left_out; /* keys to come for which there is no row */
};

struct timeline_style {
  size_t width; /* of the terminal */
  bool utf8;
  bool colours;
};

/* Where out leads, by TIOCGWINSZ, LC_ALL, LC_CTYPE and LANG, NO_COLOR and TERM. false: no terminal, and then there is nothing to draw. */
bool timeline_style_of(FILE *out, struct timeline_style *ret_style);

/* What was of the lineage's living keys, and what will be until the moment until; TIME_UNSET: until all of them are gone, within TIMELINE_LIFE_MAX. Half of the picture is past at
 * most. ERROR_NO_MEMORY, ERROR_LIMIT as forecast_lineage. */
int timeline_make(const struct lineage *lineage, const struct plan_clock *clock, int64_t until, struct timeline *ret_timeline, struct error *error) ERROR_USE_RESULT;
/* Prints a scale, a bar for each key and a legend; nothing if there are no keys, or the terminal is too narrow. */
void timeline_draw(const struct timeline *timeline, const struct timeline_style *style, FILE *out);

#endif
