/* The loop side of the keeper, with jobs under way, while the fuzzer answers in place of the supervisor. Every job ends exactly once; what is no answer ends the keeper, and
 * from then on nothing is taken any more. Payloads of answers go to the readers of their kinds.
 *
 * Answers: KIND, ID, RESULT, RETRYABLE, a u16 size and so many octets of reply; KIND 0xff: octets as they are, and no more. KIND 0xfe: a while goes by. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/keeper_frame.h"
#include "dkimroll/keeper_walls.h"
#include "dkimroll/key_jobs.h"
#include "dkimroll/opendkim_jobs.h"
#include "dkimroll/runner.h"
#include "dkimroll/runner_fragment.h"
#include "dkimroll/survey.h"
#include "fuzz.h"

enum { JOBS = 11, BOOT = 1000000, DEADLINE_MS = 1000, PAUSE_MS = 400, AS_IT_IS = 0xff, PAUSE = 0xfe, OUTCOMES = 2 };

static const enum keeper_job kinds[JOBS] = {KEEPER_GENERATE, KEEPER_READ_PUBLIC, KEEPER_EDIT_TABLES, KEEPER_RELOAD,
                                            KEEPER_DESTROY, KEEPER_LOOK_TABLES, KEEPER_SURVEY, KEEPER_KEY_USERS, KEEPER_WALLS, KEEPER_RUN, KEEPER_WRITE_FRAGMENT};

struct side;

struct job {
  struct side *side;
  enum keeper_job kind;
  unsigned ended;
};

struct side {
  struct loop *loop;
  struct keeper *keeper;
  int supervisor; /* our end */
  struct fuzz_input script;
  struct job jobs[JOBS];
  unsigned ended;
};

static int read_public(const uint8_t *reply, size_t size, struct error *error) {
  CLEANUP(keypair_public_release) struct keypair_public key = {0};
  const int result = key_jobs_read_public(reply, size, &key, error);
  FUZZ_HOLDS(!result == !!key.public_key, "a key in spite of %s", error->message);
  return result;
}

static int read_tables(const uint8_t *reply, size_t size, struct error *error) {
  struct table_outcome outcomes[OUTCOMES];
  const int result = opendkim_jobs_read_tables(reply, size, outcomes, OUTCOMES, error);
  for (size_t i = 0; i < OUTCOMES && !result; i++) {
    FUZZ_HOLDS(outcomes[i].error.code <= 0, "code %d", outcomes[i].error.code);
    FUZZ_HOLDS(memchr(outcomes[i].error.message, '\0', ERROR_MESSAGE_MAX), "a message without an end");
  }
  return result;
}

static int read_stamp(const uint8_t *reply, size_t size, struct error *error) {
  struct signer_stamp stamp;
  const int result = opendkim_jobs_read_stamp(reply, size, &stamp, error);
  FUZZ_HOLDS(result || (memchr(stamp.state, '\0', sizeof stamp.state) && memchr(stamp.digest, '\0', sizeof stamp.digest)), "a stamp without an end");
  return result;
}

static int read_survey(const uint8_t *reply, size_t size, struct error *error) {
  static const struct policy_signer signer = {.signing_table = "SigningTable", .signing_table_format = SIGNING_TABLE_REFILE};
  CLEANUP(survey_release) struct survey survey = {0};
  const int result = survey_read(reply, size, &signer, &survey, error);
  for (size_t i = 0; i < survey.count; i++) {
    const struct survey_key *key = &survey.keys[i];
    FUZZ_HOLDS(key->name && key->domain && key->selector && key->path && key->problem, "a key without a part");
  }
  FUZZ_HOLDS(!result == !!survey.signing, "a survey in spite of %s", error->message);
  return result;
}

static int read_users(const uint8_t *reply, size_t size, struct error *error) {
  char *users[OUTCOMES] = {NULL};
  const int result = survey_read_users(reply, size, users, OUTCOMES, error);
  for (size_t i = 0; i < OUTCOMES; i++) {
    FUZZ_HOLDS(!result || !users[i], "users in spite of %s", error->message);
    free(users[i]);
  }
  return result;
}

static int read_walls(const uint8_t *reply, size_t size, struct error *error) {
  struct keeper_walls_report report;
  const int result = keeper_walls_read(reply, size, &report, error);
  FUZZ_HOLDS(result || memchr(report.problem, '\0', sizeof report.problem), "a problem without an end");
  return result;
}

static int read_run(const uint8_t *reply, size_t size, struct error *error) {
  CLEANUP(runner_reply_release) struct runner_reply run = {0};
  struct error judged = {0};
  const int result = runner_reply_read(reply, size, &run, error);
  const int judgement = result ? 0 : runner_reply_judge(&run, "publisher x", &judged);
  if (judgement) fuzz_expect_error(judgement, &judged);
  return result;
}

static int read_fragment(const uint8_t *reply, size_t size, struct error *error) {
  CLEANUP(runner_fragment_reply_release) struct runner_fragment_reply fragment = {0};
  const int result = runner_fragment_read(reply, size, &fragment, error);
  for (size_t i = 0; i < fragment.count && !result; i++) FUZZ_HOLDS(fragment.errors[i].code <= 0, "code %d", fragment.errors[i].code);
  return result;
}

static void read_reply(enum keeper_job kind, const uint8_t *reply, size_t size) {
  static const struct {
    enum keeper_job kind;
    int (*read)(const uint8_t *reply, size_t size, struct error *error);
  } readers[] = {{KEEPER_GENERATE, read_public},  {KEEPER_READ_PUBLIC, read_public}, {KEEPER_EDIT_TABLES, read_tables},
                 {KEEPER_LOOK_TABLES, read_stamp}, {KEEPER_SURVEY, read_survey},      {KEEPER_KEY_USERS, read_users},
                 {KEEPER_WALLS, read_walls},       {KEEPER_RUN, read_run},            {KEEPER_WRITE_FRAGMENT, read_fragment}};
  for (size_t i = 0; i < sizeof readers / sizeof readers[0]; i++) {
    struct error error = {0};
    if (readers[i].kind != kind) continue;
    const int result = readers[i].read(reply, size, &error);
    if (result < 0) fuzz_expect_error(result, &error);
  }
}

static void job_done(void *context, const struct error *result, const uint8_t *reply, size_t reply_size) {
  struct job *job = context;
  FUZZ_HOLDS(++job->ended == 1, "done came %u times", job->ended);
  FUZZ_HOLDS(memchr(result->message, '\0', sizeof result->message), "a message without an end");
  FUZZ_HOLDS(result->code <= 0, "code %d", result->code);
  if (result->code == 0) read_reply(job->kind, reply, reply_size);
  if (++job->side->ended == JOBS) loop_stop(job->side->loop);
}

static void add_answer(struct fuzz_input *script, uint8_t kind, struct buffer *frame) {
  const uint64_t id = fuzz_take_u8(script);
  struct error result = {.code = -(int)(fuzz_take_u8(script) % 32)};
  result.retryable = fuzz_take_u8(script) & 1;
  const uint16_t size = fuzz_take_u16(script);
  const struct fuzz_input octets = fuzz_take(script, size);
  struct buffer reply = BUFFER_WITH_MAXIMUM(UINT16_MAX);
  buffer_add(&reply, octets.data, octets.size);
  FUZZ_HOLDS(keeper_reply_write(id, kind, &result, &reply, frame, NULL) == 0, "no answer");
  buffer_release(&reply);
}

static void answer(void *context) {
  struct side *side = context;
  CLEANUP(buffer_release) struct buffer frame = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  const uint8_t kind = fuzz_take_u8(&side->script);
  int64_t pause = 1;
  if (kind == AS_IT_IS) {
    buffer_add(&frame, side->script.data, side->script.size);
    side->script.size = 0;
  } else if (kind == PAUSE) {
    pause = PAUSE_MS;
  } else {
    add_answer(&side->script, kind, &frame);
  }
  if (frame.size > 0) (void)!send(side->supervisor, frame.data, frame.size, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (side->script.size > 0)
    FUZZ_HOLDS(loop_at(side->loop, loop_boottime(side->loop) + pause, answer, side, NULL) == 0, "no timer");
}

static void submit(struct side *side) {
  struct buffer payload = BUFFER_WITH_MAXIMUM(64);
  struct error error = {0};
  buffer_add_text(&payload, "payload");
  for (size_t i = 0; i < JOBS; i++) {
    side->jobs[i] = (struct job){.side = side, .kind = kinds[i]};
    FUZZ_HOLDS(keeper_submit(side->keeper, kinds[i], &payload, BOOT + DEADLINE_MS, job_done, &side->jobs[i], &error) ==
                   0,
               "%s", error.message);
  }
  buffer_release(&payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const struct clock_reading start = {.wall = 1800000000, .boottime = BOOT};
  struct side side = {.script = {data, size}};
  struct error error = {0};
  int ends[2];
  FUZZ_HOLDS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0, "no socket");
  side.supervisor = ends[1];
  FUZZ_HOLDS(loop_virtual_new(&start, &side.loop, NULL) == 0, "no loop");
  loop_virtual_set_patience(side.loop, 0);
  FUZZ_HOLDS(keeper_connect(side.loop, ends[0], 0, &side.keeper, &error) == 0, "%s", error.message);
  submit(&side);
  FUZZ_HOLDS(loop_at(side.loop, BOOT + 1, answer, &side, NULL) == 0, "no timer");
  FUZZ_HOLDS(loop_run(side.loop, &error) == 0, "%s", error.message);
  FUZZ_HOLDS(side.ended == JOBS, "%u of %d jobs ended", side.ended, JOBS);
  keeper_destroy(side.keeper);
  loop_destroy(side.loop);
  close(side.supervisor);
  return 0;
}
