#include "dkimroll/keeper.h"

int keeper_submit(struct keeper *keeper, enum keeper_job job, const struct buffer *payload, int64_t deadline,
                  keeper_done *done, void *context, struct error *error) {
  if (payload->no_memory) return error_set(error, ERROR_NO_MEMORY, "out of memory for a job for the keeper");
  if (payload->failed || payload->size > KEEPER_MESSAGE_MAX)
    return error_set(error, ERROR_LIMIT, "a job for the keeper is larger than %d octets", KEEPER_MESSAGE_MAX);
  return keeper->ops->submit(keeper, job, payload, deadline, done, context, error);
}

void keeper_destroy(struct keeper *keeper) {
  if (keeper) keeper->ops->destroy(keeper);
}
