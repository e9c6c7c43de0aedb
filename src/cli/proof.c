#include "dkimroll/proof.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/operands.h"
#include "dkimroll/text.h"

static void release_proof(struct proof *proof) {
  proof_batch_release(proof);
  findings_release(&proof->findings);
  session_release(&proof->session);
}

static const struct key *find_active(const struct lineage *lineage) {
  for (size_t i = 0; i < lineage->key_count; i++)
    if (lineage->keys[i].state == KEY_ACTIVE) return &lineage->keys[i];
  return NULL;
}

static int grow(struct proof *proof, struct error *error) {
  if (proof->key_count < proof->key_room) return 0;
  const size_t room = proof->key_room ? proof->key_room * 2 : 16;
  struct proof_key *grown = reallocarray(proof->keys, room, sizeof *grown);
  if (!grown) return error_set(error, ERROR_NO_MEMORY, "out of memory for the keys");
  memset(grown + proof->key_count, 0, (room - proof->key_count) * sizeof *grown);
  /* Keys point into the lineages that moved with them; those are on the heap and stayed. */
  proof->keys = grown;
  proof->key_room = room;
  return 0;
}

static int keep_row(void *context, const void *row) {
  struct proof *proof = context;
  const struct lineage *lineage = row;
  proof->after = lineage->id;
  if (!find_active(lineage)) {
    findings_add(&proof->findings,
                 &(struct finding){.level = FINDING_NOTE,
                                   .subject = (char *)"keys",
                                   .who = (char *)lineage->domain,
                                   .text = (char *)"no key of it signs yet, so there is nothing to prove",
                                   .remedy = (char *)""});
    return 0;
  }
  int result = grow(proof, proof->error);
  if (result) return result;
  struct proof_key *key = &proof->keys[proof->key_count];
  result = lineage_copy(lineage, &key->lineage, proof->error);
  if (result) return result;
  key->key = find_active(&key->lineage);
  proof->key_count++;
  return 0;
}

/* Reads the next batch; without keys: there are no more. */
static int read_batch(struct proof *proof, struct error *error) {
  const struct cli_arguments *arguments = proof->cli->arguments;
  struct store *store = proof->session.store;
  char domain[DNS_NAME_TEXT_SIZE];
  int result = 0;
  for (; proof->operand < arguments->operand_count && proof->key_count < PROOF_BATCH && !result; proof->operand++) {
    const struct store_filter filter = {.domain = domain};
    if (operand_domain(arguments->operands[proof->operand], domain))
      result = store->ops->select(store, STORE_SELECT_LINEAGES, &filter, keep_row, proof, error);
  }
  int64_t before = proof->after - 1;
  while (arguments->operand_count == 0 && proof->key_count < PROOF_BATCH && before != proof->after && !result) {
    const struct store_filter filter = {.after = proof->after, .limit = PROOF_BATCH - proof->key_count};
    before = proof->after;
    result = store->ops->select(store, STORE_SELECT_LINEAGES, &filter, keep_row, proof, error);
  }
  return result;
}

static int next_batch(struct proof *proof, struct error *error) {
  int result = read_batch(proof, error);
  if (result || proof->key_count == 0) {
    loop_stop(proof->session.backends.loop);
    return result;
  }
  return proof_batch_start(proof, error);
}

void proof_batch_done(struct proof *proof) {
  int result = proof_report_batch(proof, proof->error);
  proof_batch_release(proof);
  if (!result) result = next_batch(proof, proof->error);
  if (result) loop_stop(proof->session.backends.loop);
}

static void begin(void *context) {
  struct proof *proof = context;
  if (next_batch(proof, proof->error)) loop_stop(proof->session.backends.loop);
}

/* Keys are proved at the signers of the policy that was compiled. */
static int look_at_policy(struct proof *proof, struct error *error) {
  int64_t next = TIME_UNSET;
  const int result = session_look(&proof->session, &next, error);
  if (result || next != TIME_UNSET) return result;
  findings_add(&proof->findings,
               &(struct finding){.level = FINDING_NOTE,
                                 .subject = (char *)"policy",
                                 .text = (char *)"the policy was changed since the last run: what it says of signers, senders and servers is not in force yet, and "
                                                 "was not proved",
                                 .remedy = (char *)"`dkimroll run` takes it over"});
  return 0;
}

static int prove(struct proof *proof, struct error *error) {
  int result = session_start_backends(&proof->session, error);
  if (!result) result = session_open_for_reading(&proof->session, error);
  if (!result) result = operands_check(&proof->session, error);
  if (!result) result = look_at_policy(proof, error);
  if (result) return result;
  proof_report_begin(proof);
  return session_run_loop(&proof->session, begin, proof, error);
}

int cli_command_prove(const struct cli *cli) {
  struct error error = {0};
  CLEANUP(release_proof) struct proof proof = {.cli = cli, .session = {.cli = cli}, .error = &error};
  if (prove(&proof, &error)) return cli_report(cli, &error);
  return proof_report_end(&proof);
}
