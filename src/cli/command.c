#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/cli.h"
#include "dkimroll/text.h"

/* What every command takes, and what those take that work with private keys, tables and reloads. */
enum { ALWAYS = CLI_POLICY | CLI_HELP, WORKS = ALWAYS | CLI_KEEPER };

const struct cli_command cli_commands[] = {
    {"run", "", "do everything that is due, wait a little for what comes next, and end: the timer's job", WORKS | CLI_BUDGET, 0, 0,
     cli_command_run},
    {"rotate", "DOMAIN...", "make a new key now and drive it as far as it can go", WORKS | CLI_NO_WAIT | CLI_BUDGET, 1, CLI_DOMAINS_MAX,
     cli_command_rotate},
    {"status", "[DOMAIN...]", "is everything all right? every key, its state, its next step, and what it waits for", ALWAYS | CLI_JSON, 0,
     CLI_DOMAINS_MAX, cli_command_status},
    {"plan", "[DOMAIN...]", "what will happen and when, by the real planner on a virtual clock", ALWAYS | CLI_UNTIL | CLI_JSON, 0,
     CLI_DOMAINS_MAX, cli_command_plan},
    {"check", "[DOMAIN...]", "try everything that a rotation needs: policy, files, rights, DNS, signers", WORKS, 0, CLI_DOMAINS_MAX,
     cli_command_check},
    {"prove", "[DOMAIN...]", "does every signer sign with the active key, and does that verify with what every name server serves?",
     WORKS | CLI_JSON, 0, CLI_DOMAINS_MAX, cli_command_prove},
    {"import", "[DOMAIN...]", "what signs today, and what would be taken over of it; with --apply it is", WORKS | CLI_APPLY, 0, CLI_DOMAINS_MAX,
     cli_command_import},
    {"hold", "DOMAIN...", "no new key, no switch, no deletion until release", WORKS | CLI_REASON | CLI_UNTIL | CLI_ONLY_ACTIVATION, 1,
     CLI_DOMAINS_MAX, cli_command_hold},
    {"release", "DOMAIN...", "end a hold; with --wave let a stopped wave of rotations go on", WORKS | CLI_REASON | CLI_WAVE, 0, CLI_DOMAINS_MAX,
     cli_command_release},
    {"forget", "DOMAIN...", "stop watching a domain that is gone from the policy; nothing is deleted", WORKS | CLI_REASON, 1,
     CLI_DOMAINS_MAX, cli_command_forget},
    {"revoke", "SELECTOR|DOMAIN...", "a private key may be in other hands: another key signs, and the record says so, at once",
     WORKS | CLI_REASON | CLI_ALL_ACTIVE | CLI_HOST_COMPROMISED | CLI_NOW | CLI_YES | CLI_NO_WAIT | CLI_BUDGET, 0, CLI_DOMAINS_MAX, cli_command_revoke},
    {"daemon", "", "do everything that is due, and stay: in the place of run and its timer", WORKS, 0, 0, cli_command_daemon},
    {"reload", "", "let the daemon read the policy again", ALWAYS, 0, 0, cli_command_reload},
    {"units", "", "drop-ins for the units: what the policy's paths need; with --apply they are written", ALWAYS | CLI_APPLY, 0, 0, cli_command_units},
    {"history", "[DOMAIN...]", "everything that happened, with reasons", ALWAYS | CLI_JSON, 0, CLI_DOMAINS_MAX, cli_command_history},
    {"metrics", "", "what is known, as metrics for Prometheus", ALWAYS, 0, 0, cli_command_metrics},
    {"keeper", "", "serve one connection to dkimroll-keeper.socket: started by systemd, not by hand", ALWAYS, 0, 0, cli_command_keeper},
    {"completion", "", "print the completion for bash", CLI_HELP, 0, 0, cli_command_completion},
};
const size_t cli_command_count = ARRAY_SIZE(cli_commands);

int cli_exit_status(int code) {
  static const struct {
    int code, status;
  } rows[] = {
      {0, EX_OK},
      {ERROR_CONFIG, EX_CONFIG},
      {ERROR_PERMISSION, EX_NOPERM},
      {ERROR_INVALID, EX_DATAERR},
      {ERROR_NOT_FOUND, EX_NOINPUT},
      {ERROR_BUSY, EX_TEMPFAIL},
      {ERROR_TIMEOUT, EX_TEMPFAIL},
      {ERROR_UNREACHABLE, EX_UNAVAILABLE},
      {ERROR_NO_ROUTE, EX_UNAVAILABLE},
      {ERROR_REFUSED, EX_UNAVAILABLE},
      {ERROR_CONFLICT, EX_UNAVAILABLE},
      {ERROR_PROOF, EX_UNAVAILABLE},
      {ERROR_SYSTEM, EX_OSERR},
      {ERROR_NO_MEMORY, EX_OSERR},
      {ERROR_LIMIT, EX_DATAERR},
      {ERROR_EXISTS, EX_UNAVAILABLE},
      {ERROR_PROTOCOL, EX_UNAVAILABLE},
      {ERROR_CANCELLED, EX_TEMPFAIL},
      {ERROR_INTERNAL, EX_SOFTWARE},
  };
  for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
    if (rows[i].code == code) return rows[i].status;
  return EX_SOFTWARE;
}

int cli_report(const struct cli *cli, const struct error *error) {
  fprintf(cli->err, "dkimroll: %s\n", error->message);
  if (error->remedy[0]) fprintf(cli->err, "dkimroll: remedy: %s\n", error->remedy);
  return cli_exit_status(error->code);
}

int cli_command_completion(const struct cli *cli) {
  cli_print_completion(cli->out);
  return EX_OK;
}

static const struct cli_command *find_command(const char *name) {
  for (size_t i = 0; i < cli_command_count; i++)
    if (text_equal(cli_commands[i].name, name)) return &cli_commands[i];
  return NULL;
}

static int usage(const char *what, const char *subject) {
  fprintf(stderr, "dkimroll: %s%s%s\n", what, subject ? ": " : "", subject ? subject : "");
  fprintf(stderr, "dkimroll: remedy: `dkimroll --help` lists the commands\n");
  return EX_USAGE;
}

static const struct option long_options[] = {
    {"policy", required_argument, NULL, CLI_POLICY}, {"json", no_argument, NULL, CLI_JSON},
    {"no-wait", no_argument, NULL, CLI_NO_WAIT},     {"until", required_argument, NULL, CLI_UNTIL},
    {"reason", required_argument, NULL, CLI_REASON}, {"budget", required_argument, NULL, CLI_BUDGET},
    {"apply", no_argument, NULL, CLI_APPLY},         {"help", no_argument, NULL, CLI_HELP},
    {"keeper", required_argument, NULL, CLI_KEEPER},
    {"only-activation", no_argument, NULL, CLI_ONLY_ACTIVATION},
    {"wave", no_argument, NULL, CLI_WAVE},
    {"all-active", no_argument, NULL, CLI_ALL_ACTIVE},
    {"host-compromised", no_argument, NULL, CLI_HOST_COMPROMISED}, {"now", no_argument, NULL, CLI_NOW},
    {"yes", no_argument, NULL, CLI_YES},
    {NULL, 0, NULL, 0},
};

/* It is shown as it is, on terminals too. */
static bool is_reason(const char *text) {
  for (const char *at = text; *at; at++)
    if (text_is_control(at)) return false;
  return strlen(text) <= CLI_REASON_MAX;
}

/* 0, or the exit status. */
static int take_option(int option, const char *value, struct cli_arguments *arguments) {
  switch (option) {
  case CLI_POLICY: arguments->policy = value; return 0;
  case CLI_KEEPER: arguments->keeper = value; return 0;
  case CLI_JSON: arguments->json = true; return 0;
  case CLI_APPLY: arguments->apply = true; return 0;
  case CLI_WAVE: arguments->wave = true; return 0;
  case CLI_ONLY_ACTIVATION: arguments->only_activation = true; return 0;
  case CLI_NO_WAIT: arguments->no_wait = true; return 0;
  case CLI_ALL_ACTIVE: arguments->all_active = true; return 0;
  case CLI_HOST_COMPROMISED: arguments->host_compromised = true; return 0;
  case CLI_NOW: arguments->now = true; return 0;
  case CLI_YES: arguments->yes = true; return 0;
  case CLI_REASON:
    arguments->reason = value;
    if (is_reason(value)) return 0;
    fprintf(stderr, "dkimroll: --reason takes at most %d octets in one line\n", CLI_REASON_MAX);
    fprintf(stderr, "dkimroll: remedy: write a shorter one, with a reference to where the rest stands\n");
    return EX_USAGE;
  case CLI_UNTIL:
    if (time_parse(value, &arguments->until)) return 0;
    return usage("--until takes a date like 2026-12-31 or 2026-12-31T08:00:00Z (UTC), not", value);
  case CLI_BUDGET:
    if (duration_parse(value, &arguments->budget)) return 0;
    return usage("--budget takes a duration like 2m, not", value);
  default: return EX_USAGE;
  }
}

/* 0: go on; -1: help was printed; else the exit status. */
static int parse(const struct cli_command *command, int argc, char *const *argv, struct cli_arguments *arguments) {
  int option;
  optind = 1;
  while ((option = getopt_long(argc, argv, "p:h", long_options, NULL)) != -1) {
    if (option == '?') return EX_USAGE;
    if (option == 'p') option = CLI_POLICY;
    if (option == 'h' || option == CLI_HELP) {
      cli_print_command_help(stdout, command);
      return -1;
    }
    if (!(command->options & (unsigned)option)) {
      fprintf(stderr, "dkimroll: %s does not take this option\n", command->name);
      return EX_USAGE;
    }
    int result = take_option(option, optarg, arguments);
    if (result) return result;
  }
  arguments->operands = (const char *const *)argv + optind;
  arguments->operand_count = (size_t)(argc - optind);
  if (arguments->operand_count < command->operands_minimum) return usage("a DOMAIN is missing after", command->name);
  if (arguments->operand_count > command->operands_maximum) {
    fprintf(stderr, "dkimroll: %s takes at most %zu operands, not %zu\n", command->name,
            (size_t)command->operands_maximum, arguments->operand_count);
    return usage("nothing was done", NULL);
  }
  return 0;
}

int cli_main(const struct cli_wiring *wiring, const struct cli_separation *separation, int argc, char *const *argv) {
  struct cli_arguments arguments = {.policy = CLI_POLICY_DEFAULT, .until = TIME_UNSET, .budget = CLI_BUDGET_SECONDS};
  struct cli cli = {.wiring = wiring, .separation = separation, .arguments = &arguments, .out = stdout, .err = stderr};
  if (argc < 2) {
    cli_print_help(stderr);
    return EX_USAGE;
  }
  if (text_equal(argv[1], "--help") || text_equal(argv[1], "-h") || text_equal(argv[1], "help")) {
    cli_print_help(stdout);
    return EX_OK;
  }
  if (text_equal(argv[1], "--version")) {
    printf("dkimroll " DKIMROLL_VERSION "\n");
    return EX_OK;
  }
  const struct cli_command *command = find_command(argv[1]);
  if (!command) {
    const char *names[sizeof cli_commands / sizeof cli_commands[0]];
    for (size_t i = 0; i < cli_command_count; i++) names[i] = cli_commands[i].name;
    const char *nearest = text_nearest(argv[1], names, cli_command_count);
    fprintf(stderr, "dkimroll: there is no command \"%s\"%s%s%s\n", argv[1], nearest ? "; did you mean " : "", nearest ? nearest : "",
            nearest ? "?" : "");
    return usage("nothing was done", NULL);
  }
  int result = parse(command, argc - 1, argv + 1, &arguments);
  if (result) return result < 0 ? EX_OK : result;
  log_open(&cli.log, LOG_LEVEL_INFO);
  result = command->run(&cli);
  if (fflush(stdout) != 0 && result == EX_OK) result = EX_IOERR;
  return result;
}
