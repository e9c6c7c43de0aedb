/* The supervisor of the keeper, with workers that it forks, fed with the octets of a loop side that was taken over. It ends when they end, whatever they are, with no
 * process left, and answers at most what was asked.
 *
 * Frames: KIND, ID, a u16 size and so many octets (0: the job is cancelled); KIND 0xff: octets as they are, and the end. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/keeper_frame.h"
#include "dkimroll/keeper_supervisor.h"
#include "fuzz.h"

enum { FRAMES_MAX = 12, AS_IT_IS = 0xff, ECHOES = 1, FAILS = 2, DIES = 3, MOMENT_NS = 10 * 1000 * 1000 };

static int run_echo(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  (void)context, (void)error;
  buffer_add(reply, request->data + request->position, request->size - request->position);
  return 0;
}

static int run_fail(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  (void)context, (void)reply;
  char *text = reader_text_field(request);
  const int result = error_set(error, ERROR_INVALID, "%s", text ? text : "no text");
  free(text);
  return result;
}

static int run_die(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  (void)context, (void)request, (void)reply, (void)error;
  _exit(EXIT_FAILURE);
}

static size_t add_frames(struct fuzz_input input, struct buffer *stream) {
  size_t count = 0;
  while (input.size > 0 && count < FRAMES_MAX) {
    const uint8_t kind = fuzz_take_u8(&input);
    if (kind == AS_IT_IS) {
      buffer_add(stream, input.data, input.size);
      return FRAMES_MAX + input.size / KEEPER_FRAME_HEAD_SIZE;
    }
    CLEANUP(buffer_release) struct buffer frame = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
    const uint64_t id = fuzz_take_u8(&input);
    const uint16_t size = fuzz_take_u16(&input);
    const struct fuzz_input octets = fuzz_take(&input, size);
    FUZZ_HOLDS(keeper_frame_write(id, kind, octets.data, octets.size, &frame, NULL) == 0, "no frame");
    buffer_add(stream, frame.data, frame.size);
    count++;
  }
  return count;
}

static size_t count_answers(int descriptor) {
  size_t count = 0;
  enum keeper_progress progress = KEEPER_COMPLETE;
  CLEANUP(buffer_release) struct buffer octets = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  while (keeper_frame_receive(descriptor, &octets, &progress, NULL) == 0 && progress == KEEPER_COMPLETE) {
    struct keeper_frame frame;
    struct error result = {0}, error = {0};
    FUZZ_HOLDS(keeper_frame_read(&octets, &frame, &error) == 0, "%s", error.message);
    FUZZ_HOLDS(keeper_reply_read(&frame.payload, &result, &error) == 0, "%s", error.message);
    buffer_release(&octets);
    count++;
  }
  return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const struct keeper_handler handlers[] = {
      {ECHOES, run_echo, NULL}, {FAILS, run_fail, NULL}, {DIES, run_die, NULL}};
  CLEANUP(buffer_release) struct buffer stream = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  const size_t asked = add_frames((struct fuzz_input){data, size}, &stream);
  int ends[2];
  /* The loop side stays for a moment, in which jobs are done, and then its process has ended. */
  const struct itimerspec moment = {.it_value = {.tv_nsec = MOMENT_NS}};
  const int parent = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  FUZZ_HOLDS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "no socket");
  FUZZ_HOLDS(parent >= 0 && timerfd_settime(parent, 0, &moment, NULL) == 0, "no timer");
  FUZZ_HOLDS(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0, "no socket");
  if (stream.size > 0) (void)!send(ends[0], stream.data, stream.size, MSG_DONTWAIT | MSG_NOSIGNAL);
  const struct keeper_supervision supervision = {.descriptor = ends[1],
                                                 .signal_descriptor = parent,
                                                 .workers = 2,
                                                 .patience = {.respawn_first = 1, .grace = 50, .finish = 2000},
                                                 .handlers = {handlers, ARRAY_SIZE(handlers)}};
  (void)keeper_supervise(&supervision);
  FUZZ_HOLDS(count_answers(ends[0]) <= asked, "more answers than jobs");
  /* A worker that was killed at last may take a moment; one that is left alive would be waited for until libFuzzer's own deadline. */
  while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) continue;
  close(ends[0]);
  close(parent);
  return 0;
}
