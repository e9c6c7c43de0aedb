#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/milter_connection.h"
#include "dkimroll/text.h"

void milter_forget_answer(struct milter *milter) {
  for (size_t i = 0; i < milter->answer.signature_count; i++) free(milter->signatures[i]);
  milter->answer = (struct milter_answer){0};
}

/* What the filter wants to see. Its wish for other versions or changes than those offered is its mistake. */
static void milter_take_negotiation(struct milter *milter, const struct milter_packet *packet) {
  struct reader reader = {.data = packet->data, .size = packet->size};
  uint32_t version = reader_u32(&reader);
  uint32_t actions = reader_u32(&reader);
  uint32_t steps = reader_u32(&reader);
  if (packet->command != MILTER_COMMAND_NEGOTIATE || reader.failed) {
    milter_fail_protocol(milter, "no answer to the negotiation of options");
    return;
  }
  if (version < MILTER_VERSION_MIN || version > MILTER_VERSION || (actions & ~(uint32_t)MILTER_ACTIONS) ||
      (steps & ~(uint32_t)MILTER_STEPS)) {
    milter_fail_protocol(milter, "it asks for options that were not offered");
    return;
  }
  milter->steps = steps;
  milter->step = MILTER_STEP_CONNECT;
  milter_send_steps(milter);
}

/* "DKIM-Signature: value" with lines separated by CR LF, as an MTA would send it. */
static char *milter_format_signature(const struct milter *milter, const char *name, const char *value) {
  struct buffer text = BUFFER_WITH_MAXIMUM((size_t)MILTER_PACKET_MAX * 2);
  buffer_format(&text, "%s:%s", name, milter->steps & MILTER_LEADING_SPACE ? "" : " ");
  for (const char *p = value; *p; p++) {
    if (*p == '\n' && (p == value || p[-1] != '\r')) buffer_add_text(&text, "\r");
    buffer_add(&text, p, 1);
  }
  return buffer_take_text(&text);
}

/* Two strings, each with its NUL. */
static void milter_take_header(struct milter *milter, const uint8_t *data, size_t size) {
  const char *name = (const char *)data;
  const char *end = memchr(name, '\0', size);
  size_t rest = end ? size - (size_t)(end + 1 - name) : 0;
  if (!end || rest == 0 || end[rest] != '\0') {
    milter_fail_protocol(milter, "it adds a malformed header");
    return;
  }
  if (!text_equal_nocase(name, "DKIM-Signature")) return;
  if (milter->answer.signature_count == MILTER_SIGNATURES_MAX) {
    milter_fail_protocol(milter, "it adds too many signatures");
    return;
  }
  char *signature = milter_format_signature(milter, name, end + 1);
  if (!signature) {
    milter_fail_memory(milter);
    return;
  }
  milter->signatures[milter->answer.signature_count] = signature;
  milter->answer.signatures[milter->answer.signature_count++] = signature;
}

/* Changes come before the verdict at the end of the message only. */
static void milter_take_change(struct milter *milter, const struct milter_packet *packet) {
  if (milter->step != MILTER_STEP_END_OF_MESSAGE) {
    milter_fail_protocol(milter, "a change outside of the end of a message");
    return;
  }
  if (packet->command == MILTER_REPLY_ADD_HEADER) milter_take_header(milter, packet->data, packet->size);
  if (packet->command == MILTER_REPLY_INSERT_HEADER) {
    if (packet->size < sizeof(uint32_t))
      milter_fail_protocol(milter, "it inserts a malformed header");
    else
      milter_take_header(milter, packet->data + sizeof(uint32_t), packet->size - sizeof(uint32_t));
  }
}

/* The filter turns the client itself away, or exempts it, before there is a message. */
static void milter_refuse_client(struct milter *milter, enum milter_verdict verdict) {
  if (verdict == MILTER_ACCEPTED) {
    error_set(&milter->failure, ERROR_PROOF,
              "milter %s: it lets mail of clients on 127.0.0.1 pass without looking at it", milter->address);
    error_remedy(&milter->failure, "take 127.0.0.1 and localhost out of PeerList in opendkim.conf");
  } else {
    error_set(&milter->failure, ERROR_REFUSED, "milter %s: it turns clients on 127.0.0.1 away: %s", milter->address,
              milter->answer.text[0] ? milter->answer.text : "no reason given");
    error_remedy(&milter->failure, "see the log of opendkim (journalctl -u opendkim)");
  }
  milter_fail_later(milter);
}

/* The answer is complete; milter_can_read reports it. */
static void milter_finish_message(struct milter *milter, enum milter_verdict verdict) {
  if (milter->step < MILTER_STEP_READY) {
    milter_refuse_client(milter, verdict);
    return;
  }
  milter->answer.verdict = verdict;
  milter->answer.stage = milter_step_stage(milter->step);
  milter->abort_due = milter->step != MILTER_STEP_END_OF_MESSAGE;
  milter->answer.early = verdict == MILTER_ACCEPTED && milter->abort_due;
  milter->step = MILTER_STEP_READY;
  milter->message = NULL;
  milter->answered = true;
}

static void milter_take_code(struct milter *milter, const struct milter_packet *packet) {
  size_t size = strnlen((const char *)packet->data, packet->size);
  text_printable(packet->data, size, milter->answer.text, sizeof(milter->answer.text));
  milter_finish_message(milter, size > 0 && packet->data[0] == '4' ? MILTER_TEMPFAILED : MILTER_REJECTED);
}

static void milter_take_verdict(struct milter *milter, const struct milter_packet *packet) {
  switch (packet->command) {
  case MILTER_REPLY_ACCEPT: milter_finish_message(milter, MILTER_ACCEPTED); return;
  case MILTER_REPLY_REJECT: milter_finish_message(milter, MILTER_REJECTED); return;
  case MILTER_REPLY_SHUTDOWN:
  case MILTER_REPLY_TEMPFAIL: milter_finish_message(milter, MILTER_TEMPFAILED); return;
  case MILTER_REPLY_DISCARD: milter_finish_message(milter, MILTER_DISCARDED); return;
  case MILTER_REPLY_CODE: milter_take_code(milter, packet); return;
  case MILTER_REPLY_CONNECTION_FAILURE: milter_fail_errno(milter, ECONNRESET, "it gave the connection up"); return;
  case MILTER_REPLY_SKIP:
    if (milter->step == MILTER_STEP_END_OF_MESSAGE) {
      milter_fail_protocol(milter, "it skips the end of the message, behind which there is nothing");
      return;
    }
    if (milter->step == MILTER_STEP_HEADERS) milter->header = milter->message->header_count;
    milter_go_on(milter);
    return;
  case MILTER_REPLY_CONTINUE:
    if (milter->step == MILTER_STEP_END_OF_MESSAGE)
      milter_finish_message(milter, MILTER_ACCEPTED);
    else
      milter_go_on(milter);
    return;
  default: milter_fail_protocol(milter, "an unknown reply");
  }
}

static bool milter_is_change(char reply) {
  static const char changes[] = {
      MILTER_REPLY_ADD_RECIPIENT, MILTER_REPLY_DELETE_RECIPIENT, MILTER_REPLY_ADD_RECIPIENT_ARGUMENTS,
      MILTER_REPLY_REPLACE_BODY,  MILTER_REPLY_CHANGE_SENDER,    MILTER_REPLY_ADD_HEADER,
      MILTER_REPLY_INSERT_HEADER, MILTER_REPLY_CHANGE_HEADER,    MILTER_REPLY_QUARANTINE};
  return memchr(changes, reply, sizeof(changes)) != NULL;
}

static void milter_take_packet(struct milter *milter, const struct milter_packet *packet) {
  if (++milter->replies > MILTER_REPLIES_MAX)
    milter_fail_protocol(milter, "it answers one command without end");
  else if (milter->step == MILTER_STEP_NEGOTIATE)
    milter_take_negotiation(milter, packet);
  else if (milter->step == MILTER_STEP_READY)
    milter_fail_protocol(milter, "it answers what was not asked");
  else if (packet->command == MILTER_REPLY_PROGRESS)
    return;
  else if (milter_is_change(packet->command))
    milter_take_change(milter, packet);
  else
    milter_take_verdict(milter, packet);
}

static void milter_take_input(struct milter *milter) {
  size_t position = 0;
  while (milter->failure.code == 0) {
    struct milter_packet packet;
    int taken = milter_read_packet(milter->input.data + position, milter->input.size - position, &packet);
    if (taken < 0) milter_fail_protocol(milter, "a packet of impossible length");
    if (taken <= 0) break;
    position += (size_t)taken;
    milter_take_packet(milter, &packet);
  }
  buffer_consume(&milter->input, position);
}

void milter_can_read(struct milter *milter) {
  uint8_t octets[MILTER_READ_SIZE];
  ssize_t got = stream_read(milter->stream, octets, sizeof(octets));
  if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)) return;
  if (got < 0) {
    milter_fail_errno(milter, errno, "connection lost");
    return;
  }
  if (got == 0) {
    error_set(&milter->failure, ERROR_UNREACHABLE, "milter %s: it closed the connection (%s)", milter->address,
              milter_step_stage(milter->step));
    error_remedy(&milter->failure,
                 "see the log of opendkim (journalctl -u opendkim): it may have crashed or been restarted");
    milter_fail_later(milter);
    return;
  }
  buffer_add(&milter->input, octets, (size_t)got);
  milter_take_input(milter);
  if (milter->failure.code || !(milter->ready || milter->answered)) return;
  const struct milter_answer *answer = milter->answered ? &milter->answer : NULL;
  static const struct error none = {0};
  milter->ready = milter->answered = false;
  /* Last, since the owner may free the connection in the call. */
  milter->event(milter->context, answer, &none);
}
