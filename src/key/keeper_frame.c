#include "dkimroll/keeper_frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

enum { KEEPER_CHUNK_SIZE = 64 * 1024 };

static int keeper_frame_finish(struct buffer *frame, struct buffer *ret_frame, struct error *error) {
  if (frame->failed) return error_set(error, ERROR_NO_MEMORY, "out of memory while a job of the keeper was written");
  buffer_release(ret_frame);
  *ret_frame = *frame;
  *frame = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  return 0;
}

static void keeper_frame_start(struct buffer *frame, size_t payload_size, uint64_t id, uint16_t kind) {
  buffer_add_u32(frame, (uint32_t)(KEEPER_FRAME_HEAD_SIZE - KEEPER_FRAME_LENGTH_SIZE + payload_size));
  buffer_add_u8(frame, KEEPER_PROTOCOL_VERSION);
  buffer_add_u64(frame, id);
  buffer_add_u16(frame, kind);
}

int keeper_frame_write(uint64_t id, uint16_t kind, const void *payload, size_t size, struct buffer *ret_frame,
                       struct error *error) {
  if (size > KEEPER_MESSAGE_MAX) {
    return error_set(error, ERROR_LIMIT, "a job of %zu octets is larger than the %d that the keeper takes", size,
                     KEEPER_MESSAGE_MAX);
  }
  CLEANUP(buffer_release) struct buffer frame = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  keeper_frame_start(&frame, size, id, kind);
  buffer_add(&frame, payload, size);
  return keeper_frame_finish(&frame, ret_frame, error);
}

int keeper_frame_read(const struct buffer *octets, struct keeper_frame *ret_frame, struct error *error) {
  struct reader reader = {.data = octets->data, .size = octets->size};
  uint32_t length = reader_u32(&reader);
  uint8_t version = reader_u8(&reader);
  uint64_t id = reader_u64(&reader);
  uint16_t kind = reader_u16(&reader);
  if (reader.failed || length != octets->size - KEEPER_FRAME_LENGTH_SIZE || version != KEEPER_PROTOCOL_VERSION) {
    return error_set(error, ERROR_PROTOCOL, "the two sides of the keeper do not speak the same protocol (%u and %u)",
                     version, KEEPER_PROTOCOL_VERSION);
  }
  *ret_frame = (struct keeper_frame){.id = id, .kind = kind, .payload = reader};
  return 0;
}

static void keeper_reply_fill(struct buffer *frame, uint64_t id, uint16_t kind, const struct error *result,
                              const struct buffer *reply) {
  size_t reply_size = reply ? reply->size : 0;
  size_t message_size = strnlen(result->message, sizeof(result->message));
  size_t remedy_size = strnlen(result->remedy, sizeof(result->remedy));
  keeper_frame_start(frame, 4 + 1 + 4 + message_size + 4 + remedy_size + reply_size, id, kind);
  buffer_add_u32(frame, (uint32_t)-result->code);
  buffer_add_u8(frame, result->retryable);
  buffer_add_field(frame, result->message, message_size);
  buffer_add_field(frame, result->remedy, remedy_size);
  if (reply_size > 0) buffer_add(frame, reply->data, reply_size);
}

int keeper_reply_write(uint64_t id, uint16_t kind, const struct error *result, const struct buffer *reply,
                       struct buffer *ret_frame, struct error *error) {
  CLEANUP(buffer_release) struct buffer frame = BUFFER_WITH_MAXIMUM(KEEPER_FRAME_MAX);
  bool too_large = reply && (reply->failed || reply->size > KEEPER_MESSAGE_MAX);
  if (!too_large) keeper_reply_fill(&frame, id, kind, result, reply);
  if (too_large || frame.failed) {
    struct error limit = {0};
    if (frame.no_memory || (reply && reply->no_memory))
      error_set(&limit, ERROR_NO_MEMORY, "out of memory while the keeper wrote its answer");
    else
      error_set(&limit, ERROR_LIMIT, "the keeper's answer does not fit into %d octets", KEEPER_MESSAGE_MAX);
    buffer_reset(&frame);
    keeper_reply_fill(&frame, id, kind, &limit, NULL);
  }
  return keeper_frame_finish(&frame, ret_frame, error);
}

int keeper_reply_read(struct reader *payload, struct error *ret_result, struct error *error) {
  struct error result = {0};
  result.code = -(int)(reader_u32(payload) & INT16_MAX);
  result.retryable = reader_u8(payload) != 0;
  CLEANUP_FREE char *message = reader_text_field(payload);
  CLEANUP_FREE char *remedy = reader_text_field(payload);
  if (!message || !remedy) return reader_refuse(payload, "the keeper's answer", error);
  text_copy(result.message, sizeof(result.message), message);
  text_copy(result.remedy, sizeof(result.remedy), remedy);
  *ret_result = result;
  return 0;
}

/* How many octets the frame that starts with these is still missing; 0: it is complete, or its length is out of bounds (*ret_valid). */
static size_t keeper_frame_missing(const struct buffer *octets, bool *ret_valid) {
  *ret_valid = true;
  if (octets->size < KEEPER_FRAME_LENGTH_SIZE) return KEEPER_FRAME_LENGTH_SIZE - octets->size;
  struct reader reader = {.data = octets->data, .size = octets->size};
  size_t length = reader_u32(&reader);
  *ret_valid = length >= KEEPER_FRAME_HEAD_SIZE - KEEPER_FRAME_LENGTH_SIZE &&
               length <= KEEPER_FRAME_MAX - KEEPER_FRAME_LENGTH_SIZE;
  return *ret_valid ? KEEPER_FRAME_LENGTH_SIZE + length - octets->size : 0;
}

int keeper_frame_receive(int descriptor, struct buffer *octets, enum keeper_progress *ret_progress,
                         struct error *error) {
  uint8_t chunk[KEEPER_CHUNK_SIZE];
  size_t budget = KEEPER_FRAME_BUDGET;
  octets->maximum = KEEPER_FRAME_MAX;
  for (;;) {
    bool valid = true;
    size_t missing = keeper_frame_missing(octets, &valid);
    if (!valid) return error_set(error, ERROR_PROTOCOL, "a message of the keeper has an impossible length");
    *ret_progress = missing == 0 ? KEEPER_COMPLETE : KEEPER_PARTIAL;
    if (missing == 0 || budget == 0) return 0;
    size_t wanted = missing < sizeof(chunk) ? missing : sizeof(chunk);
    ssize_t got = recv(descriptor, chunk, wanted < budget ? wanted : budget, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return 0;
    if (got == 0 || (got < 0 && errno == ECONNRESET)) {
      *ret_progress = KEEPER_ENDED;
      return 0;
    }
    if (got < 0) return error_set_errno(error, errno, "cannot read from the keeper's socket");
    buffer_add(octets, chunk, (size_t)got);
    if (octets->failed) return error_set(error, ERROR_NO_MEMORY, "out of memory while a message was received");
    budget -= (size_t)got;
  }
}

void keeper_output_init(struct keeper_output *output) {
  STAILQ_INIT(&output->frames);
  output->octets = 0;
  output->first_sent = 0;
}

bool keeper_output_is_empty(const struct keeper_output *output) {
  return STAILQ_EMPTY(&output->frames);
}

int keeper_output_add(struct keeper_output *output, struct buffer *frame, struct error *error) {
  struct keeper_output_frame *added = malloc(sizeof(*added));
  if (!added) return error_set(error, ERROR_NO_MEMORY, "out of memory while a message was queued");
  added->octets = *frame;
  *frame = BUFFER_WITH_MAXIMUM(frame->maximum);
  output->octets += added->octets.size;
  STAILQ_INSERT_TAIL(&output->frames, added, link);
  return 0;
}

static void keeper_output_drop_first(struct keeper_output *output) {
  struct keeper_output_frame *first = STAILQ_FIRST(&output->frames);
  STAILQ_REMOVE_HEAD(&output->frames, link);
  output->octets -= first->octets.size;
  output->first_sent = 0;
  buffer_release(&first->octets);
  free(first);
}

int keeper_output_send(int descriptor, struct keeper_output *output, enum keeper_progress *ret_progress,
                       struct error *error) {
  size_t budget = KEEPER_FRAME_BUDGET;
  *ret_progress = KEEPER_PARTIAL;
  while (!STAILQ_EMPTY(&output->frames)) {
    if (budget == 0) return 0;
    const struct buffer *octets = &STAILQ_FIRST(&output->frames)->octets;
    size_t left = octets->size - output->first_sent;
    ssize_t sent = send(descriptor, octets->data + output->first_sent, left < budget ? left : budget, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return 0;
    if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) {
      *ret_progress = KEEPER_ENDED;
      return 0;
    }
    if (sent < 0) return error_set_errno(error, errno, "cannot write to the keeper's socket");
    output->first_sent += (size_t)sent;
    budget -= (size_t)sent;
    if (output->first_sent == octets->size) keeper_output_drop_first(output);
  }
  *ret_progress = KEEPER_COMPLETE;
  return 0;
}

void keeper_output_release(struct keeper_output *output) {
  while (!STAILQ_EMPTY(&output->frames)) keeper_output_drop_first(output);
}
