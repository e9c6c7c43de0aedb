/* Tables: straight on paper and in parts, wrapped at words and coloured on a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <pty.h>
#include <termios.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/columns.h"
#include "dkimroll/text.h"

static const char *const NAMES[] = {"NAME", "KIND", "TEXT"};
#define LONG_TEXT "the quick brown fox jumps over the lazy dog and is not tired of it at all"

static void print(FILE *out, const struct columns_row *rows, size_t count) {
  struct columns *columns = NULL;
  struct error error = {0};
  assert_int_equal(columns_new(out, NAMES, 3, &columns, &error), 0);
  for (size_t i = 0; i < count; i++) columns_measure(columns, &rows[i]);
  for (size_t i = 0; i < count; i++) assert_int_equal(columns_add(columns, &rows[i], &error), 0);
  assert_int_equal(columns_end(columns, &error), 0);
  columns_free(columns);
}

static void test_columns__on_paper_every_row_is_one_plain_line(void **state) {
  (void)state;
  CLEANUP_FREE char *text = NULL;
  size_t size;
  const struct columns_row rows[] = {{.cells = {"a", "long kind", LONG_TEXT}, .coloured = 1, .colour = "red"},
                                     {.cells = {"longer name", "", "-"}}};
  FILE *out = open_memstream(&text, &size);
  print(out, rows, 2);
  fclose(out);
  assert_string_equal(text, "NAME        KIND      TEXT\n"
                            "a           long kind " LONG_TEXT "\n"
                            "longer name           -\n");
}

static void test_columns__without_rows_nothing_is_printed(void **state) {
  (void)state;
  CLEANUP_FREE char *text = NULL;
  size_t size;
  FILE *out = open_memstream(&text, &size);
  print(out, NULL, 0);
  fclose(out);
  assert_string_equal(text, "");
}

/* What a terminal of 60 columns gets; the caller frees it. */
static char *print_on_terminal(const struct columns_row *row) {
  int main_end, terminal;
  char buffer[4096];
  /* The library asks standard output for its width, which in a test is no terminal; then the environment counts. */
  setenv("COLUMNS", "60", 1);
  setenv("TERM", "xterm", 1);
  assert_int_equal(openpty(&main_end, &terminal, NULL, NULL, NULL), 0);
  FILE *out = fdopen(terminal, "w");
  assert_non_null(out);
  print(out, row, 1);
  fclose(out);
  size_t size = 0;
  ssize_t got;
  while (size < sizeof buffer - 1 && (got = read(main_end, buffer + size, sizeof buffer - 1 - size)) > 0)
    size += (size_t)got;
  buffer[size] = '\0';
  close(main_end);
  return text_duplicate(buffer);
}

static void test_columns__on_a_terminal_the_last_column_is_wrapped_at_words(void **state) {
  (void)state;
  if (isatty(STDOUT_FILENO)) skip(); /* then its width counts, whatever it is */
  setenv("NO_COLOR", "1", 1);
  CLEANUP_FREE char *text =
      print_on_terminal(&(struct columns_row){.cells = {"a name", "kind", LONG_TEXT}, .coloured = 1, .colour = "red"});
  assert_string_equal(text, "NAME   KIND TEXT\r\n"
                            "a name kind the quick brown fox jumps over the lazy dog and\r\n"
                            "            is not tired of it at all\r\n");
}

static void test_columns__on_a_terminal_there_are_colours(void **state) {
  (void)state;
  unsetenv("NO_COLOR");
  CLEANUP_FREE char *text =
      print_on_terminal(&(struct columns_row){.cells = {"a", "kind", "text"}, .coloured = 1, .colour = "red"});
  assert_non_null(strstr(text, "\033[31mkind"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_columns__on_paper_every_row_is_one_plain_line),
      cmocka_unit_test(test_columns__without_rows_nothing_is_printed),
      cmocka_unit_test(test_columns__on_a_terminal_the_last_column_is_wrapped_at_words),
      cmocka_unit_test(test_columns__on_a_terminal_there_are_colours),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
