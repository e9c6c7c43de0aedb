/* Frames between loop side, supervisor and workers: length (u32, of what follows), version u8, job id u64, kind u16, payload. A reply has
 * the id and kind of its job. Shared by the files of the keeper; nobody else includes this. */
#ifndef DKIMROLL_KEEPER_FRAME_H
#define DKIMROLL_KEEPER_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "dkimroll/buffer.h"
#include "dkimroll/error.h"
#include "dkimroll/keeper.h"

enum {
  KEEPER_FRAME_LENGTH_SIZE = 4,
  KEEPER_FRAME_HEAD_SIZE = KEEPER_FRAME_LENGTH_SIZE + 1 + 8 + 2,
  /* A reply may be as large as a request, and says besides how the job ended. */
  KEEPER_FRAME_MAX = KEEPER_MESSAGE_MAX + KEEPER_FRAME_HEAD_SIZE + ERROR_MESSAGE_MAX + ERROR_REMEDY_MAX + 32,
  /* Octets moved by one call, so that a job of 64 MiB does not keep a callback of the loop for long. */
  KEEPER_FRAME_BUDGET = 1024 * 1024,
  /* Octets of jobs that the supervisor has but has not answered; more wait on the loop side. One job may always be there. */
  KEEPER_WINDOW = 2 * KEEPER_MESSAGE_MAX,
};

/* Not a job but a word about one: its answer is not waited for any more. The supervisor answers it all the same. */
enum { KEEPER_KIND_CANCEL = 0 };

/* A frame that was received; payload is borrowed. */
struct keeper_frame {
  uint64_t id;
  uint16_t kind;
  struct reader payload;
};

/* Writes a whole frame into *ret_frame, which is released first. ERROR_LIMIT, ERROR_NO_MEMORY. */
int keeper_frame_write(uint64_t id, uint16_t kind, const void *payload, size_t size, struct buffer *ret_frame,
                       struct error *error) ERROR_USE_RESULT;
/* Reads the head of a complete frame. ERROR_PROTOCOL: another version. */
int keeper_frame_read(const struct buffer *octets, struct keeper_frame *ret_frame,
                      struct error *error) ERROR_USE_RESULT;

/* The reply to a job: result (code 0: done), then the reply's octets. Falls back to an error that always fits. */
int keeper_reply_write(uint64_t id, uint16_t kind, const struct error *result, const struct buffer *reply,
                       struct buffer *ret_frame, struct error *error) ERROR_USE_RESULT;
/* Takes the result out of a reply's payload; what is left in the reader are the reply's octets. ERROR_PROTOCOL. */
int keeper_reply_read(struct reader *payload, struct error *ret_result, struct error *error) ERROR_USE_RESULT;

enum keeper_progress {
  KEEPER_COMPLETE = 1, /* one frame was received, or everything was sent */
  KEEPER_PARTIAL = 2,  /* call again when the descriptor is ready */
  KEEPER_ENDED = 3,    /* the other side closed its end */
};

/* Receives the octets of at most one frame. octets starts empty and is emptied by the caller after a complete frame. The descriptor may be
 * blocking (a worker's) or not. ERROR_PROTOCOL: a length out of bounds; ERROR_NO_MEMORY, ERROR_SYSTEM. */
int keeper_frame_receive(int descriptor, struct buffer *octets, enum keeper_progress *ret_progress,
                         struct error *error) ERROR_USE_RESULT;

/* Frames on their way out. */
struct keeper_output_frame {
  STAILQ_ENTRY(keeper_output_frame) link;
  struct buffer octets;
};

struct keeper_output {
  STAILQ_HEAD(, keeper_output_frame) frames;
  size_t octets;     /* of all frames that are not completely sent */
  size_t first_sent; /* of the first frame */
};

void keeper_output_init(struct keeper_output *output);
bool keeper_output_is_empty(const struct keeper_output *output);
/* Takes the octets over and leaves *frame empty. ERROR_NO_MEMORY: it still has them. */
int keeper_output_add(struct keeper_output *output, struct buffer *frame, struct error *error) ERROR_USE_RESULT;
int keeper_output_send(int descriptor, struct keeper_output *output, enum keeper_progress *ret_progress,
                       struct error *error) ERROR_USE_RESULT;
void keeper_output_release(struct keeper_output *output);

#endif
