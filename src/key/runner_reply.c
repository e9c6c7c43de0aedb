/* What comes back of a command that the runner ran. */
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/runner.h"
#include "dkimroll/text.h"

enum { REASON_SHOWN_MAX = 400 }; /* octets of the program's own words in an error */

void runner_reply_write(struct buffer *reply, const struct command_result *result) {
  buffer_add_u8(reply, (uint8_t)result->end);
  buffer_add_u32(reply, (uint32_t)result->status);
  buffer_add_field(reply, result->output.data, result->output.size);
  buffer_add_field(reply, result->errors.data, result->errors.size);
}

/* Caller frees; NULL: out of memory. */
static char *make_text(const uint8_t *octets, size_t size) {
  char *text = malloc(size + 1);
  if (!text) return NULL;
  for (size_t i = 0; i < size; i++) text[i] = octets[i] != '\0' ? (char)octets[i] : '?';
  text[size] = '\0';
  return text;
}

void runner_reply_release(struct runner_reply *reply) {
  if (!reply) return;
  free(reply->output);
  free(reply->errors);
  *reply = (struct runner_reply){0};
}

int runner_reply_read(const uint8_t *reply, size_t reply_size, struct runner_reply *ret_reply, struct error *error) {
  struct reader reader = {.data = reply, .size = reply_size};
  struct runner_reply read = {.end = (enum command_end)reader_u8(&reader)};
  size_t output_size = 0;
  size_t errors_size = 0;
  read.status = (int)reader_u32(&reader);
  const uint8_t *output = reader_field(&reader, &output_size);
  const uint8_t *errors = reader_field(&reader, &errors_size);
  const bool known = read.end == COMMAND_EXITED || read.end == COMMAND_SIGNALLED || read.end == COMMAND_TIMED_OUT;
  if (reader.failed || reader.position != reader.size || !known) return error_set(error, ERROR_PROTOCOL, "the runner does not say how a command ended");
  read.output = make_text(output, output_size);
  read.errors = make_text(errors, errors_size);
  if (!read.output || !read.errors) {
    runner_reply_release(&read);
    return error_set(error, ERROR_NO_MEMORY, "out of memory for what a command said");
  }
  *ret_reply = read;
  return 0;
}

/* The first line with something in it. */
static void find_reason(const char *errors, char ret_reason[REASON_SHOWN_MAX]) {
  errors += strspn(errors, " \t\r\n");
  const size_t size = strcspn(errors, "\r\n");
  if (size > 0)
    text_printable(errors, size, ret_reason, REASON_SHOWN_MAX);
  else
    text_copy(ret_reason, REASON_SHOWN_MAX, "it wrote no reason to stderr");
}

int runner_reply_judge(const struct runner_reply *reply, const char *what, struct error *error) {
  char reason[REASON_SHOWN_MAX];
  if (reply->end == COMMAND_EXITED && reply->status == 0) return 0;
  find_reason(reply->errors, reason);
  if (reply->end == COMMAND_TIMED_OUT) {
    error_set(error, ERROR_TIMEOUT, "%s: the command did not end in time and was ended: %s", what, reason);
    error_remedy(error, "find out what it waits for, or raise its timeout in the policy");
    return ERROR_TIMEOUT;
  }
  if (reply->end == COMMAND_EXITED && reply->status == RUNNER_TEMPFAIL) return error_set(error, ERROR_BUSY, "%s: %s", what, reason);
  error_set(error, ERROR_REFUSED, "%s: %s (%s %d)", what, reason, reply->end == COMMAND_EXITED ? "exit status" : "ended by signal", reply->status);
  error_remedy(error, "run the command by hand as dkimroll's user, and repair what it reports");
  return ERROR_REFUSED;
}
