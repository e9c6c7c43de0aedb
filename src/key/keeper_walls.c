#include "dkimroll/keeper_walls.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dkimroll/call_filter.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/landlock.h"
#include "dkimroll/privilege.h"
#include "dkimroll/text.h"

/* Beside the directories of the policy: what reload commands expect to be able to write to. */
static const char *const walls_writable_always[] = {"/tmp", "/var/tmp", "/dev/null", "/dev/tty"};

static int walls_restrict_files(struct keeper_walls *walls, struct error *error) {
  CLEANUP(landlock_release) struct landlock landlock = {.ruleset = -1};
  int result = landlock_begin(LANDLOCK_WRITING, &landlock, error);
  for (size_t i = 0; i < walls->writable_count && result == 0; i++)
    result = landlock_allow(&landlock, walls->writable[i], LANDLOCK_WRITING, error);
  for (size_t i = 0; i < ARRAY_SIZE(walls_writable_always) && result == 0; i++)
    if (access(walls_writable_always[i], F_OK) == 0)
      result = landlock_allow(&landlock, walls_writable_always[i], LANDLOCK_WRITING, error);
  if (result == 0) result = landlock_enforce(&landlock, error);
  if (result == 0) walls->landlock_abi = landlock.abi;
  return result;
}

void keeper_walls_raise(struct keeper_walls *walls) {
  struct error error = {0};
  walls->raised = true;
  if (walls_restrict_files(walls, &error) != 0) walls->problem = error;
  if (call_filter_install(&error) != 0) walls->problem = error;
}

static int walls_run(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  const struct keeper_walls *walls = context;
  if (request->position != request->size) return reader_refuse(request, "a question for the keeper's walls", error);
  /* Trying is the only answer that counts, whoever put up the wall: this program or its unit. */
  const int socket_descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket_descriptor >= 0) close(socket_descriptor);
  buffer_add_u32(reply, geteuid());
  buffer_add_u64(reply, privilege_capabilities());
  buffer_add_u8(reply, socket_descriptor >= 0);
  buffer_add_u32(reply, (uint32_t)walls->landlock_abi);
  buffer_add_text_field(reply, walls->problem.message);
  return 0;
}

struct keeper_handler keeper_walls_handler(const struct keeper_walls *walls) {
  /* The handler only reads it. */
  return (struct keeper_handler){.job = KEEPER_WALLS, .run = walls_run, .context = (void *)walls};
}

int keeper_walls_read(const uint8_t *reply, size_t reply_size, struct keeper_walls_report *ret_report,
                      struct error *error) {
  struct reader reader = {.data = reply, .size = reply_size};
  struct keeper_walls_report report = {.user = reader_u32(&reader)};
  report.capabilities = reader_u64(&reader);
  report.network = reader_u8(&reader) != 0;
  report.landlock_abi = reader_u32(&reader);
  CLEANUP_FREE char *problem = reader_text_field(&reader);
  if (!problem || reader.failed || reader.position != reader.size)
    return error_set(error, ERROR_PROTOCOL, "the keeper does not say which walls stand around it");
  text_copy(report.problem, sizeof(report.problem), problem);
  *ret_report = report;
  return 0;
}
