/* Jobs of the runner, as a loop side that was taken over would send them. The first octet: even for a call of a command, which is read and judged, but not run; odd for edits of a
 * fragment, with real files. What a call adds to a command is one plain word, variables of its own and text; what a fragment changes is the file of a zone, and no other. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/keeper_worker.h"
#include "dkimroll/runner.h"
#include "dkimroll/runner_fragment.h"
#include "dkimroll/text.h"
#include "folder.h"
#include "fuzz.h"

enum { ROOM = 1 << 20 };

/* ---- calls ---- */

static void expect_variable(const struct runner_variable *variable) {
  FUZZ_HOLDS(text_starts(variable->name, "DKIMROLL_") && !strpbrk(variable->name, "= \n"), "%s", variable->name);
  FUZZ_HOLDS(strlen(variable->name) <= RUNNER_WORD_MAX && strlen(variable->value) <= RUNNER_VALUE_MAX, "%s is too long", variable->name);
}

static void read_call(struct fuzz_input input) {
  CLEANUP(runner_call_release) struct runner_call_memory memory = {0};
  CLEANUP(buffer_release) struct buffer again = BUFFER_WITH_MAXIMUM(RUNNER_INPUT_MAX);
  struct reader request = {.data = input.data, .size = input.size};
  struct runner_call call = {0};
  struct error error = {0};
  const int result = runner_call_read(&request, &call, &memory, &error);
  if (result) {
    fuzz_expect_error(result, &error);
    FUZZ_HOLDS(!memory.name && !memory.variables, "a call in spite of %s", error.message);
    return;
  }
  FUZZ_HOLDS(!call.word || (call.word[0] != '-' && !strpbrk(call.word, "/. ") && strlen(call.word) <= RUNNER_WORD_MAX), "%s", call.word);
  FUZZ_HOLDS(call.variable_count <= RUNNER_VARIABLES_MAX && call.input_size <= RUNNER_INPUT_MAX, "%zu variables", call.variable_count);
  for (size_t i = 0; i < call.variable_count; i++) expect_variable(&call.variables[i]);
  runner_call_write(&again, &call);
  FUZZ_HOLDS(again.size == input.size && memcmp(again.data, input.data, again.size) == 0, "%s is written as something else", call.name);
}

/* ---- fragments ---- */

static struct {
  char folder[sizeof "/dev/shm/fuzz-zones-XXXXXX"];
  struct runner_zonefiles zonefiles;
  struct keeper_handler handler;
} bench;

static void bench_end(void) {
  folder_remove(bench.folder);
  runner_zonefiles_release(&bench.zonefiles);
}

static void bench_open(void) {
  memcpy(bench.folder, "/dev/shm/fuzz-zones-XXXXXX", sizeof bench.folder);
  FUZZ_HOLDS(mkdtemp(bench.folder), "no folder in /dev/shm");
  (void)atexit(bench_end);
  CLEANUP_FREE char *any = text_format("%s/zones/%%z.dkim", bench.folder);
  CLEANUP_FREE char *one = text_format("%s/zones/one", bench.folder);
  struct policy_publisher publishers[] = {
      {.name = (char *)"any", .type = PUBLISHER_ZONEFILE, .file = any, .mode = 0644},
      {.name = (char *)"one", .type = PUBLISHER_ZONEFILE, .file = one, .zone = (char *)"example.com", .mode = 0644},
  };
  const struct policy policy = {.publishers = publishers, .publisher_count = ARRAY_SIZE(publishers)};
  struct error error = {0};
  FUZZ_HOLDS(runner_zonefiles_allow(&bench.zonefiles, &policy, &error) == 0, "%s", error.message);
  bench.handler = runner_fragment_handler(&bench.zonefiles);
}

static void fill_folder(void) {
  CLEANUP_FREE char *zones = text_format("%s/zones", bench.folder);
  (void)mkdir(bench.folder, 0700);
  (void)mkdir(zones, 0700);
  folder_write(bench.folder, "secret", "secret");
  folder_write(bench.folder, "zones/one", "");
  folder_write(bench.folder, "zones/example.com.dkim", "");
  folder_write(bench.folder, "zones/foreign.test.dkim", "not ours\n");
}

/* One file for one zone, directly in the folder of zones. */
static int look_at_entry(const char *path, const struct stat *status, int kind, struct FTW *place) {
  const char *name = path + strlen(bench.folder);
  const bool known = text_equal(name, "/secret") || text_equal(name, "/zones/one") || (text_starts(name, "/zones/") && text_ends(name, ".dkim") && !strchr(name + 7, '/'));
  FUZZ_HOLDS(kind == FTW_D ? place->level <= 1 : kind == FTW_F && known && S_ISREG(status->st_mode), "%s was made", path);
  return 0;
}

static void write_fragment(struct fuzz_input input) {
  const struct keeper_handlers handlers = {.items = &bench.handler, .count = 1};
  CLEANUP(buffer_release) struct buffer reply = BUFFER_WITH_MAXIMUM(ROOM);
  CLEANUP(runner_fragment_reply_release) struct runner_fragment_reply read = {0};
  struct reader request = {.data = input.data, .size = input.size};
  struct error result = {0}, error = {0};
  if (!bench.folder[0]) bench_open();
  fill_folder();
  keeper_job_run(&handlers, KEEPER_WRITE_FRAGMENT, &request, &reply, &result);
  if (result.code < 0)
    fuzz_expect_error(result.code, &result);
  else
    FUZZ_HOLDS(runner_fragment_read(reply.data, reply.size, &read, &error) == 0, "%s", error.message);
  folder_look(bench.folder, look_at_entry);
  folder_expect(bench.folder, "secret", "secret");
  folder_expect(bench.folder, "zones/foreign.test.dkim", "not ours\n");
  folder_remove(bench.folder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input input = {data, size};
  const bool fragment = fuzz_take_u8(&input) & 1;
  if (fragment)
    write_fragment(input);
  else
    read_call(input);
  return 0;
}
