#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/columns.h"
#include "dkimroll/text.h"
#include "dkimroll/timeline.h"

enum { WIDTH_MAX = 500, WIDTH_USUAL = 80, MARGIN = 2, DAY = 86400, TICK_TEXT_MAX = 16, STATES = KEY_REVOKED + 1 };

/* What stands in one column. Values below STATES are states. */
enum cell { CELL_BLANK = STATES, CELL_NOW, CELL_EARLIER, CELL_LATER, CELL_RULE, CELL_TICK, CELLS };

static const struct {
  const char *utf8, *ascii, *colour;
} LOOKS[CELLS] = {
    [KEY_RESERVED] = {"·", ".", "2"},
    [KEY_GENERATED] = {"·", ".", "2"},
    [KEY_PUBLISHED] = {"┄", "-", "33"},
    [KEY_READY] = {"━", "=", "36"},
    [KEY_ACTIVE] = {"█", "#", "32"},
    [KEY_RETIRED] = {"▒", "x", "34"},
    [KEY_REVOKED] = {"░", ":", "31"},
    [CELL_BLANK] = {" ", " ", NULL},
    [CELL_NOW] = {"┃", "|", "1"},
    [CELL_EARLIER] = {"◂", "<", "32"},
    [CELL_LATER] = {"▸", ">", "32"},
    [CELL_RULE] = {"─", "-", "2"},
    [CELL_TICK] = {"┴", "+", "2"},
};

/* One drawing. */
struct canvas {
  const struct timeline *timeline;
  const struct timeline_style *style;
  FILE *out;
  size_t label; /* columns of the names */
  size_t bar;   /* columns of time */
  size_t now;   /* the column of now */
  int64_t step; /* seconds between two ticks, less than a month; 0: months are counted */
  int months;
};

bool timeline_style_of(FILE *out, struct timeline_style *ret_style) {
  const int descriptor = fileno(out);
  struct winsize size = {0};
  if (descriptor < 0 || !isatty(descriptor)) return false;
  *ret_style = (struct timeline_style){.width = WIDTH_USUAL, .colours = columns_colours_wanted(out)};
  if (ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) ret_style->width = size.ws_col;
  static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
  for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
    const char *value = getenv(names[i]);
    if (!value || !value[0]) continue;
    const char *charset = strchr(value, '.');
    ret_style->utf8 = charset && (strncasecmp(charset, ".utf-8", 6) == 0 || strncasecmp(charset, ".utf8", 5) == 0);
    break;
  }
  return true;
}

/* ---- columns ---- */

static size_t column_of(const struct canvas *canvas, int64_t moment) {
  const struct timeline *timeline = canvas->timeline;
  if (moment <= timeline->from) return 0;
  if (moment >= timeline->until) return canvas->bar;
  /* In floating point, because seconds of a century times columns are far from exact needs. */
  return (size_t)((double)(moment - timeline->from) / (double)(timeline->until - timeline->from) * (double)canvas->bar);
}

/* The same cell count times. */
static void put(const struct canvas *canvas, enum cell cell, size_t count) {
  const bool coloured = canvas->style->colours && LOOKS[cell].colour;
  if (coloured) fprintf(canvas->out, "\033[%sm", LOOKS[cell].colour);
  for (size_t i = 0; i < count; i++) fputs(canvas->style->utf8 ? LOOKS[cell].utf8 : LOOKS[cell].ascii, canvas->out);
  if (coloured) fputs("\033[0m", canvas->out);
}

/* Blanks at the end are left out. */
static void put_cells(const struct canvas *canvas, const enum cell *cells) {
  size_t end = canvas->bar;
  while (end > 0 && cells[end - 1] == CELL_BLANK) end--;
  for (size_t i = 0, next; i < end; i = next) {
    for (next = i + 1; next < end && cells[next] == cells[i];) next++;
    put(canvas, cells[i], next - i);
  }
  fputc('\n', canvas->out);
}

/* ---- the scale ---- */

/* Of days and below; months come after. */
static const int64_t STEPS[] = {1, 5, 15, 30, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, DAY, 2 * DAY, 7 * DAY, 14 * DAY};
static const int MONTHS[] = {1, 2, 3, 6, 12, 24, 60, 120};

/* The finest that leaves room for its labels. */
static void choose_step(struct canvas *canvas) {
  const double seconds = (double)(canvas->timeline->until - canvas->timeline->from) / (double)canvas->bar; /* of one column */
  for (size_t i = 0; i < ARRAY_SIZE(STEPS); i++) {
    const double room = STEPS[i] < DAY ? 11 : 13;
    canvas->step = STEPS[i];
    if ((double)STEPS[i] >= seconds * room) return;
  }
  canvas->step = 0;
  for (size_t i = 0; i < ARRAY_SIZE(MONTHS); i++) {
    canvas->months = MONTHS[i];
    if (MONTHS[i] * 28.0 * DAY >= seconds * 10) return;
  }
}

/* The first tick at or after moment. */
static int64_t first_tick(const struct canvas *canvas, int64_t moment) {
  if (canvas->step > 0) return moment - moment % canvas->step + (moment % canvas->step ? canvas->step : 0);
  const time_t seconds = (time_t)moment;
  struct tm date;
  if (!gmtime_r(&seconds, &date)) return TIME_NEVER;
  const int count = date.tm_year * 12 + date.tm_mon;
  const bool inside = date.tm_mday > 1 || moment % DAY > 0;
  const int next = count - count % canvas->months + (count % canvas->months || inside ? canvas->months : 0);
  struct tm tick = {.tm_year = next / 12, .tm_mon = next % 12, .tm_mday = 1};
  return (int64_t)timegm(&tick);
}

static void tick_text(const struct canvas *canvas, int64_t moment, char text[TICK_TEXT_MAX]) {
  enum { DATE_MONTH = 7, DATE_DAY = 10, CLOCK = 11, CLOCK_MINUTE = 5, CLOCK_SECOND = 8 }; /* "2026-01-24T15:04:05Z" */
  char iso[TIME_TEXT_SIZE];
  const bool date = canvas->step == 0 || moment % DAY == 0;
  time_format_iso(moment, iso);
  const int size = !date ? (canvas->step >= 60 ? CLOCK_MINUTE : CLOCK_SECOND) : canvas->step == 0 ? DATE_MONTH : DATE_DAY;
  snprintf(text, TICK_TEXT_MAX, "%.*s", size, iso + (date ? 0 : CLOCK));
}

/* text into line, so that its middle is at column; not where something stands already, or beyond the end. */
static void label_tick(const struct canvas *canvas, char *line, size_t column, const char *text) {
  const size_t size = strlen(text), half = size / 2;
  const size_t start = column < half ? 0 : column - half;
  if (start + size > canvas->bar) return;
  for (size_t i = start > 0 ? start - 1 : 0; i < start + size + 1 && i < canvas->bar; i++)
    if (line[i] != ' ') return;
  for (size_t i = 0; i < size; i++) line[start + i] = text[i];
}

static void draw_scale(const struct canvas *canvas) {
  char line[WIDTH_MAX + 1], text[TICK_TEXT_MAX];
  enum cell rule[WIDTH_MAX];
  memset(line, ' ', canvas->bar);
  line[canvas->bar] = '\0';
  for (size_t i = 0; i < canvas->bar; i++) rule[i] = CELL_RULE;
  label_tick(canvas, line, canvas->now + 3 > canvas->bar ? canvas->bar - 2 : canvas->now, "now");
  for (int64_t tick = first_tick(canvas, canvas->timeline->from); tick < canvas->timeline->until; tick = first_tick(canvas, tick + 1)) {
    tick_text(canvas, tick, text);
    rule[column_of(canvas, tick)] = CELL_TICK;
    label_tick(canvas, line, column_of(canvas, tick), text);
  }
  rule[canvas->now] = CELL_NOW;
  size_t end = canvas->bar;
  while (end > 0 && line[end - 1] == ' ') line[--end] = '\0';
  fprintf(canvas->out, "%*s%s\n%*s", (int)(MARGIN + canvas->label + 1), "", line, (int)(MARGIN + canvas->label + 1), "");
  put_cells(canvas, rule);
}

/* ---- a bar ---- */

/* Where each span begins: a state that is too short for a column of its own gets one of that before it, but no plan is drawn as if it had happened. */
static void place_spans(const struct canvas *canvas, const struct timeline_row *row, size_t starts[TIMELINE_SPANS_MAX]) {
  for (size_t i = 0; i < row->span_count; i++) starts[i] = column_of(canvas, row->spans[i].from);
  for (size_t i = row->span_count; i-- > 1;) {
    const size_t least = row->spans[i - 1].from > canvas->timeline->now ? canvas->now + 1 : 0;
    if (starts[i - 1] >= starts[i] && starts[i] > least) starts[i - 1] = starts[i] - 1;
  }
}

static void draw_row(const struct canvas *canvas, const struct timeline_row *row) {
  enum cell cells[WIDTH_MAX];
  size_t starts[TIMELINE_SPANS_MAX];
  for (size_t i = 0; i < canvas->bar; i++) cells[i] = CELL_BLANK;
  place_spans(canvas, row, starts);
  for (size_t i = 0; i < row->span_count; i++) {
    const enum key_state state = row->spans[i].state;
    for (size_t column = starts[i]; column < canvas->bar; column++) cells[column] = state == KEY_REMOVED ? CELL_BLANK : (enum cell)state;
  }
  if (row->span_count > 0 && row->spans[0].from < canvas->timeline->from) cells[0] = CELL_EARLIER;
  if (cells[canvas->bar - 1] != CELL_BLANK) cells[canvas->bar - 1] = CELL_LATER;
  cells[canvas->now] = CELL_NOW;
  char label[SELECTOR_SIZE];
  const bool cut = !text_copy(label, canvas->label + 1 < sizeof label ? canvas->label + 1 : sizeof label, row->selector);
  if (cut) label[strlen(label) - 1] = '~';
  fprintf(canvas->out, "%*s%-*s ", MARGIN, "", (int)canvas->label, label);
  put_cells(canvas, cells);
}

static void draw_legend(const struct canvas *canvas) {
  size_t used = 0;
  const size_t room = canvas->label + 1 + canvas->bar;
  fprintf(canvas->out, "%*s", MARGIN, "");
  for (enum key_state state = KEY_GENERATED; state <= KEY_REVOKED; state++) {
    const char *name = key_state_name(state);
    if (used > 0 && used + strlen(name) + 4 > room) {
      fprintf(canvas->out, "\n%*s", MARGIN, "");
      used = 0;
    }
    if (used > 0) fputs("  ", canvas->out);
    put(canvas, (enum cell)state, 1);
    fprintf(canvas->out, " %s", name);
    used += strlen(name) + 4;
  }
  fputc('\n', canvas->out);
}

void timeline_draw(const struct timeline *timeline, const struct timeline_style *style, FILE *out) {
  struct canvas canvas = {.timeline = timeline, .style = style, .out = out};
  const size_t width = style->width < WIDTH_MAX ? style->width : WIDTH_MAX;
  for (size_t i = 0; i < timeline->row_count; i++) {
    const size_t size = strlen(timeline->rows[i].selector);
    if (size > canvas.label) canvas.label = size;
  }
  if (canvas.label > width / 3) canvas.label = width / 3;
  if (timeline->row_count == 0 || canvas.label + MARGIN + 1 + TIMELINE_BAR_LEAST > width) return;
  canvas.bar = width - canvas.label - MARGIN - 1;
  canvas.now = column_of(&canvas, timeline->now);
  if (canvas.now >= canvas.bar) canvas.now = canvas.bar - 1;
  choose_step(&canvas);
  draw_scale(&canvas);
  for (size_t i = 0; i < timeline->row_count; i++) draw_row(&canvas, &timeline->rows[i]);
  draw_legend(&canvas);
  if (timeline->left_out > 0) fprintf(out, "%*sand %zu more key%s to come\n", MARGIN, "", timeline->left_out, timeline->left_out == 1 ? "" : "s");
}
