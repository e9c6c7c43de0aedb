#include "dkimroll/cleanup.h"
#include "dkimroll/command_run.h"
#include "dkimroll/opendkim_reload.h"
#include "dkimroll/text.h"

enum { COMMAND_OUTPUT_SHOWN = 600 }; /* octets of output that fit into an error beside the rest */

static const char *reload_command_output(const struct command_result *ended, char buffer[COMMAND_OUTPUT_SHOWN]) {
  size_t size = ended->output.size;
  const char *text = ended->output.data ? (const char *)ended->output.data : "";
  while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == ' ')) size--;
  if (size == 0) return "no output";
  return text_printable(text, size, buffer, COMMAND_OUTPUT_SHOWN);
}

static int reload_command_judge(const char *name, const struct command_result *ended, struct error *error) {
  char output[COMMAND_OUTPUT_SHOWN];
  if (ended->end == COMMAND_EXITED && ended->status == 0) return 0;
  if (ended->end == COMMAND_TIMED_OUT) {
    error_set(error, ERROR_TIMEOUT, "reload command %s: did not end in time and was killed: %s", name, reload_command_output(ended, output));
    error_remedy(error, "find out what it waits for, or raise `timeout` of the signer's `reload` in the policy");
    return ERROR_TIMEOUT;
  }
  error_set(error, ERROR_REFUSED, "reload command %s: %s %d: %s", name, ended->end == COMMAND_EXITED ? "exit status" : "ended by signal",
            ended->status, reload_command_output(ended, output));
  error_remedy(error, "run it by hand as the user of dkimroll's keeper, and repair what it reports");
  return ERROR_REFUSED;
}

int reload_command(char *const *command, bool probe, int64_t deadline, struct error *error) {
  CLEANUP(command_result_release) struct command_result ended = {0};
  const struct command_request request = {.argv = command, .output_max = RELOAD_OUTPUT_MAX, .together = true, .deadline = deadline};
  struct error reason = {0};
  const int result = probe ? command_probe(command, &reason) : command_run(&request, &ended, &reason);
  if (result == 0) return probe ? 0 : reload_command_judge(command[0], &ended, error);
  error_context(&reason, "reload command");
  if (error) *error = reason;
  return result;
}
