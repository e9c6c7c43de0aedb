#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/session.h"
#include "dkimroll/wake.h"

int cli_command_reload(const struct cli *cli) {
  CLEANUP(session_release) struct session session = {.cli = cli};
  CLEANUP_FREE char *text = NULL;
  struct error error = {0};
  int status = EX_OK;
  int result = session_find_state(&session, &error);
  if (!result) result = session_drop(&session, &error);
  if (!result) result = wake_reload(session.state, &status, &text, &error);
  if (result) return cli_report(cli, &error);
  FILE *out = status == EX_OK ? cli->out : cli->err;
  fputs(text, out);
  if (!text[0] || text[strlen(text) - 1] != '\n') fputc('\n', out);
  if (status != EX_OK) fputs("dkimroll: nothing was changed: the daemon goes on with the policy that it has\n", cli->err);
  return status;
}
