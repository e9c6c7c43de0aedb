/* A table for people, printed as it grows: rows are measured first, so that it can be printed in parts with the same widths, and never more than one
 * part is in memory. Over libsmartcols. */
#ifndef DKIMROLL_COLUMNS_H
#define DKIMROLL_COLUMNS_H

#include <stdbool.h>
#include <stdio.h>

#include "dkimroll/error.h"

enum {
  COLUMNS_MAX = 8,
  COLUMNS_PART = 500,      /* rows in memory */
  COLUMNS_LAST_LEAST = 24, /* the last column is wrapped at words to what a terminal has left, but not below this */
};

/* One row: a text for each column, and a colour (as libsmartcols names them, "green") for one of them; NULL: none. Borrowed during the call. */
struct columns_row {
  const char *cells[COLUMNS_MAX];
  size_t coloured;
  const char *colour;
};

struct columns;

/* true: out is a terminal that takes colours (NO_COLOR and TERM=dumb say no). */
bool columns_colours_wanted(FILE *out);

/* names (count, at most COLUMNS_MAX) are borrowed until columns_free; out too. */
int columns_new(FILE *out, const char *const *names, size_t count, struct columns **ret_columns,
                struct error *error) ERROR_USE_RESULT;
/* Leaves a column out. Before the first columns_add. */
void columns_hide(struct columns *columns, size_t column);
void columns_measure(struct columns *columns, const struct columns_row *row);
int columns_add(struct columns *columns, const struct columns_row *row, struct error *error) ERROR_USE_RESULT;
/* Prints what is left. */
int columns_end(struct columns *columns, struct error *error) ERROR_USE_RESULT;
void columns_free(struct columns *columns); /* NULL is fine */

#endif
