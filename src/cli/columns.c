#include "dkimroll/columns.h"

#include <libsmartcols/libsmartcols.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

struct columns {
  FILE *out;
  const char *const *names;
  size_t count;
  bool hidden[COLUMNS_MAX];
  size_t widths[COLUMNS_MAX];
  bool terminal;
  size_t last_width;            /* to which the last column is wrapped; 0: not */
  struct libscols_table *table; /* NULL until the first row */
  size_t rows;                  /* in table */
};

static bool is_terminal(FILE *out) {
  const int descriptor = fileno(out); /* -1 for a stream in memory */
  return descriptor >= 0 && isatty(descriptor);
}

bool columns_colours_wanted(FILE *out) {
  const char *no_colour = getenv("NO_COLOR"), *terminal = getenv("TERM");
  return is_terminal(out) && !(no_colour && no_colour[0]) && terminal && !text_equal(terminal, "dumb");
}

int columns_new(FILE *out, const char *const *names, size_t count, struct columns **ret_columns, struct error *error) {
  if (count > COLUMNS_MAX) return error_set(error, ERROR_LIMIT, "a table of %zu columns", count);
  struct columns *columns = calloc(1, sizeof *columns);
  if (!columns) return error_set(error, ERROR_NO_MEMORY, "out of memory for a table");
  *columns = (struct columns){.out = out, .names = names, .count = count, .terminal = is_terminal(out)};
  for (size_t i = 0; i < count; i++) columns->widths[i] = strlen(names[i]);
  *ret_columns = columns;
  return 0;
}

void columns_free(struct columns *columns) {
  if (!columns) return;
  scols_unref_table(columns->table);
  free(columns);
}

void columns_hide(struct columns *columns, size_t column) {
  columns->hidden[column] = true;
}

void columns_measure(struct columns *columns, const struct columns_row *row) {
  for (size_t i = 0; i < columns->count; i++) {
    const size_t width = strlen(row->cells[i]);
    if (width > columns->widths[i]) columns->widths[i] = width;
  }
}

/* What the terminal has left for the last column. */
static size_t room_for_last(const struct columns *columns) {
  const size_t width = scols_table_get_termwidth(columns->table);
  size_t used = 0;
  for (size_t i = 0; i + 1 < columns->count; i++)
    if (!columns->hidden[i]) used += columns->widths[i] + 1;
  return width > used + COLUMNS_LAST_LEAST ? width - used : COLUMNS_LAST_LEAST;
}

static int add_column(struct columns *columns, size_t i) {
  const bool last = i + 1 == columns->count;
  int flags = last ? SCOLS_FL_WRAP : 0;
  if (columns->hidden[i]) flags |= SCOLS_FL_HIDDEN;
  /* Without it a part whose texts are shorter than the heading would be as wide as the heading. */
  if (columns->widths[i] > strlen(columns->names[i])) flags |= SCOLS_FL_STRICTWIDTH;
  struct libscols_column *column =
      scols_table_new_column(columns->table, columns->names[i], last ? 0 : (double)columns->widths[i], flags);
  if (!column) return ERROR_NO_MEMORY;
  if (!last) return 0;
  scols_column_set_safechars(column, "\n");
  return scols_column_set_wrapfunc(column, scols_wrapnl_chunksize, scols_wrapnl_nextchunk, NULL) ? ERROR_NO_MEMORY : 0;
}

static int make_table(struct columns *columns) {
  columns->table = scols_new_table();
  if (!columns->table) return ERROR_NO_MEMORY;
  scols_table_set_stream(columns->table, columns->out);
  /* The library would look at standard output, which need not be where this table goes. Width is ours to keep: the last column is wrapped here. */
  scols_table_set_termforce(columns->table, SCOLS_TERMFORCE_NEVER);
  scols_table_enable_colors(columns->table, columns_colours_wanted(columns->out));
  if (columns->terminal) columns->last_width = room_for_last(columns);
  for (size_t i = 0; i < columns->count; i++)
    if (add_column(columns, i)) return ERROR_NO_MEMORY;
  return 0;
}

/* text with line feeds in place of spaces, so that no line is longer than width if its words are not. Caller frees. */
static char *wrap_words(const char *text, size_t width) {
  char *wrapped = text_duplicate(text);
  size_t start = 0, space = 0;
  if (!wrapped || width == 0) return wrapped;
  for (size_t i = 0; wrapped[i]; i++) {
    if (wrapped[i] == ' ') space = i;
    if (i - start < width || space <= start) continue;
    wrapped[space] = '\n';
    start = space + 1;
  }
  return wrapped;
}

static int print_part(struct columns *columns, struct error *error) {
  if (columns->rows > 0 && scols_print_table(columns->table))
    return error_set(error, ERROR_SYSTEM, "the table could not be printed");
  scols_table_remove_lines(columns->table);
  scols_table_enable_noheadings(columns->table, 1);
  columns->rows = 0;
  return 0;
}

static int fill_line(const struct columns *columns, struct libscols_line *line, const struct columns_row *row) {
  for (size_t i = 0; i + 1 < columns->count; i++)
    if (scols_line_set_data(line, i, row->cells[i])) return ERROR_NO_MEMORY;
  CLEANUP_FREE char *last = wrap_words(row->cells[columns->count - 1], columns->last_width);
  if (!last || scols_line_set_data(line, columns->count - 1, last)) return ERROR_NO_MEMORY;
  if (row->colour) scols_cell_set_color(scols_line_get_cell(line, row->coloured), row->colour);
  return 0;
}

int columns_add(struct columns *columns, const struct columns_row *row, struct error *error) {
  if (!columns->table && make_table(columns)) return error_set(error, ERROR_NO_MEMORY, "out of memory for a table");
  struct libscols_line *line = scols_table_new_line(columns->table, NULL);
  if (!line || fill_line(columns, line, row)) return error_set(error, ERROR_NO_MEMORY, "out of memory for a table");
  return ++columns->rows == COLUMNS_PART ? print_part(columns, error) : 0;
}

int columns_end(struct columns *columns, struct error *error) {
  return columns->table ? print_part(columns, error) : 0;
}
