#include "fake_filter.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/milter_protocol.h"
#include "dkimroll/text.h"
#include "dkim_signer.h"

enum { PACKET_MAX = 4096, FIELDS_MAX = 16 };

struct fake_child {
  const struct fake_script *script;
  int descriptor;
  unsigned connection;
  char sender[256];
  char *fields[FIELDS_MAX]; /* owned; of the message so far */
  size_t field_count;
  char *body; /* owned; NULL: none */
};

static void child_write(int descriptor, const void *octets, size_t size) {
  const char *next = octets;
  while (size > 0) {
    ssize_t sent = send(descriptor, next, size, MSG_NOSIGNAL);
    if (sent <= 0) return;
    next += sent;
    size -= (size_t)sent;
  }
}

static void child_packet(struct fake_child *filter, char command, const void *data, size_t size) {
  struct buffer packet = BUFFER_WITH_MAXIMUM(PACKET_MAX);
  buffer_add_u32(&packet, (uint32_t)(size + 1));
  buffer_add_u8(&packet, (uint8_t)command);
  buffer_add(&packet, data, size);
  child_write(filter->descriptor, packet.data, packet.size);
  buffer_release(&packet);
}

static bool child_read(int descriptor, void *octets, size_t size) {
  char *next = octets;
  while (size > 0) {
    ssize_t got = recv(descriptor, next, size, 0);
    if (got <= 0) return false;
    next += got;
    size -= (size_t)got;
  }
  return true;
}

static void child_negotiate(struct fake_child *filter) {
  struct buffer data = BUFFER_WITH_MAXIMUM(64);
  buffer_add_u32(&data, MILTER_VERSION);
  buffer_add_u32(&data, filter->script->bad_options ? 0x80000000U : 1);
  buffer_add_u32(&data, filter->script->steps);
  child_packet(filter, MILTER_COMMAND_NEGOTIATE, data.data, data.size);
  buffer_release(&data);
}

static void child_forget(struct fake_child *filter) {
  while (filter->field_count > 0) free(filter->fields[--filter->field_count]);
  free(filter->body);
  filter->body = NULL;
}

static void child_take_field(struct fake_child *filter, const char *name, size_t size) {
  const char *value = name + strlen(name) + 1;
  if (filter->field_count == FIELDS_MAX || strlen(name) + 2 >= size) return;
  const char *gap = filter->script->steps & MILTER_LEADING_SPACE ? "" : " ";
  filter->fields[filter->field_count++] = text_format("%s:%s%s", name, gap, value);
}

/* Line ends as libmilter's filters write them: LF alone. */
static void add_value(struct buffer *data, const char *value) {
  for (; *value; value++)
    if (*value != '\r') buffer_add(data, value, 1);
  buffer_add_u8(data, 0);
}

static void child_sign(struct fake_child *filter, const char *selector) {
  static const char name[] = "DKIM-Signature";
  const char *domain = filter->script->domain;
  if (!domain) domain = strchr(filter->sender, '@') ? strchr(filter->sender, '@') + 1 : "none";
  CLEANUP_FREE char *field = dkim_signer_sign_plainly(
      dkim_signer_key(true, filter->script->other_key), domain, selector, (const char *const *)filter->fields,
      filter->field_count, filter->script->other_body || !filter->body ? "other\r\n" : filter->body);
  struct buffer data = BUFFER_WITH_MAXIMUM(PACKET_MAX);
  if (!filter->script->add_header) buffer_add_u32(&data, 1);
  buffer_add(&data, name, sizeof(name));
  add_value(&data, field + sizeof(name) + !(filter->script->steps & MILTER_LEADING_SPACE));
  child_packet(filter, filter->script->add_header ? MILTER_REPLY_ADD_HEADER : MILTER_REPLY_INSERT_HEADER, data.data,
               data.size);
  buffer_release(&data);
}

static void child_end_message(struct fake_child *filter) {
  const char *selector = NULL;
  for (unsigned i = 0; i <= filter->connection && i < FAKE_FILTER_CONNECTIONS; i++)
    if (filter->script->selectors[i]) selector = filter->script->selectors[i];
  if (filter->script->old_for && strcmp(filter->script->old_for, filter->sender) == 0) selector = "old";
  if (filter->script->delay_ms) poll(NULL, 0, (int)filter->script->delay_ms);
  for (unsigned i = 0; i < filter->script->progress; i++) child_packet(filter, MILTER_REPLY_PROGRESS, NULL, 0);
  const unsigned times = filter->script->more_times ? filter->script->more_times : 1;
  for (unsigned i = 0; filter->script->more_signatures && i < times; i++)
    child_sign(filter, filter->script->more_signatures);
  if (selector) child_sign(filter, selector);
  child_packet(filter, MILTER_REPLY_CHANGE_HEADER, "\0\0\0\1Subject\0x", 14);
  child_packet(filter, MILTER_REPLY_CONTINUE, NULL, 0);
}

static bool child_misbehaves(const struct fake_child *filter, char command) {
  const struct fake_script *script = filter->script;
  if (script->until_connection && filter->connection >= script->until_connection) return false;
  if (script->only_sender && strcmp(script->only_sender, filter->sender) != 0) return false;
  return script->at == command;
}

static uint32_t child_silent_bit(char command) {
  static const struct {
    char command;
    uint32_t bit;
  } bits[] = {{'C', MILTER_NR_CONNECT},        {'H', MILTER_NR_HELO}, {'M', MILTER_NR_MAIL},
              {'R', MILTER_NR_RCPT},           {'T', MILTER_NR_DATA}, {'L', MILTER_NR_HEADERS},
              {'N', MILTER_NR_END_OF_HEADERS}, {'B', MILTER_NR_BODY}};
  for (size_t i = 0; i < ARRAY_SIZE(bits); i++)
    if (bits[i].command == command) return bits[i].bit;
  return 0;
}

/* false: the connection is over. */
static bool child_answer(struct fake_child *filter, char command, const char *data, size_t size) {
  const struct fake_script *script = filter->script;
  if (command == MILTER_COMMAND_MAIL && size > 2)
    snprintf(filter->sender, sizeof(filter->sender), "%.*s", (int)strcspn(data + 1, ">"), data + 1);
  if (command == MILTER_COMMAND_MAIL) child_forget(filter);
  if (command == MILTER_COMMAND_HEADER) child_take_field(filter, data, size);
  if (command == MILTER_COMMAND_BODY && !filter->body) filter->body = text_duplicate(data);
  if (command == MILTER_COMMAND_MACRO || command == MILTER_COMMAND_ABORT) return true;
  if (command == MILTER_COMMAND_QUIT) return false;
  if (child_misbehaves(filter, command)) {
    if (script->quit) return false;
    if (script->hang) return true;
    if (script->garbage) child_write(filter->descriptor, "GET / HTTP/1.1\r\n\r\n", 18);
    if (script->reply) child_packet(filter, script->reply, script->text, script->text ? strlen(script->text) + 1 : 0);
    return true;
  }
  if (command == MILTER_COMMAND_NEGOTIATE)
    child_negotiate(filter);
  else if (command == MILTER_COMMAND_END_OF_MESSAGE)
    child_end_message(filter);
  else if (!(script->steps & child_silent_bit(command)))
    child_packet(filter, MILTER_REPLY_CONTINUE, NULL, 0);
  return true;
}

static void child_serve(struct fake_child *filter) {
  for (;;) {
    uint32_t length = 0;
    char packet[PACKET_MAX];
    if (!child_read(filter->descriptor, &length, sizeof(length))) return;
    length = ntohl(length);
    if (length < 1 || length >= sizeof(packet) || !child_read(filter->descriptor, packet, length)) return;
    packet[length] = '\0';
    if (!child_answer(filter, packet[0], packet + 1, length)) return;
  }
}

static void child_main(int listener, const struct fake_script *script) {
  struct fake_child filter = {.script = script};
  for (;; filter.connection++) {
    filter.descriptor = accept(listener, NULL, NULL);
    if (filter.descriptor < 0) _exit(1);
    child_serve(&filter);
    child_forget(&filter);
    close(filter.descriptor);
  }
}

static int listen_anywhere(char *address, size_t size) {
  struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t place_size = sizeof(place);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(listener >= 0);
  assert_int_equal(bind(listener, (struct sockaddr *)&place, place_size), 0);
  assert_int_equal(getsockname(listener, (struct sockaddr *)&place, &place_size), 0);
  assert_int_equal(listen(listener, 16), 0);
  snprintf(address, size, "inet:%u@127.0.0.1", ntohs(place.sin_port));
  return listener;
}

void fake_filter_start(struct fake_filter *filter, const struct fake_script *script) {
  CLEANUP_CLOSE int listener = listen_anywhere(filter->address, sizeof(filter->address));
  pid_t parent = getpid();
  /* Both processes must have the same keys. */
  for (size_t i = 0; i < DKIM_SIGNER_KEYS; i++) (void)dkim_signer_key(true, i);
  filter->pid = fork();
  assert_true(filter->pid >= 0);
  if (filter->pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent) child_main(listener, script);
    _exit(1);
  }
}

void fake_filter_stop(struct fake_filter *filter) {
  kill(filter->pid, SIGKILL);
  waitpid(filter->pid, NULL, 0);
}

void fake_filter_free_address(char *address, size_t size) {
  close(listen_anywhere(address, size));
}
