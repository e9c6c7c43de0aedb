/* Replies of a filter, through the milter client over a real socket and the proof. What counts as signed was signed, with the right key, and by nobody else.
 *
 * The first octet: 1 other signatures may stand beside it, 2 two messages, 4 a key before, 8 time for a second connection. Then a reply for each command
 * that wants one: KIND, and a u16 size with that many octets:
 *   '!' octets as they are; any other letter a packet with that command; but without size and octets '$' a DKIM-Signature that is right, '%' the same by another
 *   key, '#' the end of the connection. After a KIND with its highest bit another part of this reply follows. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../unit/dkim_signer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/entropy.h"
#include "dkimroll/milter_protocol.h"
#include "dkimroll/prove.h"
#include "dkimroll/text.h"
#include "fuzz.h"

enum {
  BOOT = 1000000,
  WALL = 1800000000,
  DEADLINE_MS = 30000,
  CLIENTS_MAX = 8,
  FIELDS_MAX = 16,
  OUT_MAX = 4 * 1024 * 1024
};
enum { OTHERS = 1, TWO_MESSAGES = 2, KEY_BEFORE = 4, PATIENT = 8, MORE = 0x80 };

struct client {
  struct filter *filter;
  int descriptor;
  struct loop_source *watch;
  struct buffer in;
  /* The message under way. */
  char *fields[FIELDS_MAX];
  size_t field_count;
  char *body;
};

struct filter {
  struct loop *loop;
  struct connector *connector;
  struct loop_source *listening;
  struct fuzz_input script;
  struct client clients[CLIENTS_MAX];
  size_t client_count;
  size_t signed_right;
  unsigned ended;
  size_t groups;
};

/* Open from one case to the next. */
static int listener = -1;
static char listener_text[64];

static void listen_somewhere(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t size = sizeof address;
  listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  FUZZ_HOLDS(listener >= 0 && bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 64) == 0,
             "no port");
  FUZZ_HOLDS(getsockname(listener, (struct sockaddr *)&address, &size) == 0, "no address");
  (void)snprintf(listener_text, sizeof listener_text, "inet:%u@127.0.0.1", ntohs(address.sin_port));
}

/* ---- the filter ---- */

static void client_forget_message(struct client *client) {
  for (size_t i = 0; i < client->field_count; i++) free(client->fields[i]);
  client->field_count = 0;
  free(TAKE_PTR(client->body));
}

static void client_close(struct client *client) {
  const struct linger linger = {.l_onoff = 1};
  if (client->descriptor < 0) return;
  loop_cancel(client->filter->loop, &client->watch);
  (void)!setsockopt(client->descriptor, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  close(client->descriptor);
  client->descriptor = -1;
}

/* The field as header name and value, as a filter inserts it. */
static void add_signature(struct client *client, bool other, struct buffer *out) {
  if (client->field_count == 0) return;
  CLEANUP_FREE char *field = dkim_signer_sign_plainly(fuzz_key(other ? 1 : 0), "example.com", other ? "s0" : "s1",
                                                      (const char *const *)client->fields, client->field_count,
                                                      client->body ? client->body : "");
  char *colon = strchr(field, ':');
  CLEANUP(buffer_release) struct buffer data = BUFFER_WITH_MAXIMUM(OUT_MAX);
  *colon = '\0';
  buffer_add_u32(&data, 1);
  buffer_add(&data, field, strlen(field) + 1);
  buffer_add(&data, colon + 1, strlen(colon + 1) + 1);
  milter_add_packet(out, MILTER_REPLY_INSERT_HEADER, data.data, data.size);
  client->filter->signed_right += !other;
}

/* One part of a reply. false: the connection ends. */
static bool add_part(struct client *client, char kind, struct buffer *out) {
  struct fuzz_input *script = &client->filter->script;
  if (kind == '#') return false;
  if (kind == '$' || kind == '%') {
    add_signature(client, kind == '%', out);
    return true;
  }
  const uint16_t size = fuzz_take_u16(script);
  const struct fuzz_input octets = fuzz_take(script, size);
  if (kind == '!')
    buffer_add(out, octets.data, octets.size);
  else
    milter_add_packet(out, kind, octets.data, octets.size);
  return true;
}

static void client_answer(struct client *client) {
  CLEANUP(buffer_release) struct buffer out = BUFFER_WITH_MAXIMUM(OUT_MAX);
  struct fuzz_input *script = &client->filter->script;
  bool open = true;
  uint8_t kind = MORE;
  while (open && script->size > 0 && kind & MORE) {
    kind = fuzz_take_u8(script);
    open = add_part(client, (char)(kind & ~MORE), &out);
  }
  if (out.size > 0) (void)!send(client->descriptor, out.data, out.size, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (!open) client_close(client);
}

static void client_take_header(struct client *client, const struct milter_packet *packet) {
  const char *name = (const char *)packet->data;
  const size_t name_size = strnlen(name, packet->size);
  if (name_size + 1 >= packet->size || client->field_count == FIELDS_MAX) return;
  const char *value = name + name_size + 1;
  client->fields[client->field_count] = text_format("%s:%s%s", name, value[0] == ' ' ? "" : " ", value);
  if (client->fields[client->field_count]) client->field_count++;
}

static void client_take(struct client *client, const struct milter_packet *packet) {
  switch (packet->command) {
  case MILTER_COMMAND_MACRO: return;
  case MILTER_COMMAND_ABORT:
  case MILTER_COMMAND_QUIT: client_forget_message(client); return;
  case MILTER_COMMAND_MAIL: client_forget_message(client); break;
  case MILTER_COMMAND_HEADER: client_take_header(client, packet); break;
  case MILTER_COMMAND_BODY:
    free(client->body);
    client->body = strndup((const char *)packet->data, packet->size);
    break;
  default: break;
  }
  client_answer(client);
}

static void client_ready(void *context, unsigned events) {
  struct client *client = context;
  uint8_t octets[16384];
  (void)events;
  const ssize_t got = recv(client->descriptor, octets, sizeof octets, MSG_DONTWAIT);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) {
    client_close(client);
    return;
  }
  buffer_add(&client->in, octets, (size_t)got);
  while (client->descriptor >= 0) {
    struct milter_packet packet;
    const int taken = milter_read_packet(client->in.data, client->in.size, &packet);
    FUZZ_HOLDS(taken >= 0, "the client sends an impossible packet");
    if (taken == 0) return;
    client_take(client, &packet);
    buffer_consume(&client->in, (size_t)taken);
  }
}

static void filter_ready(void *context, unsigned events) {
  struct filter *filter = context;
  (void)events;
  const int descriptor = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (descriptor < 0) return;
  if (filter->client_count == CLIENTS_MAX) {
    close(descriptor);
    return;
  }
  struct client *client = &filter->clients[filter->client_count++];
  *client =
      (struct client){.filter = filter, .descriptor = descriptor, .in = BUFFER_WITH_MAXIMUM(MILTER_OUTPUT_MAX * 2)};
  FUZZ_HOLDS(loop_watch(filter->loop, descriptor, LOOP_READABLE, client_ready, client, &client->watch) == 0,
             "no watch");
}

static void filter_open(struct filter *filter) {
  const struct clock_reading start = {.wall = WALL, .boottime = BOOT};
  if (listener < 0) listen_somewhere();
  for (int left; (left = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;) close(left);
  FUZZ_HOLDS(loop_virtual_new(&start, &filter->loop, NULL) == 0, "no loop");
  FUZZ_HOLDS(connector_sockets_new(filter->loop, &filter->connector, NULL) == 0, "no connector");
  loop_virtual_set_patience(filter->loop, 0);
  FUZZ_HOLDS(loop_watch(filter->loop, listener, LOOP_READABLE, filter_ready, filter, &filter->listening) == 0,
             "no watch");
}

static void filter_close(struct filter *filter) {
  for (size_t i = 0; i < filter->client_count; i++) {
    client_close(&filter->clients[i]);
    client_forget_message(&filter->clients[i]);
    buffer_release(&filter->clients[i].in);
  }
  loop_cancel(filter->loop, &filter->listening);
  connector_destroy(filter->connector);
  loop_destroy(filter->loop);
}

/* ---- the proof ---- */

static void proof_done(void *context, const struct error *connection, const struct prove_result *results,
                       size_t count) {
  struct filter *filter = context;
  FUZZ_HOLDS(++filter->ended == 1, "done came %u times", filter->ended);
  FUZZ_HOLDS(count == filter->groups, "%zu results", count);
  FUZZ_HOLDS(loop_boottime(filter->loop) <= BOOT + DEADLINE_MS, "done came after the deadline");
  if (connection->code < 0) fuzz_expect_error(connection->code, connection);
  for (size_t i = 0; i < count; i++) {
    FUZZ_HOLDS(results[i].verdict > PROVE_PENDING && results[i].verdict <= PROVE_TOO_MANY, "verdict %d",
               (int)results[i].verdict);
    if (results[i].verdict == PROVE_SIGNED)
      FUZZ_HOLDS(filter->signed_right > 0, "proved, but nothing was signed");
    else
      fuzz_expect_error(results[i].error.code, &results[i].error);
  }
  loop_stop(filter->loop);
}

static void proof_run(struct filter *filter, uint8_t options) {
  CLEANUP_FREE char *record = dkim_signer_record(fuzz_key(0));
  const struct prove_message messages[] = {
      {"someone@example.com", "example.com", "s1", record, options & KEY_BEFORE ? "s0" : NULL, options & OTHERS, 0},
      {"other@example.com", "example.com", "s1", record, options & KEY_BEFORE ? "s0" : NULL, options & OTHERS, 1},
  };
  filter->groups = options & TWO_MESSAGES ? 2 : 1;
  const struct prove_request request = {.milter = listener_text,
                                        .messages = messages,
                                        .count = filter->groups,
                                        .group_count = filter->groups,
                                        .deadline = BOOT + DEADLINE_MS,
                                        .patience = options & PATIENT ? BOOT + 500 : 0,
                                        .settle = options & PATIENT ? BOOT + 200 : 0};
  struct entropy_seeded random;
  struct prove *prove = NULL;
  struct error error = {0};
  entropy_seed(&random, 7);
  FUZZ_HOLDS(prove_start(filter->connector, &random.entropy, &request, proof_done, filter, &prove, &error) == 0, "%s",
             error.message);
  FUZZ_HOLDS(loop_run(filter->loop, &error) == 0, "%s", error.message);
  FUZZ_HOLDS(filter->ended == 1, "done did not come");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input input = {data, size};
  const uint8_t options = fuzz_take_u8(&input);
  struct filter *filter = calloc(1, sizeof *filter);
  if (!filter) return 0;
  filter->script = input;
  filter_open(filter);
  proof_run(filter, options);
  filter_close(filter);
  free(filter);
  return 0;
}
