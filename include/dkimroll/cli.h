/* The command line: a table of commands, from which help, completion and dispatch are made. Back ends come from the wiring in main. */
#ifndef DKIMROLL_CLI_H
#define DKIMROLL_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "dkimroll/engine.h"
#include "dkimroll/log.h"
#include "dkimroll/policy.h"

enum {
  CLI_BUDGET_SECONDS = 120,       /* how long run and rotate wait for moments to come */
  CLI_DOMAINS_MAX = 1000,         /* operands of one command: all of them are looked up before anything is done */
  CLI_REASON_MAX = 500,           /* octets of a reason, which status and history show in one line */
  CLI_PLAN_DAYS = 180,            /* default look-ahead of plan */
  CLI_CHECK_SECONDS = 60,
};
#define CLI_POLICY_DEFAULT "/etc/dkimroll/policy.yaml"

/* Everything concrete that a command works with. */
struct cli_backends {
  struct loop *loop;
  struct keeper *keeper;
  struct keeper *runner; /* runs the commands that the policy names (runner.h); NULL: it names none */
  struct transport *transport;
  struct connector *connector;
  struct observer *observer;
  struct entropy *entropy;
  struct engine_factory factory;
};

/* What main provides. */
struct cli_wiring {
  int (*open_store)(const char *path, bool read_only, struct store **ret_store, struct error *error);
  /* Forks the keeper with the rights that policy and signers (versions that keys in the store were made with) need. Before anything else exists. */
  int (*start_keeper)(const struct policy *policy, const struct policy_signer *const *signers, size_t signer_count, int *ret_descriptor,
                      pid_t *ret_pid, struct error *error);
  int (*make_backends)(int keeper_descriptor, pid_t keeper_pid, struct cli_backends *ret_backends, struct error *error);
  void (*release_backends)(struct cli_backends *backends);
  /* Forks the runner with the commands that policy names, as whom this process is by now; *ret_descriptor is -1 if it names none. NULL: no runner in this program. */
  int (*start_runner)(const struct policy *policy, int *ret_descriptor, pid_t *ret_pid, struct error *error);
  /* After make_backends: fills in backends->runner, which release_backends releases. The descriptor is taken over, also on failure. */
  int (*connect_runner)(int descriptor, pid_t pid, struct cli_backends *backends, struct error *error);
};

/* The same for the separation of rights. Without it, as in tests, whose process has other plans afterwards, nothing is given up. */
struct cli_separation {
  /* Before start_keeper and serve_keeper: an earlier policy had keys archived there. */
  int (*allow_archive)(const char *directory_template, struct error *error);
  /* This process becomes the keeper of the loop side that is connected by descriptor, with the rights that policy and signers need, and ends with the exit
   * status that is returned. With failure (code not 0) policy is NULL and every job fails with it: so the other side learns what is wrong. */
  int (*serve_keeper)(const struct policy *policy, const struct policy_signer *const *signers, size_t signer_count, int descriptor,
                      const struct error *failure);
  const char *grants_directory; /* what root granted a keeper that commands fork is written there; GRANTS_DIRECTORY_DEFAULT but in tests */
};

/* Options of all commands; each command takes those that its row names. */
enum cli_option {
  CLI_POLICY = 1 << 0,
  CLI_JSON = 1 << 1,
  CLI_NO_WAIT = 1 << 2,
  CLI_UNTIL = 1 << 3,
  CLI_REASON = 1 << 4,
  CLI_BUDGET = 1 << 5,
  CLI_APPLY = 1 << 6,
  CLI_HELP = 1 << 7,
  CLI_KEEPER = 1 << 8,
  CLI_ONLY_ACTIVATION = 1 << 9,
  CLI_WAVE = 1 << 10,
  CLI_ALL_ACTIVE = 1 << 11,
  CLI_HOST_COMPROMISED = 1 << 12,
  CLI_NOW = 1 << 13,
  CLI_YES = 1 << 14,
};

struct cli_arguments {
  const char *policy;
  const char *keeper; /* path of a socket; NULL: not given */
  bool json, no_wait, apply;
  bool only_activation, wave;
  bool all_active, host_compromised, now, yes; /* revoke */
  int64_t until;  /* TIME_UNSET: not given */
  int64_t budget; /* seconds */
  const char *reason;
  const char *const *operands;
  size_t operand_count;
};

struct cli {
  const struct cli_wiring *wiring;
  const struct cli_separation *separation; /* NULL: none */
  const struct cli_arguments *arguments;
  struct log log;
  FILE *out; /* what was asked for */
  FILE *err; /* what went wrong */
};

struct cli_command {
  const char *name;
  const char *operands; /* "[DOMAIN]", "DOMAIN...", "" */
  const char *summary;
  unsigned options; /* of enum cli_option */
  size_t operands_minimum, operands_maximum;
  int (*run)(const struct cli *cli); /* returns the exit status, a sysexit */
};
extern const struct cli_command cli_commands[];
extern const size_t cli_command_count;

/* The program. Returns the exit status. */
int cli_main(const struct cli_wiring *wiring, const struct cli_separation *separation, int argc, char *const *argv);

/* The sysexit for an error code; 0 for 0. */
int cli_exit_status(int code);
/* Prints "dkimroll: message" and the remedy to err; returns the exit status. */
int cli_report(const struct cli *cli, const struct error *error);

/* Bash completion made from the table (cli_help.c), and help. */
void cli_print_help(FILE *out);
void cli_print_command_help(FILE *out, const struct cli_command *command);
void cli_print_completion(FILE *out);

int cli_command_run(const struct cli *cli);
int cli_command_rotate(const struct cli *cli);
int cli_command_status(const struct cli *cli);
int cli_command_plan(const struct cli *cli);
int cli_command_check(const struct cli *cli);
int cli_command_prove(const struct cli *cli);
int cli_command_import(const struct cli *cli);
int cli_command_hold(const struct cli *cli);
int cli_command_release(const struct cli *cli);
int cli_command_forget(const struct cli *cli);
int cli_command_revoke(const struct cli *cli);
int cli_command_history(const struct cli *cli);
int cli_command_metrics(const struct cli *cli);
int cli_command_keeper(const struct cli *cli);
int cli_command_daemon(const struct cli *cli);
int cli_command_reload(const struct cli *cli);
int cli_command_units(const struct cli *cli);
int cli_command_completion(const struct cli *cli);

#endif
