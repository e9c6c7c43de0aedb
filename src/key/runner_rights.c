#include "dkimroll/runner.h"

#include <stdlib.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

static void runner_command_release(struct runner_command *command) {
  free(command->name);
  for (size_t i = 0; command->argv && command->argv[i]; i++) free(command->argv[i]);
  free(command->argv);
}

void runner_rights_release(struct runner_rights *rights) {
  if (!rights) return;
  for (size_t i = 0; i < rights->count; i++) runner_command_release(&rights->commands[i]);
  free(rights->commands);
  *rights = (struct runner_rights){0};
}

static int runner_command_copy(struct runner_command *command, const struct runner_command *from, const char *const *words, size_t word_count,
                               struct error *error) {
  *command = (struct runner_command){.purpose = from->purpose, .timeout = from->timeout, .name = text_duplicate(from->name)};
  command->argv = calloc(word_count + 1, sizeof(char *));
  bool complete = command->name && command->argv;
  for (size_t i = 0; i < word_count && complete; i++) complete = (command->argv[i] = text_duplicate(words[i])) != NULL;
  return complete ? 0 : error_set(error, ERROR_NO_MEMORY, "out of memory for the runner's commands");
}

int runner_allow(struct runner_rights *rights, const struct runner_command *command, const char *const *words, size_t word_count,
                 struct error *error) {
  if (rights->count == RUNNER_COMMANDS_MAX) return error_set(error, ERROR_LIMIT, "the policy names more than %d commands", RUNNER_COMMANDS_MAX);
  for (size_t i = 0; i < rights->count; i++)
    if (rights->commands[i].purpose == command->purpose && text_equal(rights->commands[i].name, command->name))
      return error_set(error, ERROR_EXISTS, "there are two commands of %s", command->name);
  struct runner_command *grown = reallocarray(rights->commands, rights->count + 1, sizeof(*grown));
  if (!grown) return error_set(error, ERROR_NO_MEMORY, "out of memory for the runner's commands");
  rights->commands = grown;
  struct runner_command copy;
  const int result = runner_command_copy(&copy, command, words, word_count, error);
  if (result < 0)
    runner_command_release(&copy);
  else
    grown[rights->count++] = copy;
  return result;
}

int runner_allow_policy(struct runner_rights *rights, const struct policy *policy, struct error *error) {
  int result = 0;
  for (size_t i = 0; i < policy->publisher_count && result == 0; i++) {
    const struct policy_publisher *publisher = &policy->publishers[i];
    const struct runner_command publish = {.purpose = RUNNER_PUBLISH, .name = publisher->name, .timeout = publisher->timeout};
    const struct runner_command reload = {.purpose = RUNNER_RELOAD_ZONE, .name = publisher->name, .timeout = publisher->timeout};
    if (publisher->command_count > 0)
      result = runner_allow(rights, &publish, (const char *const *)publisher->command, publisher->command_count, error);
    if (result == 0 && publisher->reload_command_count > 0)
      result = runner_allow(rights, &reload, (const char *const *)publisher->reload_command, publisher->reload_command_count, error);
  }
  const struct policy_hooks *hooks = &policy->hooks;
  const struct runner_command transition = {.purpose = RUNNER_HOOK, .name = (char *)"transition", .timeout = hooks->timeout};
  const struct runner_command needs_person = {.purpose = RUNNER_HOOK, .name = (char *)"needs-person", .timeout = hooks->timeout};
  if (result == 0 && hooks->transition_count > 0)
    result = runner_allow(rights, &transition, (const char *const *)hooks->transition, hooks->transition_count, error);
  if (result == 0 && hooks->needs_person_count > 0)
    result = runner_allow(rights, &needs_person, (const char *const *)hooks->needs_person, hooks->needs_person_count, error);
  return result;
}
