/* The timeline of status and plan, drawn with fixed clocks and widths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "dkimroll/timeline.h"
#include "lineage_builder.h"

static const struct timeline_style ASCII = {.width = 80}, UTF8 = {.width = 80, .utf8 = true};

/* What is drawn; caller frees. */
static char *draw(const struct timeline *timeline, const struct timeline_style *style) {
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  assert_non_null(out);
  timeline_draw(timeline, style, out);
  fclose(out);
  return text;
}

static void assert_drawn(const struct timeline *timeline, const struct timeline_style *style, const char *expected) {
  CLEANUP_FREE char *drawn = draw(timeline, style);
  if (!text_equal(drawn, expected)) fail_msg("not:\n%s\nbut:\n%s", expected, drawn);
}

static void assert_spans(const struct timeline_row *row, const struct timeline_span *spans, size_t count) {
  assert_int_equal(row->span_count, count);
  for (size_t i = 0; i < count; i++) {
    assert_int_equal(row->spans[i].state, spans[i].state);
    assert_int_equal(row->spans[i].from, spans[i].from);
  }
}

/* A key that signs since 45 days before BUILDER_NOW, half of its life. */
static void make(struct builder *builder, struct timeline *timeline, int64_t until) {
  struct error error = {0};
  builder_key(builder, "s20261201", KEY_ACTIVE, BUILDER_NOW - 45 * DAY);
  if (timeline_make(&builder->lineage, &(struct plan_clock){.now = BUILDER_NOW}, until, timeline, &error)) fail_msg("%s", error.message);
}

static void test_timeline__the_past_is_as_it_was_and_the_future_as_planned(void **state) {
  struct builder *builder = *state;
  struct timeline timeline;
  make(builder, &timeline, TIME_UNSET);
  const struct key *key = &builder->lineage.keys[0];
  assert_int_equal(timeline.row_count, 2);
  const struct timeline_row *row = &timeline.rows[0], *next = &timeline.rows[1];
  assert_string_equal(row->selector, "s20261201");
  assert_int_equal(row->span_count, 7);
  assert_spans(&(struct timeline_row){.spans = {row->spans[1], row->spans[2], row->spans[3]}, .span_count = 3},
               (const struct timeline_span[]){{KEY_PUBLISHED, key->published_at}, {KEY_READY, key->ready_at}, {KEY_ACTIVE, key->active_at}}, 3);
  /* The one retires when the other takes over, and lives on for its windows. */
  assert_int_equal(row->spans[4].state, KEY_RETIRED);
  assert_int_equal(next->spans[3].state, KEY_ACTIVE);
  assert_int_equal(row->spans[4].from, next->spans[3].from);
  assert_int_equal(row->spans[4].from, key->active_at + BUILDER_LIFE);
  assert_int_equal(row->spans[5].from, row->spans[4].from + BUILDER_WINDOW);
  assert_int_equal(row->spans[6].state, KEY_REMOVED);
  assert_int_equal(row->spans[6].from, row->spans[5].from + BUILDER_TOMBSTONE);
  assert_true(timeline.until > row->spans[6].from);
}

static void test_timeline__a_life_is_drawn_with_its_scale_and_a_legend(void **state) {
  struct timeline timeline;
  make(*state, &timeline, TIME_UNSET);
  assert_drawn(&timeline, &UTF8, "                         2027-01  now    2027-02       2027-03         2027-04\n"
               "            ────────────────┴──────┃────────┴─────────────┴───────────────┴─────\n"
               "  s20261201 ███████████████████████┃██████████████████████▒▒▒▒░░░░░░░░░░░░░░░░\n"
               "  s20270301                        ┃                   ·┄━█████████████████████▸\n"
               "  · generated  ┄ published  ━ ready  █ active  ▒ retired  ░ revoked\n");
  assert_drawn(&timeline, &ASCII, "                         2027-01  now    2027-02       2027-03         2027-04\n"
               "            ----------------+------|--------+-------------+---------------+-----\n"
               "  s20261201 #######################|######################xxxx::::::::::::::::\n"
               "  s20270301                        |                   .-=#####################>\n"
               "  . generated  - published  = ready  # active  x retired  : revoked\n");
}

/* By hand: a key of before the picture, and one that is to be made and has to wait but for seconds. */
static const struct timeline HAND = {
    .from = BUILDER_NOW - 10 * DAY,
    .now = BUILDER_NOW,
    .until = BUILDER_NOW + 30 * DAY,
    .rows = {{.selector = "old", .spans = {{KEY_ACTIVE, BUILDER_NOW - 40 * DAY}, {KEY_RETIRED, BUILDER_NOW + 70}, {KEY_REVOKED, BUILDER_NOW + 12 * DAY},
                                           {KEY_REMOVED, BUILDER_NOW + 25 * DAY}}, .span_count = 4},
             {.selector = "a-selector-of-more-than-a-third", .spans = {{KEY_GENERATED, BUILDER_NOW + 10}, {KEY_PUBLISHED, BUILDER_NOW + 20},
                                                                       {KEY_READY, BUILDER_NOW + 60}, {KEY_ACTIVE, BUILDER_NOW + 70}}, .span_count = 4}},
    .row_count = 2,
    .left_out = 3,
};

static void test_timeline__no_plan_is_drawn_as_if_it_had_happened_and_what_goes_on_has_an_arrow(void **state) {
  (void)state;
  assert_drawn(&HAND, &(struct timeline_style){.width = 60, .utf8 = true}, "                               now          2027-02\n"
               "                       ─────────┃──────────────┴────────────\n"
               "  old                  ◂████████┃▒▒▒▒▒▒▒▒▒▒░░░░░░░░░░░░\n"
               "  a-selector-of-more-~          ┃██████████████████████████▸\n"
               "  · generated  ┄ published  ━ ready  █ active  ▒ retired\n"
               "  ░ revoked\n"
               "  and 3 more keys to come\n");
}

static void test_timeline__a_narrow_terminal_cuts_names_and_breaks_the_legend(void **state) {
  (void)state;
  assert_drawn(&HAND, &(struct timeline_style){.width = 42}, "                      now     2027-02\n"
               "                 ------|---------+--------\n"
               "  old            <#####|xxxxxx::::::::\n"
               "  a-selector-of~       |#################>\n"
               "  . generated  - published  = ready\n"
               "  # active  x retired  : revoked\n"
               "  and 3 more keys to come\n");
  assert_drawn(&HAND, &(struct timeline_style){.width = 39}, "");
}

static void test_timeline__seconds_have_a_scale_too(void **state) {
  (void)state;
  const struct timeline timeline = {.from = BUILDER_NOW - 20, .now = BUILDER_NOW, .until = BUILDER_NOW + 60,
                                    .rows = {{.selector = "s", .spans = {{KEY_PUBLISHED, BUILDER_NOW - 20}, {KEY_READY, BUILDER_NOW + 15}}, .span_count = 2}},
                                    .row_count = 1};
  assert_drawn(&timeline, &(struct timeline_style){.width = 64}, "    07:59:45      now     08:00:15   08:00:30   08:00:45\n"
               "    ---+-----------|----------+----------+----------+-----------\n"
               "  s ---------------|----------=================================>\n"
               "  . generated  - published  = ready  # active  x retired\n"
               "  : revoked\n");
}

static void test_timeline__colours_are_given_only_where_they_are_wanted(void **state) {
  (void)state;
  CLEANUP_FREE char *plain = draw(&HAND, &(struct timeline_style){.width = 60});
  CLEANUP_FREE char *coloured = draw(&HAND, &(struct timeline_style){.width = 60, .colours = true});
  assert_null(strchr(plain, '\033'));
  assert_non_null(strstr(coloured, "\033[32m####"));
  /* Without its escapes it is the same. */
  char *to = coloured;
  for (const char *at = coloured; *at; at++) {
    if (*at == '\033') at = strchr(at, 'm');
    else *to++ = *at;
  }
  *to = '\0';
  assert_string_equal(coloured, plain);
}

static void test_timeline__a_century_ends_at_its_limit(void **state) {
  struct builder *builder = *state;
  struct timeline timeline;
  make(builder, &timeline, BUILDER_NOW + INT64_C(20) * 365 * DAY);
  assert_int_equal(timeline.row_count, TIMELINE_ROWS_MAX);
  assert_true(timeline.left_out > 30);
  CLEANUP_FREE char *drawn = draw(&timeline, &ASCII);
  assert_non_null(strstr(drawn, "more keys to come\n"));
}

/* Whatever the times and the width, no line is longer than the terminal. */
static void test_timeline__every_width_and_span_fits(void **state) {
  (void)state;
  static const int64_t spans[] = {1, 7, 59, 61, 3599, 86399, 8 * DAY, 50 * DAY, 400 * DAY, INT64_C(36525) * DAY};
  for (size_t i = 0; i < ARRAY_SIZE(spans); i++) {
    struct timeline timeline = HAND;
    timeline.until = timeline.now + spans[i];
    timeline.from = timeline.now - spans[i] / 3;
    for (size_t width = 1; width < 700; width += width < 120 ? 1 : 97) {
      CLEANUP_FREE char *drawn = draw(&timeline, &(struct timeline_style){.width = width});
      for (const char *line = drawn; *line; line += strcspn(line, "\n") + 1) assert_true(strcspn(line, "\n") <= width);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_timeline__the_past_is_as_it_was_and_the_future_as_planned, builder_setup, builder_teardown),
      cmocka_unit_test_setup_teardown(test_timeline__a_life_is_drawn_with_its_scale_and_a_legend, builder_setup, builder_teardown),
      cmocka_unit_test(test_timeline__no_plan_is_drawn_as_if_it_had_happened_and_what_goes_on_has_an_arrow),
      cmocka_unit_test(test_timeline__a_narrow_terminal_cuts_names_and_breaks_the_legend),
      cmocka_unit_test(test_timeline__seconds_have_a_scale_too),
      cmocka_unit_test(test_timeline__colours_are_given_only_where_they_are_wanted),
      cmocka_unit_test_setup_teardown(test_timeline__a_century_ends_at_its_limit, builder_setup, builder_teardown),
      cmocka_unit_test(test_timeline__every_width_and_span_fits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
