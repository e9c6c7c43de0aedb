#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/milter_connection.h"
#include "dkimroll/text.h"

static const struct milter_step_description {
  const char *stage;
  uint32_t unwanted; /* negotiated bit: not to be sent */
  uint32_t silent;   /* negotiated bit: has no reply */
} milter_steps[] = {
    [MILTER_STEP_NEGOTIATE] = {"negotiation", 0, 0},
    [MILTER_STEP_CONNECT] = {"connection", MILTER_NO_CONNECT, MILTER_NR_CONNECT},
    [MILTER_STEP_HELO] = {"HELO", MILTER_NO_HELO, MILTER_NR_HELO},
    [MILTER_STEP_READY] = {"ready", 0, 0},
    [MILTER_STEP_MAIL] = {"MAIL", MILTER_NO_MAIL, MILTER_NR_MAIL},
    [MILTER_STEP_RCPT] = {"RCPT", MILTER_NO_RCPT, MILTER_NR_RCPT},
    [MILTER_STEP_DATA] = {"DATA", MILTER_NO_DATA, MILTER_NR_DATA},
    [MILTER_STEP_HEADERS] = {"header", MILTER_NO_HEADERS, MILTER_NR_HEADERS},
    [MILTER_STEP_END_OF_HEADERS] = {"end of headers", MILTER_NO_END_OF_HEADERS, MILTER_NR_END_OF_HEADERS},
    [MILTER_STEP_BODY] = {"body", MILTER_NO_BODY, MILTER_NR_BODY},
    [MILTER_STEP_END_OF_MESSAGE] = {"end of message", 0, 0},
};

const char *milter_step_stage(enum milter_step step) {
  return milter_steps[step].stage;
}

static void milter_add_string(struct buffer *data, const char *text) {
  buffer_add(data, text, strlen(text) + 1);
}

/* Macros of a stage, then the command; pairs ends with NULL. */
static void milter_add_macros(struct milter *milter, char command, const char *const *pairs) {
  struct buffer data = BUFFER_WITH_MAXIMUM(MILTER_OUTPUT_MAX);
  buffer_add_u8(&data, (uint8_t)command);
  for (; *pairs; pairs++) milter_add_string(&data, *pairs);
  buffer_fail(&milter->output, &data);
  milter_add_packet(&milter->output, MILTER_COMMAND_MACRO, data.data, data.size);
  buffer_release(&data);
}

static void milter_add_negotiation(struct milter *milter) {
  struct buffer data = BUFFER_WITH_MAXIMUM(64);
  buffer_add_u32(&data, MILTER_VERSION);
  buffer_add_u32(&data, MILTER_ACTIONS);
  buffer_add_u32(&data, MILTER_STEPS);
  buffer_fail(&milter->output, &data);
  milter_add_packet(&milter->output, MILTER_COMMAND_NEGOTIATE, data.data, data.size);
  buffer_release(&data);
}

static void milter_add_connect(struct milter *milter) {
  static const char *const macros[] = {"j", "localhost", "{daemon_name}", "dkimroll", NULL};
  static const char data[] =
      "localhost\0004\000\031127.0.0.1"; /* host, family "4", port 25, address, each NUL in its place */
  milter_add_macros(milter, MILTER_COMMAND_CONNECT, macros);
  milter_add_packet(&milter->output, MILTER_COMMAND_CONNECT, data, sizeof(data));
}

static void milter_add_mail(struct milter *milter) {
  const char *const macros[] = {"i",           milter->message->queue_id, "{auth_type}",
                                "PLAIN",       "{auth_authen}",           "dkimroll",
                                "{mail_addr}", milter->message->sender,   NULL};
  milter_add_macros(milter, MILTER_COMMAND_MAIL, macros);
  CLEANUP_FREE char *data = text_format("<%s>", milter->message->sender);
  if (!data)
    buffer_fail(&milter->output, NULL);
  else
    milter_add_packet(&milter->output, MILTER_COMMAND_MAIL, data, strlen(data) + 1);
}

static void milter_add_rcpt(struct milter *milter) {
  CLEANUP_FREE char *data = text_format("<%s>", milter->message->recipient);
  if (!data)
    buffer_fail(&milter->output, NULL);
  else
    milter_add_packet(&milter->output, MILTER_COMMAND_RCPT, data, strlen(data) + 1);
}

static void milter_add_header(struct milter *milter) {
  const struct milter_header *header = &milter->message->headers[milter->header++];
  struct buffer data = BUFFER_WITH_MAXIMUM(MILTER_OUTPUT_MAX);
  milter_add_string(&data, header->name);
  if (milter->steps & MILTER_LEADING_SPACE) buffer_add_text(&data, " ");
  milter_add_string(&data, header->value);
  buffer_fail(&milter->output, &data);
  milter_add_packet(&milter->output, MILTER_COMMAND_HEADER, data.data, data.size);
  buffer_release(&data);
}

static void milter_add_step(struct milter *milter) {
  static const char helo[] = "localhost";
  switch (milter->step) {
  case MILTER_STEP_NEGOTIATE: milter_add_negotiation(milter); break;
  case MILTER_STEP_CONNECT: milter_add_connect(milter); break;
  case MILTER_STEP_HELO: milter_add_packet(&milter->output, MILTER_COMMAND_HELO, helo, sizeof(helo)); break;
  case MILTER_STEP_READY: break;
  case MILTER_STEP_MAIL: milter_add_mail(milter); break;
  case MILTER_STEP_RCPT: milter_add_rcpt(milter); break;
  case MILTER_STEP_DATA: milter_add_packet(&milter->output, MILTER_COMMAND_DATA, NULL, 0); break;
  case MILTER_STEP_HEADERS: milter_add_header(milter); break;
  case MILTER_STEP_END_OF_HEADERS: milter_add_packet(&milter->output, MILTER_COMMAND_END_OF_HEADERS, NULL, 0); break;
  case MILTER_STEP_BODY:
    milter_add_packet(&milter->output, MILTER_COMMAND_BODY, milter->message->body, strlen(milter->message->body));
    break;
  case MILTER_STEP_END_OF_MESSAGE: milter_add_packet(&milter->output, MILTER_COMMAND_END_OF_MESSAGE, NULL, 0); break;
  }
}

/* Writes what the socket takes, and waits for room for the rest. */
static void milter_flush(struct milter *milter) {
  if (milter->output.failed) {
    if (milter->output.no_memory)
      error_set(&milter->failure, ERROR_NO_MEMORY, "milter %s: out of memory", milter->address);
    else
      error_set(&milter->failure, ERROR_LIMIT, "milter %s: a message of more than %d octets", milter->address, MILTER_OUTPUT_MAX);
    milter_fail_later(milter);
    return;
  }
  while (milter->connected && milter->output.size > 0) {
    ssize_t sent = stream_write(milter->stream, milter->output.data, milter->output.size);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (sent < 0) {
      milter_fail_errno(milter, errno, "connection lost");
      return;
    }
    buffer_consume(&milter->output, (size_t)sent);
  }
  bool waiting = !milter->connected || milter->output.size > 0;
  milter_watch(milter, waiting ? LOOP_READABLE | LOOP_WRITABLE : LOOP_READABLE);
}

void milter_can_write(struct milter *milter) {
  if (!milter->connected) {
    int failure = stream_connected(milter->stream);
    if (failure == EINPROGRESS) return;
    if (failure) {
      milter_fail_errno(milter, failure, "cannot connect");
      return;
    }
    milter->connected = true;
  }
  milter_flush(milter);
}

static bool milter_step_has_more(const struct milter *milter) {
  return milter->step == MILTER_STEP_HEADERS && milter->header < milter->message->header_count;
}

static void milter_next_step(struct milter *milter) {
  if (!milter_step_has_more(milter)) milter->step++;
}

static bool milter_step_is_wanted(const struct milter *milter) {
  if (milter->steps & milter_steps[milter->step].unwanted) return false;
  return milter->step != MILTER_STEP_HEADERS || milter_step_has_more(milter);
}

/* Sends commands from the present step on, until one that has a reply. */
void milter_send_steps(struct milter *milter) {
  for (;;) {
    if (milter->step == MILTER_STEP_READY) break;
    if (!milter_step_is_wanted(milter)) {
      milter->step++;
      continue;
    }
    milter_add_step(milter);
    if (!(milter->steps & milter_steps[milter->step].silent)) break;
    milter_next_step(milter);
  }
  milter->replies = 0;
  milter->ready = milter->step == MILTER_STEP_READY;
  milter_flush(milter);
}

void milter_go_on(struct milter *milter) {
  milter_next_step(milter);
  milter_send_steps(milter);
}
