/* For the tests of the keeper's jobs on OpenDKIM: a signer of the policy in a folder, and the handlers that serve it, called as a worker calls them. */
#ifndef DKIMROLL_TESTS_OPENDKIM_JOBS_RIG_H
#define DKIMROLL_TESTS_OPENDKIM_JOBS_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/file.h"
#include "dkimroll/opendkim_jobs.h"
#include "dkimroll/opendkim_reload.h"
#include "dkimroll/text.h"
#include "workplace.h"

enum { PAYLOAD_MAX = 1024 * 1024, PLENTY_MS = 20000, SHORT_MS = 300 };

/* What the tables of most tests hold, where the key "old" signs. */
#define OLD_KEYS "old example.com:old:/old.private\n"
#define OLD_SENDERS "*@example.com old\n"

struct stage {
  struct workplace folder;
  struct policy_signer policy;
  struct opendkim_roots roots;
  struct keeper_handler handlers[OPENDKIM_JOBS_COUNT];
  struct error error;                              /* of the last job */
  struct table_outcome outcome;                    /* of the last job on tables that did not fail as a whole */
  char *key;                                       /* the path of the private key "new", which is there */
  char *key_table, *signing_table, *key_directory; /* what policy borrows at first */
};

/* The folder keys with the key "new", and no tables yet. */
int opendkim_jobs_rig_setup(void **state);
int opendkim_jobs_rig_teardown(void **state);

/* What the policy of the stage says now is what the handlers allow. */
void stage_allow(struct stage *stage);

/* Runs a job; the reply goes into reply (which may be NULL). */
int stage_run(struct stage *stage, enum keeper_job job, const struct buffer *payload, struct buffer *reply);
/* The edits of one item. */
int stage_tables(struct stage *stage, enum keeper_job job, const struct table_edit *edits, size_t count);
/* The switch of example.com to the key "new". */
int stage_switch(struct stage *stage, enum keeper_job job);
/* The stamp of the tables of policy; known is the state that the caller has seen before. */
int stage_look(struct stage *stage, const struct policy_signer *policy, const char *known, struct signer_stamp *ret_stamp);
/* A reload as the policy has it; a failure has a message. */
int stage_reload(struct stage *stage, bool probe, int64_t timeout_ms);
int stage_restart(struct stage *stage, int64_t timeout_ms);

void write_tables(const struct stage *stage, const char *keys, const char *senders);
void assert_file(const char *path, const char *expected);
/* Nothing but what belongs there: no temporary file was left. */
void assert_no_leftovers(const struct stage *stage);
/* The tables hold OLD_KEYS and OLD_SENDERS, and nothing was left. */
void assert_unchanged(const struct stage *stage);

#define TEST(function) cmocka_unit_test_setup_teardown(function, opendkim_jobs_rig_setup, opendkim_jobs_rig_teardown)

#endif
