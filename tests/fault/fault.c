#include "fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <execinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"
#include "fault_calls.h"

enum {
  SAMPLE = 40,             /* attempts for each workload, unless FAULTS says otherwise */
  SEED = 20260124,         /* unless SEED does */
  CALLS_MAX = 20000000,    /* a workload that makes more calls has to become smaller */
  MESSAGES_MAX = 4096,     /* different ones, for FAULT_SHOW */
  PLACE_TEXT_SIZE = 256,
  FRAMES_MAX = 64,         /* as far down as a helper may be */
};

static struct {
  bool armed, paused;
  unsigned long fail_at, count;
  const char *name;   /* of the function that failed */
  const void *caller; /* where it was called */
  char workload[64]; /* its name: the workload itself is gone when a test has failed */
  unsigned long n; /* of the attempt under way; 0: none */
  char *shown[MESSAGES_MAX];
  size_t shown_count;
} fault;

/* The outermost of the functions that were inlined into one frame: each is a string of its own in the buffer. */
static const char *fault_symbolize(const void *frame, const char *what, char buffer[PLACE_TEXT_SIZE]) {
  memset(buffer, 0, PLACE_TEXT_SIZE);
  __sanitizer_symbolize_pc((char *)(uintptr_t)frame - 1, what, buffer, PLACE_TEXT_SIZE - 2);
  const char *text = buffer;
  while (text[strlen(text) + 1]) text += strlen(text) + 1;
  return text;
}

/* Helpers of the tests, such as a fake server, use parts of dkimroll too, and need them to work. Is the call made for one? The innermost frames are those of
 * dkimroll; below them is who called it: a helper may also have called back what dkimroll gave to it, which is told by the name. */
static bool fault_is_for_helper(void) {
  static const char *const parts[] = {"loop_", "message_", "buffer_", "text_", "record_", "address_", "reader_", "error_", "name_",
                                      "runner_call_", "runner_reply_", "command_result_", "fragment_", "file_"};
  void *frames[FRAMES_MAX];
  const int count = backtrace(frames, FRAMES_MAX);
  char buffer[PLACE_TEXT_SIZE], function[PLACE_TEXT_SIZE] = "";
  const char *file = "";
  for (int i = 0; i < count; i++) {
    file = fault_symbolize(frames[i], "%s", buffer);
    if (strstr(file, "fault/fault")) continue; /* these frames, and in the end fault_attempt */
    if (!strstr(file, "src/")) break;
    text_copy(function, sizeof function, fault_symbolize(frames[i], "%f", buffer));
    file = "";
  }
  if (!strstr(file, "unit/")) return false;
  for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
    if (text_starts(function, parts[i])) return true;
  return false;
}

bool fault_hits(const char *name, const void *caller) {
  if (!fault.armed || fault.paused || ++fault.count != fault.fail_at) return false;
  if (fault_is_for_helper()) {
    fault.fail_at++;
    return false;
  }
  fault.name = name;
  fault.caller = caller;
  if (getenv("FAULT_N")) __sanitizer_print_stack_trace();
  return true;
}

void fault_arm(unsigned long n) {
  fault.fail_at = n;
  fault.count = 0;
  fault.name = NULL;
  fault.armed = true;
}

unsigned long fault_disarm(void) {
  fault.armed = false;
  return fault.count;
}

void fault_pause(void) { fault.paused = true; }
void fault_go_on(void) { fault.paused = false; }

const char *fault_fired(void) { return fault.name; }

static const char *fault_place(char buffer[PLACE_TEXT_SIZE]) {
  text_copy(buffer, PLACE_TEXT_SIZE, "?");
  if (fault.caller) __sanitizer_symbolize_pc((void *)(uintptr_t)fault.caller, "%f %s:%l", buffer, PLACE_TEXT_SIZE);
  return buffer;
}

/* Said when something goes wrong: by whatever means, also a report of the sanitizers. */
static void fault_tell(void) {
  char place[PLACE_TEXT_SIZE];
  if (fault.n == 0) return;
  fprintf(stderr, "--- %s, n = %lu: %s failed, called by %s\n", fault.workload, fault.n, fault.name ? fault.name : "nothing", fault_place(place));
}

static void fault_show(const struct error *error) {
  char place[PLACE_TEXT_SIZE];
  if (!getenv("FAULT_SHOW") || fault.shown_count == MESSAGES_MAX) return;
  char *line = text_format("%s: %s: %s: \"%s\" (%s)", fault.workload, fault.name, error_code_name(error->code), error->message, error->remedy);
  for (size_t i = 0; i < fault.shown_count && line; i++) {
    if (!text_equal(fault.shown[i], line)) continue;
    free(line);
    return;
  }
  if (!line) return;
  printf("%s  [%s]\n", line, fault_place(place));
  fault.shown[fault.shown_count++] = line;
}

/* What a moment later may well succeed. */
static bool fault_is_memory(const char *name) {
  static const char *const names[] = {"malloc", "calloc", "realloc", "reallocarray", "strdup", "strndup", "vasprintf", "tsearch", "sqlite3_column_text", "sqlite3_prepare_v3", "BIO_new", "BIO_new_mem_buf"};
  for (size_t i = 0; i < ARRAY_SIZE(names); i++)
    if (text_equal(name, names[i])) return true;
  return false;
}

static void fault_check_error(const struct fault_workload *workload, int code, const struct error *error) {
  if (code == 0) return;
  if (code > 0 || error->code != code || error->message[0] == '\0')
    fail_msg("it returned %d, and its error is %d \"%s\"", code, error->code, error->message);
  if (!error->retryable && fault_is_memory(fault.name) && !getenv("FAULT_SHOW")) fail_msg("it says that memory is for ever: %d \"%s\"", code, error->message);
  if (workload->place && !strstr(error->message, workload->place)) fail_msg("its message does not say where: \"%s\"", error->message);
  fault_show(error);
}

/* false: n was beyond the last call. */
static bool fault_attempt(const struct fault_workload *workload, unsigned long n) {
  struct error error = {0}, again = {0};
  fault.n = n;
  if (workload->begin) workload->begin(workload->context);
  fault_arm(n);
  const int code = workload->act(workload->context, &error);
  fault_disarm();
  const bool fired = fault.name != NULL;
  if (!fired && code && !workload->forks) fail_msg("it fails without a fault: %s", error.message);
  fault_check_error(workload, code, &error);
  if (workload->check) workload->check(workload->context, code == 0);
  if (code && !workload->once) {
    if (workload->act(workload->context, &again)) fail_msg("after \"%s\", done again, it fails: %s (%s)", error.message, again.message, again.remedy);
    if (workload->check) workload->check(workload->context, true);
  }
  if (workload->end) workload->end(workload->context);
  if (getenv("FAULT_LEAKS") && __lsan_do_recoverable_leak_check()) fail_msg("it leaks");
  fault.n = 0;
  return fired;
}

static unsigned long fault_number(const char *name, unsigned long standard) {
  const char *text = getenv(name);
  return text && *text ? strtoul(text, NULL, 10) : standard;
}

void fault_each(const struct fault_workload *workload) {
  const char *wish = getenv("FAULTS");
  const bool all = wish && text_equal(wish, "all");
  const unsigned long sample = all ? 0 : fault_number("FAULTS", workload->costly ? SAMPLE / 4 : SAMPLE), only = fault_number("FAULT_N", 0);
  unsigned long attempts = 0;
  text_copy(fault.workload, sizeof fault.workload, workload->name);
  __sanitizer_set_death_callback(fault_tell);
  if (only) {
    fault_attempt(workload, only);
    return;
  }
  /* Once without a fault, to know how many calls there are. */
  fault_attempt(workload, CALLS_MAX);
  const unsigned long calls = fault.count;
  assert_true(calls > 0 && calls < CALLS_MAX);
  const unsigned long seed = fault_number("SEED", SEED);
  srand48((long)seed);
  /* Where a process that was forked fails at its own nth call, this one may come to its end before. */
  for (unsigned long i = 1; all ? fault_attempt(workload, i) || (workload->forks && i < calls) : i <= sample; i++) {
    attempts++;
    /* One in each of as many equal parts: spread over all that the workload does. */
    if (!all) fault_attempt(workload, calls <= sample ? i : 1 + ((i - 1) * calls + (unsigned long)lrand48() % calls) / sample);
    if (!all && i == calls) break;
  }
  print_message("%s: %lu of %lu calls failed, seed %lu\n", workload->name, attempts, calls, seed);
  if (__lsan_do_recoverable_leak_check()) fail_msg("%s leaks; FAULT_LEAKS=1 says at which n", workload->name);
}

int fault_teardown(void **state) {
  (void)state;
  fault_tell();
  fault.n = 0;
  fault_disarm();
  return 0;
}
