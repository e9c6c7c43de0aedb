/* An observer in the small internet of fake_internet.h, round after round, and what the last one saw. */
#ifndef DKIMROLL_TESTS_OBSERVE_RIG_H
#define DKIMROLL_TESTS_OBSERVE_RIG_H

#include "fake_internet.h"

#include "dkimroll/observe.h"
#include "dkimroll/observe_work.h"

#define NAME "sel._domainkey.example.com"
#define RECORD "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
#define OTHER "v=DKIM1; k=ed25519; p=SomebodyElse"

enum {
  DEADLINE_MS = 60000,
  MANY = 2000,
  SILENCE_MS = (OBSERVE_ATTEMPTS + 1) * OBSERVE_ATTEMPT_MS,
};

struct stage {
  struct world *world;
  struct observer *observer;
  struct policy_publisher publisher;
  struct observe_item items[MANY];
  char names[MANY][64];
  struct observe_operation *operation;
  struct observe_result results[MANY]; /* servers copied */
  size_t count, done;
  bool destroy;
};

int observe_rig_setup(void **state);
int observe_rig_teardown(void **state);

/* What a round calls when it is done; context is the stage. */
void note_observed(void *context, const struct observe_result *results, size_t count);
/* A round about the first count items. */
void start_round(struct stage *stage, enum observe_kind kind, size_t count, int64_t milliseconds);
/* Until one round is done. */
void await_round(struct stage *stage);
void run_round(struct stage *stage, enum observe_kind kind, size_t count, int64_t milliseconds);

/* One round about one item, with the stage's publisher, or about NAME with a record; it must find the servers. */
const struct observe_result *look_at(struct stage *stage, enum observe_kind kind, const struct observe_item *item);
const struct observe_result *look(struct stage *stage, enum observe_kind kind, const char *record);

const struct observe_server *server_of(const struct observe_result *result, const char *address);
void assert_says(const struct observe_result *result, const char *address, enum observe_verdict verdict, const char *answer);

/* A TXT of NAME, at all servers or at one alone. */
struct world_record *publish(struct stage *stage, const char *text);
void publish_at(struct stage *stage, const char *server, const char *text);
struct world_server *set_fault(struct stage *stage, const char *server, enum server_fault fault);

#define TEST(name) cmocka_unit_test_setup_teardown(name, observe_rig_setup, observe_rig_teardown)

#endif
