#include "dkimroll/keeper_worker.h"

#include <stdlib.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/keeper_frame.h"

void keeper_job_run(const struct keeper_handlers *handlers, enum keeper_job job, struct reader *request,
                    struct buffer *reply, struct error *ret_result) {
  const struct keeper_handler *handler = NULL;
  for (size_t i = 0; i < handlers->count && !handler; i++) {
    if (handlers->items[i].job == job) handler = &handlers->items[i];
  }
  struct error result = {0};
  int code = ERROR_PROTOCOL;
  if (handler)
    code = handler->run(handler->context, request, reply, &result);
  else
    error_set(&result, ERROR_PROTOCOL, "the keeper does not know the job %d", (int)job);

  if (code == 0 && handler && reply->no_memory) code = error_set(&result, ERROR_NO_MEMORY, "out of memory while the keeper wrote its answer");
  if (code < 0 && result.code != code) {
    result.code = code;
    if (result.message[0] == '\0') error_set(&result, code, "the keeper's job %d failed without a reason", (int)job);
  }
  if (code < 0)
    buffer_reset(reply);
  else
    result = (struct error){0};
  *ret_result = result;
}

static int keeper_worker_answer(int descriptor, struct buffer *frame, struct error *error) {
  struct keeper_output output;
  keeper_output_init(&output);
  int result = keeper_output_add(&output, frame, error);
  enum keeper_progress progress = KEEPER_PARTIAL;
  while (result == 0 && progress == KEEPER_PARTIAL) {
    result = keeper_output_send(descriptor, &output, &progress, error);
  }
  keeper_output_release(&output);
  return result == 0 && progress == KEEPER_ENDED ? ERROR_CANCELLED : result;
}

/* unusable: why no job can be done; its code is 0 where jobs can. */
static int keeper_worker_step(int descriptor, const struct keeper_handlers *handlers, const struct error *unusable, const struct buffer *octets,
                              struct error *error) {
  struct keeper_frame frame;
  int result = keeper_frame_read(octets, &frame, error);
  if (result < 0) return result;
  CLEANUP(buffer_release) struct buffer reply = BUFFER_WITH_MAXIMUM(KEEPER_MESSAGE_MAX);
  CLEANUP(buffer_release) struct buffer answer = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  struct error outcome = *unusable;
  if (!unusable->code) keeper_job_run(handlers, (enum keeper_job)frame.kind, &frame.payload, &reply, &outcome);
  result = keeper_reply_write(frame.id, frame.kind, &outcome, &reply, &answer, error);
  return result < 0 ? result : keeper_worker_answer(descriptor, &answer, error);
}

int keeper_worker_run(int descriptor, const struct keeper_handlers *handlers) {
  CLEANUP(buffer_release) struct buffer octets = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  struct error error = {0}, unusable = {0};
  /* A worker that is of no use for as long as it lives says why to the first who asks, and the supervisor makes another. */
  const bool usable = !handlers->begin || handlers->begin(&unusable) == 0;
  for (;;) {
    enum keeper_progress progress = KEEPER_PARTIAL;
    int result = keeper_frame_receive(descriptor, &octets, &progress, &error);
    if (result < 0) return EXIT_FAILURE;
    if (progress == KEEPER_ENDED) return EXIT_SUCCESS;
    if (progress == KEEPER_PARTIAL) continue;
    /* A worker that cannot answer is of no use any more: the supervisor makes another. */
    if (keeper_worker_step(descriptor, handlers, &unusable, &octets, &error) < 0 || !usable) return EXIT_FAILURE;
    buffer_release(&octets);
  }
}
