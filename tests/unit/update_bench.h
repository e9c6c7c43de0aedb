/* Update runs over a fake primary, for the tests of their parts. Static, because other files of this folder are linked into every test. */
#ifndef DKIMROLL_TESTS_UPDATE_BENCH_H
#define DKIMROLL_TESTS_UPDATE_BENCH_H

#include "fake_primary.h"

#include "dkimroll/update.h"

enum { ITEMS_MAX = 2000, DEADLINE_MS = 60000 };

struct bench {
  struct fake_primary fake;
  struct publish_item items[ITEMS_MAX];
  struct publish_result results[ITEMS_MAX];
  char names[ITEMS_MAX][96];
  char texts[ITEMS_MAX][FAKE_TEXT_SIZE];
  size_t count;
  size_t zones; /* items are spread over that many */
  size_t block; /* or: so many after each other to one zone */
  uint16_t ports[ITEMS_MAX];
  struct tsig_key *key;
  bool done;
  int64_t took; /* milliseconds of the last run */
};

static inline void run_cleanup(struct update_run **run) {
  update_run_free(*run);
}

static inline struct bench *bench_new(size_t count) {
  struct bench *bench = calloc(1, sizeof *bench);
  assert_non_null(bench);
  fake_open(&bench->fake, 1);
  bench->count = count;
  bench->zones = 1;
  for (size_t i = 0; i < count; i++) {
    snprintf(bench->names[i], sizeof bench->names[i], "s%zu._domainkey.example.com", i);
    snprintf(bench->texts[i], sizeof bench->texts[i], "v=DKIM1; k=rsa; p=%0392zu", i);
    bench->items[i] =
        (struct publish_item){.change = PUBLISH_ADD, .name = bench->names[i], .record = bench->texts[i], .ttl = 3600};
  }
  return bench;
}

static inline void bench_free(struct bench *bench) {
  fake_close(&bench->fake);
  free(bench);
}

static inline void run_done(void *context) {
  struct bench *bench = context;
  assert_false(bench->done);
  bench->done = true;
  loop_stop(bench->fake.loop);
}

static inline struct update_run *bench_start(struct bench *bench) {
  const struct update_link link = {.loop = bench->fake.loop,
                                   .transport = &bench->fake.transport,
                                   .entropy = &bench->fake.random.entropy,
                                   .key = bench->key};
  struct update_run *run = NULL;
  struct error error = {0};
  int64_t deadline = loop_boottime(link.loop) + DEADLINE_MS;
  bench->done = false;
  memset(bench->results, 0, sizeof bench->results);
  assert_int_equal(
      update_run_new(&link, bench->items, bench->results, bench->count, deadline, run_done, bench, &run, &error), 0);
  for (size_t i = 0; i < bench->count; i++) {
    char zone[64];
    struct update_target target = {.zone = zone, .owner = bench->items[i].name};
    snprintf(zone, sizeof zone, "example.com");
    if (bench->block) snprintf(zone, sizeof zone, "z%zu.example.com", i / bench->block);
    if (bench->zones > 1) snprintf(zone, sizeof zone, "z%zu.example.com", i % bench->zones);
    address_from_octets((const uint8_t[]){192, 0, 2, 53}, 4, bench->ports[i] ? bench->ports[i] : 53, &target.server);
    update_run_add(run, i, &target);
  }
  return run;
}

static inline void bench_run(struct bench *bench) {
  CLEANUP(run_cleanup) struct update_run *run = bench_start(bench);
  struct error error = {0};
  int64_t start = loop_boottime(bench->fake.loop);
  if (!bench->done) assert_int_equal(loop_run(bench->fake.loop, &error), 0);
  assert_true(bench->done);
  bench->took = loop_boottime(bench->fake.loop) - start;
}

static inline void assert_success(const struct bench *bench, size_t index) {
  const struct publish_result *result = &bench->results[index];
  if (result->error.code != 0) fail_msg("item %zu: %s", index, result->error.message);
  assert_true(result->completed_at >= FAKE_START_WALL);
}

static inline void assert_all(const struct bench *bench, bool already) {
  for (size_t i = 0; i < bench->count; i++) {
    assert_success(bench, i);
    assert_int_equal(bench->results[i].already, already);
  }
}

static inline void assert_failure(const struct bench *bench, size_t index, int code, const char *text) {
  const struct error *error = &bench->results[index].error;
  if (error->code != code || (!strstr(error->message, text) && !strstr(error->remedy, text)))
    fail_msg("item %zu: wanted %s with \"%s\", got %s: %s (%s)", index, error_code_name(code), text,
             error_code_name(error->code), error->message, error->remedy);
  assert_true(error->remedy[0]);
  assert_int_equal(bench->results[index].completed_at, 0);
}

static inline bool is_update(const struct message *message) {
  return message->opcode == 5;
}

static inline bool mentions(const struct message *message, const char *name) {
  for (size_t i = 0; i < message->record_count; i++)
    if (text_equal(message->records[i].name, name)) return true;
  return text_equal(message->question_name, name);
}

/* Every query gets the rcode, or the fault, in decide_context. */
static inline int always_query(struct fake_primary *fake, const struct transport_request *request,
                               const struct message *message) {
  (void)request;
  return is_update(message) ? FAKE_OBEY : *(int *)fake->decide_context;
}

#endif
