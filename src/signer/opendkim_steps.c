#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/opendkim.h"
#include "dkimroll/text.h"

/* A keeper's job cannot be called back: its end finds this, and nothing behind it if the operation is gone. */
struct opendkim_ticket {
  struct signer_operation *operation; /* NULL: cancelled */
};

static const struct error opendkim_success = {0};

/* Ends the step. The operation may be gone afterwards. */
static void opendkim_end_step(struct signer_operation *operation, const struct error *error) {
  opendkim_next *next = operation->next;
  operation->next = NULL;
  next(operation, error);
}

static void opendkim_end_step_memory(struct signer_operation *operation) {
  struct error error;
  error_set(&error, ERROR_NO_MEMORY, "signer %s: out of memory", operation->signer->policy->name);
  opendkim_end_step(operation, &error);
}

static void opendkim_collect(struct signer_operation *operation, enum opendkim_state state) {
  operation->batch_count = 0;
  for (size_t i = 0; i < operation->count; i++)
    if (operation->states[i] == state) operation->batch[operation->batch_count++] = i;
}

/* Takes the operation out of the ticket. NULL: it was cancelled. */
static struct signer_operation *opendkim_redeem(struct opendkim_ticket *ticket) {
  struct signer_operation *operation = ticket->operation;
  free(ticket);
  if (operation) operation->ticket = NULL;
  return operation;
}

static void opendkim_submit(struct signer_operation *operation, enum keeper_job job, const struct buffer *payload,
                            int64_t deadline, keeper_done *done) {
  struct opendkim_ticket *ticket = calloc(1, sizeof(*ticket));
  if (!ticket || payload->failed) {
    free(ticket);
    opendkim_end_step_memory(operation);
    return;
  }
  ticket->operation = operation;
  operation->ticket = ticket;
  struct error error;
  if (keeper_submit(operation->signer->keeper, job, payload, deadline, done, ticket, &error) == 0) return;
  opendkim_redeem(ticket);
  opendkim_end_step(operation, &error);
}

/* The table items of the batch, in one block with the edits that they point to. */
struct opendkim_batch {
  struct table_item *items;
  struct table_edit *edits;
};

static void opendkim_batch_release(struct opendkim_batch *batch) {
  free(batch->items);
  free(batch->edits);
}

static bool opendkim_batch_build(const struct signer_operation *operation, struct opendkim_batch *batch) {
  size_t room = 0;
  for (size_t i = 0; i < operation->batch_count; i++) room += operation->entries[operation->batch[i]].sender_count + 1;
  batch->items = calloc(operation->batch_count, sizeof(*batch->items));
  batch->edits = calloc(room, sizeof(*batch->edits));
  if (!batch->items || !batch->edits) return false;
  struct table_edit *edit = batch->edits;
  for (size_t i = 0; i < operation->batch_count; i++) {
    batch->items[i].edits = edit;
    batch->items[i].edit_count = operation->edits(&operation->entries[operation->batch[i]], edit);
    edit += batch->items[i].edit_count;
  }
  return true;
}

static void opendkim_submit_tables(void *context);

static void opendkim_tables_done(void *context, const struct error *result, const uint8_t *reply, size_t reply_size) {
  struct signer_operation *operation = opendkim_redeem(context);
  if (!operation) return;
  struct error error = *result;
  if (error.code == 0 &&
      opendkim_jobs_read_tables(reply, reply_size, operation->outcomes, operation->batch_count, &error) == 0)
    error = opendkim_success;
  int64_t again = loop_boottime(operation->signer->loop) + OPENDKIM_BUSY_RETRY_MS;
  bool busy = error.code == ERROR_BUSY || (error.code == ERROR_CONFLICT && error.retryable);
  if (busy && again < operation->step_deadline &&
      loop_at(operation->signer->loop, again, opendkim_submit_tables, operation, &operation->timer) == 0)
    return;
  opendkim_end_step(operation, &error);
}

static void opendkim_submit_tables(void *context) {
  struct signer_operation *operation = context;
  operation->timer = NULL;
  CLEANUP(opendkim_batch_release) struct opendkim_batch batch = {0};
  free(operation->outcomes);
  operation->outcomes = calloc(operation->batch_count, sizeof(*operation->outcomes));
  if (!operation->outcomes || !opendkim_batch_build(operation, &batch)) {
    opendkim_end_step_memory(operation);
    return;
  }
  struct buffer payload = BUFFER_WITH_MAXIMUM(OPENDKIM_PAYLOAD_MAX);
  opendkim_jobs_tables(&payload, operation->signer->policy, batch.items, operation->batch_count);
  opendkim_submit(operation, operation->job, &payload, operation->step_deadline, opendkim_tables_done);
  buffer_release(&payload);
}

static void opendkim_begin_tables(struct signer_operation *operation, enum opendkim_state state) {
  opendkim_collect(operation, state);
  if (operation->batch_count > 0)
    opendkim_submit_tables(operation);
  else
    opendkim_end_step(operation, &opendkim_success);
}

void opendkim_step_edit(struct signer_operation *operation, enum opendkim_state state, opendkim_edits *edits,
                        int64_t deadline, opendkim_next *next) {
  operation->next = next;
  operation->job = KEEPER_EDIT_TABLES;
  operation->edits = edits;
  operation->step_deadline = deadline;
  opendkim_begin_tables(operation, state);
}

void opendkim_step_try(struct signer_operation *operation, opendkim_edits *edits, int64_t deadline,
                       opendkim_next *next) {
  operation->next = next;
  operation->job = KEEPER_READ_TABLES;
  operation->edits = edits;
  operation->step_deadline = deadline;
  opendkim_begin_tables(operation, OPENDKIM_OPEN);
}

static void opendkim_reload_done(void *context, const struct error *result, const uint8_t *reply, size_t reply_size) {
  (void)reply;
  (void)reply_size;
  struct signer_operation *operation = opendkim_redeem(context);
  if (!operation) return;
  struct error error = *result;
  if (error.code) error_context(&error, "reload of signer %s", operation->signer->policy->name);
  opendkim_end_step(operation, &error);
}

void opendkim_step_reload(struct signer_operation *operation, bool probe, int64_t deadline, opendkim_next *next) {
  const struct policy_signer *policy = operation->signer->policy;
  operation->next = next;
  if (policy->reload == RELOAD_NONE) {
    opendkim_end_step(operation, &opendkim_success);
    return;
  }
  int64_t left = deadline - loop_boottime(operation->signer->loop);
  int64_t timeout = policy->reload_timeout * 1000;
  /* The worker's own timeout comes first: it knows what it waited for. */
  if (timeout > left - left / 8) timeout = left - left / 8;
  struct buffer payload = BUFFER_WITH_MAXIMUM(OPENDKIM_PAYLOAD_MAX);
  opendkim_jobs_reload(&payload, policy, probe, timeout);
  opendkim_submit(operation, KEEPER_RELOAD, &payload, deadline, opendkim_reload_done);
  buffer_release(&payload);
}

void opendkim_step_restart(struct signer_operation *operation, int64_t deadline, opendkim_next *next) {
  const struct policy_signer *policy = operation->signer->policy;
  int64_t left = deadline - loop_boottime(operation->signer->loop);
  int64_t timeout = policy->reload_timeout * 1000;
  if (timeout > left / 2) timeout = left / 2; /* a reload may have to stand in for it */
  struct buffer payload = BUFFER_WITH_MAXIMUM(OPENDKIM_PAYLOAD_MAX);
  operation->next = next;
  opendkim_jobs_restart(&payload, policy, timeout);
  opendkim_submit(operation, KEEPER_RELOAD, &payload, deadline, opendkim_reload_done);
  buffer_release(&payload);
}

bool opendkim_wants_restart(const struct signer_operation *operation) {
  const char *target;
  bool wanted = false;
  for (size_t i = 0; i < operation->count; i++) wanted |= operation->states[i] == OPENDKIM_OPEN && operation->items[i].restart;
  return wanted && policy_signer_restart(operation->signer->policy, &target) != RELOAD_NONE;
}

void opendkim_note_restart(struct signer_operation *operation) {
  for (size_t i = 0; i < operation->count; i++)
    if (operation->states[i] == OPENDKIM_OPEN) operation->results[i].restarted = true;
}

void opendkim_note_no_restart(struct signer_operation *operation, size_t index, const struct error *error) {
  struct signer_result *result = &operation->results[index];
  result->restarted = false;
  snprintf(result->restart_failure, sizeof(result->restart_failure), "%.250s", error->message);
}

static void opendkim_look_done(void *context, const struct error *result, const uint8_t *reply, size_t reply_size) {
  struct signer_operation *operation = opendkim_redeem(context);
  if (!operation) return;
  struct signer_stamp stamp = {0};
  struct error error = *result;
  if (error.code == 0 && opendkim_jobs_read_stamp(reply, reply_size, &stamp, &error) == 0) error = opendkim_success;
  operation->looked(operation->context, &stamp, &error);
  opendkim_operation_free(operation);
}

/* The step could not even begin. */
static void opendkim_look_failed(struct signer_operation *operation, const struct error *error) {
  static const struct signer_stamp nothing;
  operation->looked(operation->context, &nothing, error);
  opendkim_operation_free(operation);
}

void opendkim_look_start(struct signer_operation *operation, const struct error *error) {
  (void)error;
  struct buffer payload = BUFFER_WITH_MAXIMUM(OPENDKIM_PAYLOAD_MAX);
  operation->next = opendkim_look_failed;
  opendkim_jobs_look(&payload, operation->signer->policy, operation->known_state);
  opendkim_submit(operation, KEEPER_LOOK_TABLES, &payload, operation->deadline, opendkim_look_done);
  buffer_release(&payload);
}

static void opendkim_reach_done(void *context, const struct error *connection, const struct prove_result *results,
                                size_t count) {
  (void)results;
  (void)count;
  struct signer_operation *operation = context;
  operation->prove = NULL;
  opendkim_end_step(operation, connection);
}

void opendkim_step_reach(struct signer_operation *operation, int64_t deadline, opendkim_next *next) {
  struct signer_opendkim *signer = operation->signer;
  operation->next = next;
  struct prove_request request = {.milter = signer->policy->milter, .deadline = deadline, .patience = deadline};
  struct error error;
  if (prove_start(signer->connector, signer->entropy, &request, opendkim_reach_done, operation, &operation->prove,
                  &error) < 0)
    opendkim_end_step(operation, &error);
}

static void opendkim_prove_done(void *context, const struct error *connection, const struct prove_result *results,
                                size_t count) {
  (void)connection; /* Each item that it kept from an answer has it in its own result. */
  (void)count;
  struct signer_operation *operation = context;
  operation->prove = NULL;
  operation->proofs = results;
  opendkim_end_step(operation, &opendkim_success);
}

/* Messages of the batch; false: out of memory. */
static bool opendkim_write_messages(struct signer_operation *operation, bool before, size_t *ret_count) {
  size_t count = 0;
  for (size_t i = 0; i < operation->batch_count; i++) count += operation->entries[operation->batch[i]].sender_count;
  free(operation->messages);
  operation->messages = calloc(count + 1, sizeof(*operation->messages));
  if (!operation->messages) return false;
  struct prove_message *message = operation->messages;
  for (size_t i = 0; i < operation->batch_count; i++) {
    const struct signer_item *item = &operation->items[operation->batch[i]];
    const struct opendkim_entry *entry = &operation->entries[operation->batch[i]];
    for (size_t j = 0; j < entry->sender_count; j++)
      *message++ = (struct prove_message){.address = entry->senders[j].address,
                                          .domain = item->domain,
                                          .selector = before ? item->previous_selector : item->selector,
                                          .record = before ? item->previous_record : item->record,
                                          .others = operation->signer->policy->multiple_signatures,
                                          .before = before ? item->selector : item->previous_selector,
                                          .group = i};
  }
  *ret_count = count;
  return true;
}

static void opendkim_leave_out_first_keys(struct signer_operation *operation) {
  size_t kept = 0;
  for (size_t i = 0; i < operation->batch_count; i++)
    if (operation->items[operation->batch[i]].previous_selector) operation->batch[kept++] = operation->batch[i];
  operation->batch_count = kept;
}

void opendkim_step_prove(struct signer_operation *operation, enum opendkim_state state, bool before, bool patient,
                         int64_t deadline, opendkim_next *next) {
  struct signer_opendkim *signer = operation->signer;
  operation->next = next;
  operation->proofs = NULL;
  opendkim_collect(operation, state);
  if (before) opendkim_leave_out_first_keys(operation);
  if (operation->batch_count == 0) {
    opendkim_end_step(operation, &opendkim_success);
    return;
  }
  struct prove_request request = {
      .milter = signer->policy->milter, .group_count = operation->batch_count, .deadline = deadline};
  if (!opendkim_write_messages(operation, before, &request.count)) {
    opendkim_end_step_memory(operation);
    return;
  }
  int64_t now = loop_boottime(signer->loop);
  if (patient) {
    /* The last round needs time too: a signer that keeps its old tables is judged with a quarter left. */
    request.patience = now + (deadline - now) / 4 * 3;
    request.settle = now + OPENDKIM_SETTLE_MS < request.patience ? now + OPENDKIM_SETTLE_MS : request.patience;
  }
  request.messages = operation->messages;
  struct error error;
  if (prove_start(signer->connector, signer->entropy, &request, opendkim_prove_done, operation, &operation->prove,
                  &error) < 0)
    opendkim_end_step(operation, &error);
}

bool opendkim_any(const struct signer_operation *operation, enum opendkim_state state) {
  for (size_t i = 0; i < operation->count; i++)
    if (operation->states[i] == state) return true;
  return false;
}

void opendkim_fail_items(struct signer_operation *operation, enum opendkim_state state, enum opendkim_state then,
                         const struct error *error) {
  for (size_t i = 0; i < operation->count; i++) {
    if (operation->states[i] != state) continue;
    operation->states[i] = then;
    operation->results[i].error = *error;
  }
}

static void opendkim_unlink(struct signer_operation *operation) {
  struct signer_operation **place = &operation->signer->operations;
  while (*place && *place != operation) place = &(*place)->next_operation;
  if (*place) *place = operation->next_operation;
}

void opendkim_operation_free(struct signer_operation *operation) {
  opendkim_unlink(operation);
  loop_cancel(operation->signer->loop, &operation->timer);
  prove_cancel(&operation->prove);
  if (operation->ticket) operation->ticket->operation = NULL;
  for (size_t i = 0; operation->entries && i < operation->count; i++) opendkim_entry_release(&operation->entries[i]);
  free(operation->entries);
  free(operation->states);
  free(operation->results);
  free(operation->batch);
  free(operation->outcomes);
  free(operation->messages);
  free(operation);
}

void opendkim_operation_finish(struct signer_operation *operation) {
  operation->done(operation->context, operation->results, operation->count + (operation->whole ? 1 : 0));
  opendkim_operation_free(operation);
}

static void opendkim_operation_begin(void *context) {
  struct signer_operation *operation = context;
  operation->timer = NULL;
  opendkim_end_step(operation, &opendkim_success);
}

static void cleanup_operation(struct signer_operation **operation) {
  if (*operation) opendkim_operation_free(*operation);
}

int opendkim_operation_new(struct signer_opendkim *signer, const struct signer_item *items, size_t count,
                           int64_t deadline, signer_done *done, void *context, opendkim_next *first,
                           struct signer_operation **ret_operation, struct error *error) {
  if (count > SIGNER_ITEMS_MAX) return error_set(error, ERROR_LIMIT, "more than %d items at once", SIGNER_ITEMS_MAX);
  CLEANUP(cleanup_operation) struct signer_operation *operation = calloc(1, sizeof(*operation));
  if (!operation) return error_set(error, ERROR_NO_MEMORY, "signer %s: out of memory", signer->policy->name);
  operation->signer = signer;
  operation->items = items;
  operation->count = count;
  operation->deadline = deadline;
  int64_t now = loop_boottime(signer->loop);
  operation->middle = now + (deadline - now) / 2;
  operation->done = done;
  operation->context = context;
  operation->next = first;
  operation->entries = calloc(count + 1, sizeof(*operation->entries));
  operation->states = calloc(count + 1, sizeof(*operation->states));
  operation->results = calloc(count + 1, sizeof(*operation->results));
  operation->batch = calloc(count + 1, sizeof(*operation->batch));
  if (!operation->entries || !operation->states || !operation->results || !operation->batch)
    return error_set(error, ERROR_NO_MEMORY, "signer %s: out of memory", signer->policy->name);
  for (size_t i = 0; i < count; i++)
    if (opendkim_entry_make(signer->policy, &items[i], &operation->entries[i], &operation->results[i].error) < 0)
      operation->states[i] = OPENDKIM_ENDED;
  int result = loop_defer(signer->loop, opendkim_operation_begin, operation, &operation->timer);
  if (result < 0) return error_set(error, result, "signer %s: cannot start", signer->policy->name);
  operation->next_operation = signer->operations;
  signer->operations = operation;
  *ret_operation = TAKE_PTR(operation);
  return 0;
}
