#include <errno.h>
#include <stdlib.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/milter_connection.h"
#include "dkimroll/text.h"

static void milter_stop_watching(struct milter *milter) {
  /* To watch nothing cannot fail. */
  if (milter->stream && stream_watch(milter->stream, 0) < 0) stream_close(&milter->stream);
  loop_cancel(milter->loop, &milter->timer);
}

/* The last words on a failed connection; the owner frees it in the call. */
static void milter_report_failure(void *context) {
  struct milter *milter = context;
  milter->failing = NULL;
  milter_stop_watching(milter);
  milter->event(milter->context, NULL, &milter->failure);
}

void milter_fail_later(struct milter *milter) {
  if (milter->failing) return;
  /* Without memory for the call, the timer tries again at the deadline. */
  if (loop_defer(milter->loop, milter_report_failure, milter, &milter->failing) == 0) milter_stop_watching(milter);
}

static void milter_explain_unreachable(struct milter *milter) {
  error_remedy(&milter->failure,
               "is opendkim running? Compare milter of the signer in the policy with Socket in opendkim.conf");
}

void milter_fail_errno(struct milter *milter, int failure, const char *what) {
  error_set_errno(&milter->failure, failure, "milter %s: %s", milter->address, what);
  if (failure == ENOENT)
    error_set(&milter->failure, ERROR_UNREACHABLE, "milter %s: there is no such socket", milter->address);
  if (failure == EAGAIN)
    error_set(&milter->failure, ERROR_BUSY, "milter %s: its queue of new connections is full", milter->address);
  if (milter->failure.code == ERROR_UNREACHABLE) milter_explain_unreachable(milter);
  if (milter->failure.code == ERROR_PERMISSION)
    error_remedy(&milter->failure, "give dkimroll's user access to that socket: UMask in opendkim.conf, and its group");
  milter_fail_later(milter);
}

void milter_fail_memory(struct milter *milter) {
  error_set(&milter->failure, ERROR_NO_MEMORY, "milter %s: out of memory", milter->address);
  milter_fail_later(milter);
}

void milter_fail_protocol(struct milter *milter, const char *what) {
  error_set(&milter->failure, ERROR_PROTOCOL, "milter %s: %s (%s)", milter->address, what,
            milter_step_stage(milter->step));
  error_remedy(
      &milter->failure,
      "is that address really a milter? Compare milter of the signer in the policy with Socket in opendkim.conf");
  milter_fail_later(milter);
}

static void milter_timer(void *context) {
  struct milter *milter = context;
  milter->timer = NULL;
  error_set(&milter->failure, ERROR_TIMEOUT, "milter %s: no answer in time (%s)", milter->address,
            milter->connected ? milter_step_stage(milter->step) : "connecting");
  error_remedy(&milter->failure,
               "see the log of opendkim (journalctl -u opendkim): it may be overloaded, or wait for DNS");
  milter_fail_later(milter);
}

static void milter_happened(void *context, unsigned events) {
  struct milter *milter = context;
  if (!milter->connected || (events & LOOP_WRITABLE)) milter_can_write(milter);
  if (milter->connected && milter->failure.code == 0 && (events & (LOOP_READABLE | LOOP_HANGUP)))
    milter_can_read(milter);
}

void milter_watch(struct milter *milter, unsigned events) {
  if (stream_watch(milter->stream, events) < 0) milter_fail_memory(milter);
}

static void cleanup_milter(struct milter **milter) {
  milter_close(*milter);
}

static int milter_connect(struct milter *milter, struct connector *connector, const struct connector_request *request,
                          struct error *error) {
  struct error reason;
  int result = connector_open(connector, request, &milter->stream, &reason);
  if (result < 0) {
    error_context(&reason, "milter %s", milter->address);
    if (error) *error = reason;
    return result;
  }
  int failure = stream_connected(milter->stream);
  if (failure == 0)
    milter->connected = true;
  else if (failure != EINPROGRESS)
    milter_fail_errno(milter, failure, "cannot connect");
  return 0;
}

int milter_open(struct connector *connector, const char *address, int64_t deadline, milter_event *event, void *context,
                struct milter **ret_milter, struct error *error) {
  struct sockaddr_storage parsed;
  socklen_t size = 0;
  int result = milter_parse_address(address, &parsed, &size, error);
  if (result < 0) return result;
  CLEANUP(cleanup_milter) struct milter *milter = calloc(1, sizeof(*milter));
  if (!milter) return error_set(error, ERROR_NO_MEMORY, "milter %s: out of memory", address);
  milter->loop = connector->loop;
  milter->event = event;
  milter->context = context;
  milter->input = BUFFER_WITH_MAXIMUM(MILTER_INPUT_MAX);
  milter->output = BUFFER_WITH_MAXIMUM(MILTER_OUTPUT_MAX);
  milter->address = text_duplicate(address);
  if (!milter->address) return error_set(error, ERROR_NO_MEMORY, "milter %s: out of memory", address);
  result =
      milter_connect(milter, connector, &(struct connector_request){&parsed, size, milter_happened, milter}, error);
  if (result < 0) return result;
  if (milter->failure.code == 0) {
    if (loop_at(milter->loop, deadline, milter_timer, milter, &milter->timer) < 0)
      return error_set(error, ERROR_NO_MEMORY, "milter %s: out of memory", address);
    milter_send_steps(milter);
  }
  /* A failure that cannot be reported later is reported now. */
  if (milter->failure.code && !milter->failing)
    return error_set(error, ERROR_NO_MEMORY, "milter %s: out of memory", address);
  *ret_milter = TAKE_PTR(milter);
  return 0;
}

void milter_send(struct milter *milter, const struct milter_message *message) {
  milter_forget_answer(milter);
  milter->message = message;
  milter->header = 0;
  if (milter->abort_due) milter_add_packet(&milter->output, MILTER_COMMAND_ABORT, NULL, 0);
  milter->abort_due = false;
  milter->step = MILTER_STEP_MAIL;
  milter_send_steps(milter);
}

void milter_close(struct milter *milter) {
  if (!milter) return;
  milter_stop_watching(milter);
  loop_cancel(milter->loop, &milter->failing);
  if (milter->stream && milter->connected && milter->output.size == 0 && milter->failure.code == 0) {
    milter_add_packet(&milter->output, MILTER_COMMAND_QUIT, NULL, 0);
    /* A courtesy: without it OpenDKIM notes a lost connection. */
    if (stream_write(milter->stream, milter->output.data, milter->output.size) < 0) buffer_reset(&milter->output);
  }
  stream_close(&milter->stream);
  milter_forget_answer(milter);
  buffer_release(&milter->input);
  buffer_release(&milter->output);
  free(milter->address);
  free(milter);
}
