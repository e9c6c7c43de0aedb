#include "fault.h"

#include <setjmp.h>
#include <search.h>
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
  const struct fault_workload *noting; /* each call is noted where it is made; NULL: no */
  void *places;                        /* tree of struct fault_place */
  size_t place_count;
  char *shown[MESSAGES_MAX];
  size_t shown_count;
} fault;

/* A chain of callers in a situation. */
struct fault_place {
  uint64_t chain, situation;
  unsigned long calls; /* of it */
  unsigned long n;     /* of one of these, each as likely as the others */
};

static int fault_place_compare(const void *a, const void *b) {
  const struct fault_place *left = a, *right = b;
  if (left->chain != right->chain) return left->chain < right->chain ? -1 : 1;
  return (left->situation > right->situation) - (left->situation < right->situation);
}

static void fault_place_note(void) {
  void *frames[FRAMES_MAX];
  const int count = backtrace(frames, FRAMES_MAX);
  struct fault_place key = {.chain = 14695981039346656037u, .situation = fault.noting->situation(fault.noting->context)};
  for (int i = 0; i < count; i++) key.chain = (key.chain ^ (uintptr_t)frames[i]) * 1099511628211u; /* FNV-1a, of whole addresses */
  struct fault_place **found = tfind(&key, &fault.places, fault_place_compare);
  struct fault_place *place = found ? *found : malloc(sizeof *place);
  assert_non_null(place);
  if (!found) {
    *place = key;
    fault.place_count++;
    assert_non_null(tsearch(place, &fault.places, fault_place_compare));
  }
  if (lrand48() % (long)++place->calls == 0) place->n = fault.count;
}

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
  if (!fault.armed || fault.paused) return false;
  fault.count++;
  if (fault.noting) fault_place_note();
  if (fault.count != fault.fail_at) return false;
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

static void fault_all(const struct fault_workload *workload, unsigned long calls, unsigned long *attempts) {
  /* Where a process that was forked fails at its own nth call, this one may come to its end before. */
  for (unsigned long i = 1; fault_attempt(workload, i) || (workload->forks && i < calls); i++) ++*attempts;
}

static void fault_sample(const struct fault_workload *workload, unsigned long calls, unsigned long sample, unsigned long *attempts) {
  /* One in each of as many equal parts: spread over all that the workload does. */
  for (; *attempts < sample && *attempts < calls; ++*attempts)
    fault_attempt(workload, calls <= sample ? *attempts + 1 : 1 + (*attempts * calls + (unsigned long)lrand48() % calls) / sample);
}

/* Tries so many of the places that were noted, chosen by the seed. */
static void fault_places(const struct fault_workload *workload, unsigned long limit, unsigned long *attempts) {
  const size_t count = fault.place_count;
  unsigned long *chosen = calloc(count, sizeof *chosen);
  assert_non_null(chosen);
  for (; fault.place_count > 0; fault.place_count--) {
    struct fault_place *place = *(struct fault_place **)fault.places; /* any: the root */
    const size_t i = count - fault.place_count, j = (size_t)lrand48() % (i + 1);
    chosen[i] = chosen[j];
    chosen[j] = place->n;
    tdelete(place, &fault.places, fault_place_compare);
    free(place);
  }
  for (; *attempts < count && *attempts < limit; ++*attempts) fault_attempt(workload, chosen[*attempts]);
  free(chosen);
  print_message("%s: %zu different calls\n", workload->name, count);
}

void fault_each(const struct fault_workload *workload) {
  const char *wish = getenv("FAULTS");
  const bool every = wish && text_equal(wish, "every"), all = wish && text_equal(wish, "all");
  const unsigned long only = fault_number("FAULT_N", 0), seed = fault_number("SEED", SEED);
  unsigned long attempts = 0;
  text_copy(fault.workload, sizeof fault.workload, workload->name);
  __sanitizer_set_death_callback(fault_tell);
  srand48((long)seed);
  if (only) {
    fault_attempt(workload, only);
    return;
  }
  /* Once without a fault, to know how many calls there are, and where. */
  fault.noting = every || !workload->situation ? NULL : workload;
  fault_attempt(workload, CALLS_MAX);
  fault.noting = NULL;
  const unsigned long calls = fault.count;
  assert_true(calls > 0 && calls < CALLS_MAX);
  const unsigned long sample = fault_number("FAULTS", workload->costly ? SAMPLE / 4 : SAMPLE);
  if (fault.places)
    fault_places(workload, all ? calls : sample, &attempts);
  else if (all || every)
    fault_all(workload, calls, &attempts);
  else
    fault_sample(workload, calls, sample, &attempts);
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
