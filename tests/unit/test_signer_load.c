/* Mail that flows while keys are rotated: not one message is deferred or unsigned. Half of the connections are new for
 * each message, half stay open across reloads, as an MTA's do. */
#include <sys/prctl.h>
#include <sys/wait.h>

#include "dkimroll/milter.h"
#include "dkimroll/prove.h"
#include "signer_stage.h"

enum { SENDERS = 16, ROTATIONS = 25, DOMAINS = 5, STOP_AFTER_MS = 120000 };

/* One client: sends a message, looks at the answer, sends the next. */
struct client {
  struct loop *loop;
  struct connector *connector;
  const char *milter;
  struct milter *connection;
  bool keeps; /* its connection */
  char address[64];
  struct milter_header header;
  struct milter_message message;
  unsigned long *messages;
};

static void client_connect(void *context);

static void client_event(void *context, const struct milter_answer *answer, const struct error *error) {
  struct client *client = context;
  char domain[64];
  if (error->code) {
    fprintf(stderr, "client: %s\n", error->message);
    _exit(2);
  }
  if (answer) {
    if (answer->verdict != MILTER_ACCEPTED || answer->signature_count != 1 ||
        !prove_signature_tag(answer->signatures[0], "d", domain, sizeof(domain)) ||
        strcmp(domain, strchr(client->address, '@') + 1) != 0) {
      fprintf(stderr, "client: mail from %s: verdict %d at %s, %zu signatures\n", client->address, (int)answer->verdict,
              answer->stage, answer->signature_count);
      _exit(3);
    }
    ++*client->messages;
    if (!client->keeps) {
      milter_close(client->connection);
      client_connect(client);
      return;
    }
  }
  milter_send(client->connection, &client->message);
}

static void client_connect(void *context) {
  struct client *client = context;
  struct error error = {0};
  int64_t deadline = loop_boottime(client->loop) + STOP_AFTER_MS;
  if (milter_open(client->connector, client->milter, deadline, client_event, client, &client->connection, &error) < 0)
    _exit(4);
}

static volatile sig_atomic_t stopped;
static void stop(int number) {
  (void)number;
  stopped = 1;
}

static void look_for_the_end(void *context) {
  struct client *client = context;
  if (stopped) {
    fprintf(stderr, "%lu messages, none lost\n", *client->messages);
    _exit(*client->messages > 0 ? 0 : 5);
  }
  if (loop_at(client->loop, loop_boottime(client->loop) + 20, look_for_the_end, client, NULL) < 0) _exit(4);
}

static void send_until_stopped(const struct opendkim_host *host, int report) {
  static struct client clients[SENDERS];
  static unsigned long messages;
  struct loop *loop = NULL;
  struct connector *connector = NULL;
  struct error error = {0};
  signal(SIGTERM, stop);
  if (loop_sd_event_new(&loop, &error) < 0 || connector_sockets_new(loop, &connector, &error) < 0) _exit(4);
  for (size_t i = 0; i < SENDERS; i++) {
    struct client *client = &clients[i];
    *client = (struct client){
        .loop = loop, .connector = connector, .milter = host->milter, .keeps = i % 2, .messages = &messages};
    snprintf(client->address, sizeof(client->address), "user@d%zu.example", i % DOMAINS);
    client->header = (struct milter_header){.name = "From", .value = client->address};
    client->message = (struct milter_message){.queue_id = "load",
                                              .sender = client->address,
                                              .recipient = client->address,
                                              .headers = &client->header,
                                              .header_count = 1,
                                              .body = "x\r\n"};
    client_connect(client);
  }
  look_for_the_end(&clients[0]);
  if (write(report, "", 1) != 1 || loop_run(loop, &error) < 0) _exit(4);
  _exit(4);
}

static pid_t start_sending(const struct opendkim_host *host) {
  int ready[2];
  assert_int_equal(pipe(ready), 0);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    send_until_stopped(host, ready[1]);
  }
  char octet = 0;
  assert_int_equal(read(ready[0], &octet, 1), 1);
  close(ready[0]);
  close(ready[1]);
  return pid;
}

/* Rotates all domains; the key before last is withdrawn. Now and then a key is bad and taken back. */
static void rotate_under_load(bool file_table, bool stable) {
  struct stage stage;
  stage_open(&stage, &(struct opendkim_setup){.file_table = file_table});
  if (stable) stage.policy.key_name = NAME_OF_DOMAIN;
  stage_connect(&stage);
  char domains[DOMAINS][32];
  char selectors[ROTATIONS][16];
  struct signer_item items[DOMAINS];
  pid_t sender = 0;
  for (int round = 0; round < ROTATIONS; round++) {
    snprintf(selectors[round], sizeof(selectors[round]), "s%d", round);
    for (size_t i = 0; i < DOMAINS; i++) {
      snprintf(domains[i], sizeof(domains[i]), "d%zu.example", i);
      items[i] = item_of(&stage, domains[i], selectors[round], round > 0 ? selectors[round - 1] : NULL, false);
    }
    stage_run(&stage, signer_activate, items, DOMAINS, DEADLINE_MS);
    for (size_t i = 0; i < DOMAINS; i++) assert_success(&stage, i);
    if (round == 0) sender = start_sending(&stage.host);
    if (round > 1) {
      struct signer_item old[DOMAINS];
      for (size_t i = 0; i < DOMAINS; i++) {
        old[i] = item_of(&stage, domains[i], selectors[round - 2], selectors[round], false);
      }
      stage_run(&stage, signer_withdraw, old, DOMAINS, DEADLINE_MS);
      for (size_t i = 0; i < DOMAINS; i++) {
        assert_success(&stage, i);
        item_release(&old[i]);
      }
    }
    for (size_t i = 0; i < DOMAINS; i++) item_release(&items[i]);
  }
  kill(sender, SIGTERM);
  int status = 0;
  assert_int_equal(waitpid(sender, &status, 0), sender);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  stage_close(&stage);
}

static void test_signer_load__rotations_lose_no_mail_in_refile_tables(void **state) {
  (void)state;
  rotate_under_load(false, false);
}

static void test_signer_load__rotations_lose_no_mail_in_file_tables(void **state) {
  (void)state;
  rotate_under_load(true, false);
}

static void test_signer_load__rotations_lose_no_mail_with_stable_names(void **state) {
  (void)state;
  rotate_under_load(true, true);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_signer_load__rotations_lose_no_mail_in_refile_tables),
      cmocka_unit_test(test_signer_load__rotations_lose_no_mail_in_file_tables),
      cmocka_unit_test(test_signer_load__rotations_lose_no_mail_with_stable_names),
  };
  signal(SIGPIPE, SIG_IGN);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
