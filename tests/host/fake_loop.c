/* A loop side that was taken over: it speaks the keeper's protocol, and asks for what no policy says. Arguments: the socket, then deeds as "NAME PATH [PATH]" in one
 * argument each. Prints for each what the keeper said, and what its answer holds as text. Exit status 0: it answered all of them, whatever it said; 1: it could not be reached. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/keeper_socket.h"
#include "dkimroll/key_jobs.h"
#include "dkimroll/opendkim_jobs.h"
#include "dkimroll/survey.h"
#include "dkimroll/text.h"

struct deed {
  char *words[6];
  struct loop *loop;
};

/* Letters and signs as they are, so that a search for a secret finds it. */
static void show(const uint8_t *reply, size_t size) {
  for (size_t i = 0; i < size; i++) putchar(reply[i] > ' ' && reply[i] < 0x7f ? reply[i] : '.');
  if (size > 0) putchar('\n');
}

static void told(void *context, const struct error *result, const uint8_t *reply, size_t reply_size) {
  struct deed *deed = context;
  if (result->code == 0)
    printf("DONE %s %s (%zu octets)\n", deed->words[0], deed->words[1], reply_size);
  if (result->code == 0)
    show(reply, reply_size);
  else
    printf("refused %s %s: %s: %s\n", deed->words[0], deed->words[1], error_code_name(result->code), result->message);
  loop_stop(deed->loop);
}

/* Edits that read: what stands in a table is told by whether an entry for it is "there". */
static void ask_tables(struct buffer *payload, const struct deed *deed, const char *value) {
  const struct policy_signer signer = {.key_table = deed->words[1],
                                       .signing_table = deed->words[2] ? deed->words[2] : deed->words[1],
                                       .signing_table_format = SIGNING_TABLE_REFILE};
  const struct table_edit edit = {.kind = TABLE_KEY_SET, .name = "evil._domainkey.example.test", .value = value};
  const struct table_item item = {.edits = &edit, .edit_count = 1};
  opendkim_jobs_tables(payload, &signer, &item, 1);
}

/* What stands under a name that is not ours is told by the message of the conflict. */
static void ask_conflict(struct buffer *payload, const struct deed *deed) {
  const struct policy_signer signer = {.key_table = deed->words[1], .signing_table = deed->words[2], .signing_table_format = SIGNING_TABLE_REFILE};
  const struct table_edit edit = {.kind = TABLE_KEY_SET, .name = deed->words[3], .value = deed->words[4], .before = deed->words[4]};
  const struct table_item item = {.edits = &edit, .edit_count = 1};
  opendkim_jobs_tables(payload, &signer, &item, 1);
}

static void ask_survey(struct buffer *payload, const struct deed *deed) {
  const struct policy_signer signer = {.key_table = deed->words[1], .signing_table = deed->words[2], .key_directory = deed->words[3]};
  const char *const domains[] = {deed->words[4]};
  survey_request(payload, &signer, domains, deed->words[4] ? 1 : 0);
}

static void ask_reload(struct buffer *payload, const struct deed *deed, enum reload_kind kind) {
  char *command[] = {deed->words[1], deed->words[2]};
  struct policy_signer signer = {.reload = kind, .reload_target = deed->words[1]};
  if (kind == RELOAD_COMMAND) {
    signer.reload_target = NULL;
    signer.reload_command = command;
    signer.reload_command_count = deed->words[2] ? 2 : 1;
  }
  opendkim_jobs_reload(payload, &signer, false, 1000);
}

static enum keeper_job ask(struct buffer *payload, const struct deed *deed) {
  const char *name = deed->words[0];
  const struct key_generate_request target = {
      .algorithm = KEY_ALGORITHM_ED25519,
      .bits = 256,
      .path = deed->words[1],
      .owner = deed->words[2],
      .mode = deed->words[3] ? (mode_t)strtoul(deed->words[3], NULL, 8) : 0600};
  if (text_equal(name, "generate")) return key_jobs_generate(payload, &target), KEEPER_GENERATE;
  if (text_equal(name, "read")) return key_jobs_path(payload, deed->words[1]), KEEPER_READ_PUBLIC;
  if (text_equal(name, "destroy")) return key_jobs_path(payload, deed->words[1]), KEEPER_DESTROY;
  if (text_equal(name, "archive")) return key_jobs_archive(payload, deed->words[1], deed->words[2]), KEEPER_ARCHIVE;
  if (text_equal(name, "copy")) {
    const struct key_generate_request copy = {.path = deed->words[2], .owner = "dkimroll:dkimroll", .mode = 0600};
    return key_jobs_copy(payload, deed->words[1], &copy), KEEPER_COPY;
  }
  if (text_equal(name, "give")) {
    const struct key_generate_request copy = {.path = deed->words[2], .owner = deed->words[3], .mode = 0600};
    return key_jobs_copy(payload, deed->words[1], &copy), KEEPER_COPY;
  }
  if (text_equal(name, "conflict")) return ask_conflict(payload, deed), KEEPER_READ_TABLES;
  if (text_equal(name, "survey")) return ask_survey(payload, deed), KEEPER_SURVEY;
  if (text_equal(name, "users")) return survey_request_users(payload, (const char *const *)&deed->words[1], 1), KEEPER_KEY_USERS;
  if (text_equal(name, "look")) return opendkim_jobs_look(payload, &(const struct policy_signer){.key_table = deed->words[1], .signing_table = deed->words[2]}, ""), KEEPER_LOOK_TABLES;
  if (text_equal(name, "check")) return key_jobs_check(payload, deed->words[1], deed->words[2]), KEEPER_CHECK_KEY;
  if (text_equal(name, "tables")) return ask_tables(payload, deed, "example.test:evil:/etc/dkimkeys/keys/x.private"), KEEPER_READ_TABLES;
  if (text_equal(name, "point")) return ask_tables(payload, deed, deed->words[3]), KEEPER_EDIT_TABLES;
  if (text_equal(name, "unit")) return ask_reload(payload, deed, RELOAD_UNIT), KEEPER_RELOAD;
  if (text_equal(name, "pid-file")) return ask_reload(payload, deed, RELOAD_PID_FILE), KEEPER_RELOAD;
  if (text_equal(name, "command")) return ask_reload(payload, deed, RELOAD_COMMAND), KEEPER_RELOAD;
  return (enum keeper_job)99;
}

int main(int argc, char **argv) {
  struct error error = {0};
  struct loop *loop = NULL;
  struct keeper *keeper = NULL;
  int descriptor = -1;
  signal(SIGPIPE, SIG_IGN);
  if (argc < 2 || keeper_socket_connect(argv[1], &descriptor, &error) || loop_sd_event_new(&loop, &error) ||
      keeper_connect(loop, descriptor, 0, &keeper, &error)) {
    printf("not reached: %s\n", error.message);
    return 1;
  }
  int status = 0;
  for (int i = 2; i < argc && status == 0; i++) {
    struct deed deed = {.loop = loop};
    struct buffer payload = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
    char *rest = argv[i];
    for (size_t j = 0; j < ARRAY_SIZE(deed.words) && rest; j++) deed.words[j] = strsep(&rest, " ");
    const enum keeper_job job = ask(&payload, &deed);
    if (keeper_submit(keeper, job, &payload, loop_boottime(loop) + 10000, told, &deed, &error) || loop_run(loop, &error)) {
      printf("not asked: %s\n", error.message);
      status = 1;
    }
    buffer_release(&payload);
    /* The end of the connection is for one who is not let in: nothing more can be asked. */
  }
  keeper_destroy(keeper);
  loop_destroy(loop);
  return status;
}
