/* The simulated OpenDKIM as dkimroll's milter client sees it: a connector whose streams end at the filter's side of the protocol (mfdef.h of libmilter):
 * one command and its reply at a time, with latency, refusals, cuts and losses. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../unit/dkim_signer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/milter.h"
#include "dkimroll/milter_protocol.h"
#include "dkimroll/text.h"
#include "sim_signer.h"

enum { STREAM_OCTETS_MAX = 4 * 1024 * 1024, MESSAGE_FIELDS_MAX = 64 };

struct sim_connector {
  struct connector connector; /* first */
  const struct sim_signers *signers;
  struct sim_stream *streams;
};

struct sim_stream {
  struct stream stream; /* first */
  struct sim_stream *next;
  struct sim_signer *signer; /* NULL: nobody listens there */
  stream_event *event;
  void *context;
  unsigned watched;
  struct loop_source *told;    /* the event that is on its way */
  struct loop_source *arrival; /* of the connection, then of replies */
  int connected;               /* as the slot of that name */
  unsigned life;               /* of the signer, when this began */
  bool hangs;
  int ended; /* 0: no; ECONNRESET; or ENODATA, an orderly end */
  struct sim_tables *tables;
  struct buffer input;   /* to the filter */
  struct buffer arrives; /* from it, on its way */
  struct buffer output;  /* from it, to be read */
  /* The message so far. */
  char *fields[MESSAGE_FIELDS_MAX];
  size_t field_count;
  struct buffer body;
};

static struct sim_stream *stream_of(struct stream *stream) {
  return (struct sim_stream *)stream;
}

static struct loop *loop_of(const struct sim_stream *stream) {
  return stream->stream.connector->loop;
}

/* A signer that ended takes its connections along. */
static void look_at_life(struct sim_stream *stream) {
  if (stream->tables && stream->life != stream->signer->life && !stream->ended) stream->ended = ECONNRESET;
}

/* ---- events ---- */

static unsigned ready_events(struct sim_stream *stream) {
  look_at_life(stream);
  if (stream->connected == EINPROGRESS) return 0;
  if (stream->connected || stream->ended) return LOOP_HANGUP | LOOP_READABLE | LOOP_WRITABLE;
  return LOOP_WRITABLE | (stream->output.size > 0 ? LOOP_READABLE : 0);
}

static void tell_later(struct sim_stream *stream);

static void tell(void *context) {
  struct sim_stream *stream = context;
  const unsigned events = ready_events(stream) & (stream->watched | LOOP_HANGUP);
  stream->told = NULL;
  if (!events || !stream->watched) return;
  /* Level-triggered: it is told again, unless the callee reads, or watches something else, or closes the stream. */
  tell_later(stream);
  stream->event(stream->context, events);
}

static void tell_later(struct sim_stream *stream) {
  if (stream->told || !stream->watched || !(ready_events(stream) & (stream->watched | LOOP_HANGUP))) return;
  assert_int_equal(loop_defer(loop_of(stream), tell, stream, &stream->told), 0);
}

static void arrive(void *context) {
  struct sim_stream *stream = context;
  stream->arrival = NULL;
  if (stream->connected == EINPROGRESS) {
    stream->tables = stream->signer ? sim_signer_accept(stream->signer) : NULL;
    stream->connected = stream->tables ? 0 : ECONNREFUSED;
    if (stream->tables) {
      stream->life = stream->signer->life;
      stream->hangs = stream->signer->faults.hangs;
    }
  }
  buffer_add(&stream->output, stream->arrives.data, stream->arrives.size);
  buffer_reset(&stream->arrives);
  tell_later(stream);
}

static void arrive_later(struct sim_stream *stream) {
  if (stream->arrival) return;
  const int64_t latency = stream->signer ? stream->signer->faults.latency_ms : 0;
  assert_int_equal(loop_at(loop_of(stream), loop_boottime(loop_of(stream)) + latency, arrive, stream, &stream->arrival), 0);
}

/* ---- the filter ---- */

static void forget_message(struct sim_stream *stream) {
  while (stream->field_count > 0) free(stream->fields[--stream->field_count]);
  buffer_reset(&stream->body);
}

static void reply(struct sim_stream *stream, char command, const void *data, size_t size) {
  milter_add_packet(&stream->arrives, command, data, size);
}

/* The address in From:, which decides who signs. */
static bool read_sender(const struct sim_stream *stream, char *address, size_t size) {
  for (size_t i = 0; i < stream->field_count; i++) {
    if (!text_starts(stream->fields[i], "From:")) continue;
    const char *start = strchr(stream->fields[i], '<');
    start = start ? start + 1 : stream->fields[i] + strlen("From:");
    start += strspn(start, " ");
    CLEANUP_FREE char *copy = strndup(start, strcspn(start, "> \r\n"));
    return text_copy(address, size, copy ? copy : "");
  }
  return false;
}

static void add_signature(struct sim_stream *stream, const struct sim_tables_match *match, const struct sim_signer_key *key) {
  static const char name[] = "DKIM-Signature";
  buffer_add(&stream->body, "", 0);
  CLEANUP_FREE char *field = dkim_signer_sign_plainly(sim_signer_private_key(key), match->domain, match->selector, (const char *const *)stream->fields,
                                                      stream->field_count, stream->body.data ? (const char *)stream->body.data : "");
  struct buffer data = BUFFER_WITH_MAXIMUM(STREAM_OCTETS_MAX);
  buffer_add_u32(&data, 1);
  buffer_add(&data, name, sizeof(name));
  /* Line ends as libmilter's filters write them: LF alone. */
  for (const char *p = field + sizeof(name) + 1; *p; p++)
    if (*p != '\r') buffer_add(&data, p, 1);
  buffer_add_u8(&data, 0);
  reply(stream, MILTER_REPLY_INSERT_HEADER, data.data, data.size);
  buffer_release(&data);
}

/* OpenDKIM decides who signs, and opens the keys, at the end of the header; and signs at the end of the message. */
static bool find_keys(struct sim_stream *stream, bool signs) {
  char address[SIM_TABLES_TEXT];
  struct sim_tables_match matches[SIM_TABLES_MATCHES_MAX];
  const size_t count = read_sender(stream, address, sizeof(address)) ? sim_tables_match(stream->tables, address, matches) : 0;
  for (size_t i = 0; i < count; i++) {
    const struct sim_signer_key *key = matches[i].broken ? NULL : sim_signer_open_key(stream->signer, matches[i].path);
    if (!key) return false;
    if (signs) add_signature(stream, &matches[i], key);
    stream->signer->signatures += signs;
  }
  return true;
}

static void take_field(struct sim_stream *stream, const char *data, size_t size) {
  const size_t name = strnlen(data, size);
  assert_true(name + 1 < size && data[size - 1] == '\0' && stream->field_count < MESSAGE_FIELDS_MAX);
  stream->fields[stream->field_count] = text_format("%s: %s", data, data + name + 1);
  assert_non_null(stream->fields[stream->field_count++]);
}

static void negotiate(struct sim_stream *stream) {
  struct buffer data = BUFFER_WITH_MAXIMUM(64);
  buffer_add_u32(&data, MILTER_VERSION);
  buffer_add_u32(&data, 1);
  buffer_add_u32(&data, 0);
  reply(stream, MILTER_COMMAND_NEGOTIATE, data.data, data.size);
  buffer_release(&data);
}

static void serve(struct sim_stream *stream, const struct milter_packet *packet) {
  const char *data = (const char *)packet->data;
  switch (packet->command) {
  case MILTER_COMMAND_NEGOTIATE: negotiate(stream); return;
  case MILTER_COMMAND_MACRO: return;
  case MILTER_COMMAND_ABORT: forget_message(stream); return;
  case MILTER_COMMAND_QUIT: stream->ended = ENODATA; return;
  case MILTER_COMMAND_MAIL: forget_message(stream); break;
  case MILTER_COMMAND_HEADER: take_field(stream, data, packet->size); break;
  case MILTER_COMMAND_BODY: buffer_add(&stream->body, data, packet->size); break;
  case MILTER_COMMAND_END_OF_HEADERS:
    if (find_keys(stream, false)) break;
    reply(stream, MILTER_REPLY_TEMPFAIL, NULL, 0);
    return;
  case MILTER_COMMAND_END_OF_MESSAGE:
    if (find_keys(stream, true)) break;
    buffer_reset(&stream->arrives);
    reply(stream, MILTER_REPLY_TEMPFAIL, NULL, 0);
    return;
  default: break;
  }
  reply(stream, MILTER_REPLY_CONTINUE, NULL, 0);
}

static bool is_answered(char command) {
  return command != MILTER_COMMAND_MACRO && command != MILTER_COMMAND_ABORT && command != MILTER_COMMAND_QUIT;
}

static void take_packet(struct sim_stream *stream, const struct milter_packet *packet) {
  struct sim_signer *signer = stream->signer;
  if (is_answered(packet->command) && sim_signer_chance(signer, signer->faults.cuts)) {
    stream->ended = entropy_below(signer->entropy, 2) ? ECONNRESET : ENODATA;
    return;
  }
  serve(stream, packet);
  if (is_answered(packet->command) && sim_signer_chance(signer, signer->faults.loses)) {
    buffer_reset(&stream->arrives);
    stream->hangs = true;
  }
}

static void take_input(struct sim_stream *stream) {
  size_t position = 0;
  while (!stream->ended && !stream->hangs) {
    struct milter_packet packet;
    int taken = milter_read_packet(stream->input.data + position, stream->input.size - position, &packet);
    assert_true(taken >= 0);
    if (taken == 0) break;
    position += (size_t)taken;
    take_packet(stream, &packet);
  }
  buffer_consume(&stream->input, position);
  if (stream->arrives.size > 0) arrive_later(stream);
}

/* ---- the slots ---- */

static struct sim_signer *find_signer(const struct sim_signers *signers, const struct connector_request *request) {
  for (size_t i = 0; i < signers->count; i++) {
    struct sockaddr_storage address;
    socklen_t size = 0;
    struct error error;
    assert_int_equal(milter_parse_address(signers->items[i]->milter, &address, &size, &error), 0);
    if (size == request->size && memcmp(&address, request->address, size) == 0) return signers->items[i];
  }
  return NULL;
}

static int sim_open(struct connector *connector, const struct connector_request *request, struct stream **ret_stream, struct error *error) {
  (void)error;
  struct sim_connector *owner = (struct sim_connector *)connector;
  struct sim_stream *stream = calloc(1, sizeof(*stream));
  assert_non_null(stream);
  *stream = (struct sim_stream){.stream.connector = connector,
                                .next = owner->streams,
                                .signer = find_signer(owner->signers, request),
                                .event = request->event,
                                .context = request->context,
                                .connected = EINPROGRESS,
                                .input = BUFFER_WITH_MAXIMUM(STREAM_OCTETS_MAX),
                                .arrives = BUFFER_WITH_MAXIMUM(STREAM_OCTETS_MAX),
                                .output = BUFFER_WITH_MAXIMUM(STREAM_OCTETS_MAX),
                                .body = BUFFER_WITH_MAXIMUM(STREAM_OCTETS_MAX)};
  owner->streams = stream;
  arrive_later(stream);
  *ret_stream = &stream->stream;
  return 0;
}

static int sim_connected(struct stream *stream) {
  return stream_of(stream)->connected;
}

static size_t at_most(const struct sim_stream *stream, size_t size) {
  const size_t maximum = stream->signer->faults.takes_max;
  return maximum && size > maximum ? maximum : size;
}

static ssize_t fails(int number) {
  errno = number;
  return -1;
}

static ssize_t sim_read(struct stream *any, void *octets, size_t size) {
  struct sim_stream *stream = stream_of(any);
  assert_int_equal(stream->connected, 0);
  look_at_life(stream);
  if (stream->ended == ECONNRESET) return fails(ECONNRESET);
  if (stream->output.size == 0) return stream->ended ? 0 : fails(EAGAIN);
  size = at_most(stream, size < stream->output.size ? size : stream->output.size);
  memcpy(octets, stream->output.data, size);
  buffer_consume(&stream->output, size);
  return (ssize_t)size;
}

static ssize_t sim_write(struct stream *any, const void *octets, size_t size) {
  struct sim_stream *stream = stream_of(any);
  assert_int_equal(stream->connected, 0);
  look_at_life(stream);
  if (stream->ended) return fails(stream->ended == ECONNRESET ? ECONNRESET : EPIPE);
  size = at_most(stream, size);
  buffer_add(&stream->input, octets, size);
  take_input(stream);
  if (stream->ended) tell_later(stream);
  return (ssize_t)size;
}

static int sim_watch(struct stream *any, unsigned events) {
  struct sim_stream *stream = stream_of(any);
  stream->watched = events;
  tell_later(stream);
  return 0;
}

static void sim_close(struct stream *any) {
  struct sim_stream *stream = stream_of(any);
  struct sim_stream **place = &((struct sim_connector *)any->connector)->streams;
  while (*place != stream) place = &(*place)->next;
  *place = stream->next;
  loop_cancel(loop_of(stream), &stream->told);
  loop_cancel(loop_of(stream), &stream->arrival);
  forget_message(stream);
  sim_tables_drop(stream->tables);
  buffer_release(&stream->input);
  buffer_release(&stream->arrives);
  buffer_release(&stream->output);
  buffer_release(&stream->body);
  free(stream);
}

static void sim_destroy(struct connector *connector) {
  struct sim_connector *owner = (struct sim_connector *)connector;
  while (owner->streams) sim_close(&owner->streams->stream);
  free(owner);
}

struct connector *sim_signer_connector_new(struct loop *loop, const struct sim_signers *signers) {
  static const struct connector_ops ops = {.open = sim_open,
                                           .connected = sim_connected,
                                           .read = sim_read,
                                           .write = sim_write,
                                           .watch = sim_watch,
                                           .close = sim_close,
                                           .destroy = sim_destroy};
  struct sim_connector *connector = calloc(1, sizeof(*connector));
  assert_non_null(connector);
  *connector = (struct sim_connector){.connector = {.ops = &ops, .loop = loop}, .signers = signers};
  return &connector->connector;
}
