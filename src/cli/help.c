#include "dkimroll/cleanup.h"
#include "dkimroll/cli.h"

static const struct {
  enum cli_option option;
  const char *name, *value, *summary;
} options[] = {
    {CLI_POLICY, "--policy", "FILE", "the policy, default " CLI_POLICY_DEFAULT " (also -p)"},
    {CLI_JSON, "--json", NULL, "for programs"},
    {CLI_NO_WAIT, "--no-wait", NULL, "do what can be done at once, wait for nothing"},
    {CLI_UNTIL, "--until", "DATE", "2026-12-31 or 2026-12-31T08:00:00Z, in UTC"},
    {CLI_REASON, "--reason", "TEXT", "goes into the history"},
    {CLI_BUDGET, "--budget", "TIME", "how long to wait for what comes next, default 2m"},
    {CLI_ALL_ACTIVE, "--all-active", NULL, "every active key of every domain"},
    {CLI_HOST_COMPROMISED, "--host-compromised", NULL, "every living key of the domain: all private keys lie on this host"},
    {CLI_NOW, "--now", NULL, "revoke at once even if no other key is ready: mail goes out unsigned until one is"},
    {CLI_YES, "--yes", NULL, "do not ask"},
    {CLI_APPLY, "--apply", NULL, "do it; without it nothing is changed"},
    {CLI_KEEPER, "--keeper", "PATH", "the keeper's socket; without it the keeper of the default policy, or one of its own"},
    {CLI_WAVE, "--wave", NULL, "of all domains: begin new keys again, and switch"},
    {CLI_ONLY_ACTIVATION, "--only-activation", NULL, "the next key is made and waits; nothing else is held"},
    {CLI_HELP, "--help", NULL, "this text (also -h)"},
};

void cli_print_help(FILE *out) {
  fputs("dkimroll rotates DKIM keys: it publishes, waits until every server serves them, switches the signer, proves it, and retires\n"
        "the old ones in time.\n\nUsage: dkimroll COMMAND [OPTIONS] [DOMAIN...]\n\nCommands:\n",
        out);
  for (size_t i = 0; i < cli_command_count; i++) fprintf(out, "  %-11s %s\n", cli_commands[i].name, cli_commands[i].summary);
  fputs("\n  dkimroll COMMAND --help tells the options of a command; --version the version.\n\n"
        "Exit status (sysexits.h): 0 done, 64 usage, 65 bad input, 66 no such domain or file, 69 a server or signer said no,\n"
        "70 a defect of dkimroll, 71 the system, 74 the output could not be written,\n"
        "75 try again later (something failed that may work next time), 77 rights, 78 the policy. See dkimroll(8), dkimroll-policy(5).\n",
        out);
}

void cli_print_command_help(FILE *out, const struct cli_command *command) {
  fprintf(out, "Usage: dkimroll %s [OPTIONS]%s%s\n\n%s\n\nOptions:\n", command->name, command->operands[0] ? " " : "", command->operands,
          command->summary);
  for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
    if (!(command->options & options[i].option)) continue;
    fprintf(out, "  %-10s %-5s %s\n", options[i].name, options[i].value ? options[i].value : "", options[i].summary);
  }
}

static void print_words(FILE *out, const struct cli_command *command) {
  const char *separator = "";
  for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
    if (!(command->options & options[i].option)) continue;
    fprintf(out, "%s%s", separator, options[i].name);
    separator = " ";
  }
}

void cli_print_completion(FILE *out) {
  fputs("# bash completion for dkimroll, made by `dkimroll completion`\n_dkimroll() {\n"
        "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
        "  case $before in --policy | -p | --keeper) COMPREPLY=($(compgen -f -- \"$word\")); return ;; esac\n"
        "  if ((COMP_CWORD == 1)); then\n    COMPREPLY=($(compgen -W \"",
        out);
  for (size_t i = 0; i < cli_command_count; i++) fprintf(out, "%s ", cli_commands[i].name);
  fputs("--help --version\" -- \"$word\"))\n    return\n  fi\n  local words=\n  case ${COMP_WORDS[1]} in\n", out);
  for (size_t i = 0; i < cli_command_count; i++) {
    fprintf(out, "    %s) words='", cli_commands[i].name);
    print_words(out, &cli_commands[i]);
    fputs("'", out);
    if (cli_commands[i].operands[0]) fputs("; [[ $word == -* ]] || words+=\" $(dkimroll status --json 2>/dev/null | sed -n 's/.*\"domain\": *\"\\([^\"]*\\)\".*/\\1/p' | sort -u)\"", out);
    fputs(" ;;\n", out);
  }
  fputs("  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\ncomplete -F _dkimroll dkimroll\n", out);
}
