#include "dkimroll/runner.h"

#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/text.h"

static const char variable_prefix[] = "DKIMROLL_";

static int run_refuse(const char *what, struct error *error) { return error_set(error, ERROR_INVALID, "a command for the runner: %s", what); }

/* Nothing that a program could take for an option, a path or a part of a script. */
static bool is_plain_word(const char *word) {
  const size_t size = strlen(word);
  return size <= RUNNER_WORD_MAX && word[0] >= 'a' && word[0] <= 'z' && strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789-") == size;
}

/* LD_PRELOAD and its like would make any program do anything. */
static bool is_variable_name(const char *name) {
  const size_t size = strlen(name);
  return size > strlen(variable_prefix) && size <= RUNNER_WORD_MAX && text_starts(name, variable_prefix) &&
         strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == size;
}

static const struct runner_command *find_command(const struct runner_rights *rights, const struct runner_call *call) {
  for (size_t i = 0; i < rights->count; i++)
    if (rights->commands[i].purpose == call->purpose && text_equal(rights->commands[i].name, call->name)) return &rights->commands[i];
  return NULL;
}

/* The policy's words and the job's one. Caller frees the array alone. NULL: no memory. */
static char **make_argv(const struct runner_command *command, const struct runner_call *call) {
  size_t count = 0;
  while (command->argv[count]) count++;
  char **argv = calloc(count + 2, sizeof(*argv));
  if (!argv) return NULL;
  for (size_t i = 0; i < count; i++) argv[i] = command->argv[i];
  argv[count] = (char *)(uintptr_t)call->word;
  return argv;
}

static void free_texts(char ***texts) {
  for (size_t i = 0; *texts && (*texts)[i]; i++) free((*texts)[i]);
  free(*texts);
}

/* "NAME=value" of each variable, and where systemd put credentials: a provider's tool may need one. NULL: no memory. */
static char **make_environment(const struct runner_call *call) {
  const char *credentials = secure_getenv("CREDENTIALS_DIRECTORY");
  CLEANUP(free_texts) char **environment = calloc(call->variable_count + 2, sizeof(*environment));
  if (!environment) return NULL;
  for (size_t i = 0; i < call->variable_count; i++) {
    environment[i] = text_format("%s=%s", call->variables[i].name, call->variables[i].value);
    if (!environment[i]) return NULL;
  }
  if (credentials) environment[call->variable_count] = text_format("CREDENTIALS_DIRECTORY=%s", credentials);
  return credentials && !environment[call->variable_count] ? NULL : TAKE_PTR(environment);
}

static int refuse_command(const struct runner_call *call, struct error *error) {
  char shown[ERROR_REMEDY_MAX];
  text_printable(call->name, strlen(call->name), shown, sizeof(shown));
  error_set(error, ERROR_PERMISSION, "the policy names no command for %s any more, so none is run", shown);
  error_remedy(error, "put %s back into the policy until the last key that it was used for is removed", shown);
  return ERROR_PERMISSION;
}

static int run_command(const struct runner_command *command, const struct runner_call *call, struct buffer *reply, struct error *error) {
  CLEANUP_FREE char **argv = make_argv(command, call);
  CLEANUP(free_texts) char **environment = make_environment(call);
  CLEANUP(command_result_release) struct command_result result = {0};
  if (!argv || !environment) return error_set(error, ERROR_NO_MEMORY, "out of memory for a command");
  const struct command_request request = {.argv = argv,
                                          .environment = environment,
                                          .input = call->input,
                                          .input_size = call->input_size,
                                          .deadline = clock_boottime() + command->timeout * 1000};
  const int code = command_run(&request, &result, error);
  if (code == 0) runner_reply_write(reply, &result);
  return code;
}

static int runner_run(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  CLEANUP(runner_call_release) struct runner_call_memory memory = {0};
  struct runner_call call;
  const int result = runner_call_read(request, &call, &memory, error);
  if (result < 0) return result;
  const struct runner_command *command = find_command(context, &call);
  return command ? run_command(command, &call, reply, error) : refuse_command(&call, error);
}

size_t runner_handlers(const struct runner_rights *rights, struct keeper_handler *handlers) {
  /* The handler only reads them. */
  handlers[0] = (struct keeper_handler){.job = KEEPER_RUN, .run = runner_run, .context = (void *)(uintptr_t)rights};
  return RUNNER_JOBS_COUNT;
}

void runner_call_write(struct buffer *payload, const struct runner_call *call) {
  buffer_add_u8(payload, (uint8_t)call->purpose);
  buffer_add_text_field(payload, call->name);
  buffer_add_text_field(payload, call->word);
  buffer_add_u32(payload, (uint32_t)call->variable_count);
  for (size_t i = 0; i < call->variable_count; i++) {
    buffer_add_text_field(payload, call->variables[i].name);
    buffer_add_text_field(payload, call->variables[i].value);
  }
  buffer_add_field(payload, call->input, call->input_size);
}

static int read_variables(struct reader *request, uint32_t count, struct runner_call_memory *memory, struct error *error) {
  memory->variables = calloc(count + 1, sizeof(*memory->variables));
  memory->texts = calloc(2 * (size_t)count + 1, sizeof(*memory->texts));
  if (!memory->variables || !memory->texts) return error_set(error, ERROR_NO_MEMORY, "out of memory for a command");
  for (uint32_t i = 0; i < count; i++) {
    char *name = memory->texts[memory->text_count++] = reader_text_field(request);
    char *value = memory->texts[memory->text_count++] = reader_text_field(request);
    if (!name || !value) return reader_refuse(request, "a command for the runner", error);
    if (!is_variable_name(name)) return run_refuse("a variable of environment that does not begin with DKIMROLL_", error);
    if (strlen(value) > RUNNER_VALUE_MAX) return run_refuse("a variable of environment that is too long", error);
    memory->variables[i] = (struct runner_variable){name, value};
  }
  return 0;
}

int runner_call_read(struct reader *request, struct runner_call *ret_call, struct runner_call_memory *ret_memory, struct error *error) {
  CLEANUP(runner_call_release) struct runner_call_memory memory = {0};
  struct runner_call call = {.purpose = (enum runner_purpose)reader_u8(request)};
  memory.name = reader_text_field(request);
  memory.word = reader_text_field(request);
  const uint32_t count = reader_u32(request);
  if (!memory.name || !memory.word || request->failed) return reader_refuse(request, "a command for the runner", error);
  if (count > RUNNER_VARIABLES_MAX) return run_refuse("too many variables of environment", error);
  if (memory.word[0] != '\0' && !is_plain_word(memory.word)) return run_refuse("an argument that is no plain word", error);
  const int result = read_variables(request, count, &memory, error);
  if (result < 0) return result;
  call.input = reader_field(request, &call.input_size);
  if (request->failed || request->position != request->size) return reader_refuse(request, "a command for the runner", error);
  if (call.input_size > RUNNER_INPUT_MAX) return run_refuse("too much text for its stdin", error);
  call.name = memory.name;
  call.word = memory.word[0] != '\0' ? memory.word : NULL;
  call.variables = memory.variables;
  call.variable_count = count;
  *ret_call = call;
  *ret_memory = memory;
  memory = (struct runner_call_memory){0};
  return 0;
}

void runner_call_release(struct runner_call_memory *memory) {
  if (!memory) return;
  for (size_t i = 0; i < memory->text_count; i++) free(memory->texts[i]);
  free(memory->texts);
  free(memory->variables);
  free(memory->name);
  free(memory->word);
  *memory = (struct runner_call_memory){0};
}

const char *runner_call_variable(const struct runner_call *call, const char *name) {
  for (size_t i = 0; i < call->variable_count; i++)
    if (text_equal(call->variables[i].name, name)) return call->variables[i].value;
  return NULL;
}
