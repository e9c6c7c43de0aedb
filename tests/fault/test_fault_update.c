/* Each call fails once while records are added, replaced and deleted by signed updates: each record is as it was or as it was wanted, and known to be. */
#include "../unit/fake_primary.h"

#include "dkimroll/publisher.h"
#include "dkimroll/update.h"
#include "fault.h"

enum { ITEMS = 3, DEADLINE_MS = 60000 };
#define OLD "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
#define REVOKED "v=DKIM1; k=ed25519; p="

static const char *const names[ITEMS] = {"new._domainkey.example.com", "old._domainkey.example.com", "gone._domainkey.example.com"};

struct stage {
  struct fake_primary fake;
  struct publish_item items[ITEMS];
  struct publish_result results[ITEMS];
  bool done;
};

static void stage_begin(void *context) {
  struct stage *stage = context;
  memset(stage, 0, sizeof *stage);
  fake_open(&stage->fake, 1);
  fake_add(&stage->fake, names[1], DNS_TYPE_TXT, OLD);
  fake_add(&stage->fake, names[2], DNS_TYPE_TXT, REVOKED);
  stage->items[0] = (struct publish_item){.change = PUBLISH_ADD, .name = names[0], .record = OLD, .ttl = 3600};
  stage->items[1] = (struct publish_item){.change = PUBLISH_REPLACE, .name = names[1], .record = REVOKED, .record_before = OLD, .ttl = 3600};
  stage->items[2] = (struct publish_item){.change = PUBLISH_DELETE, .name = names[2], .record_before = REVOKED};
}

static void stage_end(void *context) {
  struct stage *stage = context;
  fake_close(&stage->fake);
}

static void stage_done(void *context) {
  struct stage *stage = context;
  assert_false(stage->done);
  stage->done = true;
  loop_stop(stage->fake.loop);
}

static int stage_act(void *context, struct error *error) {
  struct stage *stage = context;
  const struct update_link link = {.loop = stage->fake.loop, .transport = &stage->fake.transport, .entropy = &stage->fake.random.entropy};
  struct update_run *run = NULL;
  stage->done = false;
  memset(stage->results, 0, sizeof stage->results);
  int code = update_run_new(&link, stage->items, stage->results, ITEMS, loop_boottime(link.loop) + DEADLINE_MS, stage_done, stage, &run, error);
  if (code) return code;
  for (size_t i = 0; i < ITEMS; i++) {
    struct update_target target = {.zone = "example.com", .owner = names[i]};
    address_from_octets((const uint8_t[]){192, 0, 2, 53}, 4, 53, &target.server);
    update_run_add(run, i, &target);
  }
  if (!stage->done) code = loop_run(stage->fake.loop, error);
  update_run_free(run);
  for (size_t i = 0; i < ITEMS && code == 0; i++) {
    *error = stage->results[i].error;
    code = error->code;
  }
  /* The server answers as it should: what fails here is not its fault. */
  if (code == ERROR_PROTOCOL || code == ERROR_REFUSED || code == ERROR_CONFLICT) fail_msg("the server is blamed: %s", error->message);
  return code;
}

static bool stands(struct stage *stage, const char *name, const char *text) {
  const size_t count = fake_count(&stage->fake, name, DNS_TYPE_TXT);
  return text ? count == 1 && fake_find(&stage->fake, name, DNS_TYPE_TXT, text) : count == 0;
}

/* Item by item: what succeeded is so, what failed is old or new. */
static void stage_check(void *context, bool whole) {
  struct stage *stage = context;
  const char *const before[ITEMS] = {NULL, OLD, REVOKED};
  const char *const after[ITEMS] = {OLD, REVOKED, NULL};
  for (size_t i = 0; i < ITEMS; i++) {
    const bool done = stands(stage, names[i], after[i]);
    if (whole || (stage->done && stage->results[i].completed_at)) assert_true(done);
    if (!done) assert_true(stands(stage, names[i], before[i]));
  }
}

static void test_fault_update__records_are_old_or_new(void **state) {
  (void)state;
  struct stage stage;
  const struct fault_workload workload = {
      .name = "update", .context = &stage, .begin = stage_begin, .act = stage_act, .check = stage_check, .end = stage_end};
  fault_each(&workload);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(test_fault_update__records_are_old_or_new, fault_teardown)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
