#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/text.h"
#include "engine_internal.h"

/* Tables that somebody else changed: each run looks at the tables of every signer once, and where their digest is not what dkimroll last wrote or saw, the keys
 * there are proved at once, a bounded number of lineages in each turn. What an operation of ours may have written is stamped after it; a change by others that falls
 * between such a write and the look before it is left to the paced proof. */

static bool has_tables(const struct policy_signer *signer, const char *key_table, const char *signing_table) {
  return text_equal(signer->key_table, key_table) && text_equal(signer->signing_table, signing_table);
}

/* ---- what is known ---- */

static int add_tables(void *context, const void *row) {
  struct engine *engine = context;
  const struct policy_signer *signer = row;
  if (!signer->key_table || !signer->signing_table) return 0;
  for (size_t i = 0; i < engine->tables_count; i++)
    if (has_tables(engine->tables[i].policy, signer->key_table, signer->signing_table)) {
      engine->tables[i].policy = signer; /* the newest version: the keeper knows those of the policy */
      return 0;
    }
  if (engine->tables_count == ENGINE_SIGNERS_MAX) return 0;
  engine->tables[engine->tables_count++] = (struct engine_tables){.engine = engine, .policy = signer, .changed_at = TIME_UNSET, .woken = STORE_ALL_WOKEN};
  return 0;
}

static int take_row(void *context, const void *row) {
  struct engine *engine = context;
  const struct store_tables *stored = row;
  for (size_t i = 0; i < engine->tables_count; i++) {
    struct engine_tables *tables = &engine->tables[i];
    if (!has_tables(tables->policy, stored->key_table, stored->signing_table)) continue;
    text_copy(tables->digest, sizeof tables->digest, stored->digest);
    text_copy(tables->state, sizeof tables->state, stored->state);
    tables->changed_at = stored->changed_at;
    tables->woken = stored->woken;
  }
  return 0;
}

static int load(struct engine *engine, struct error *error) {
  static const struct store_filter all;
  struct store *store = engine->setup.store;
  int result = store->ops->select(store, STORE_SELECT_SIGNERS, &all, add_tables, engine, error);
  if (!result) result = store->ops->select(store, STORE_SELECT_TABLES, &all, take_row, engine, error);
  return result;
}

static int save(struct engine_tables *tables, struct store_wake *wake, struct event_list *events, struct error *error) {
  struct engine *engine = tables->engine;
  const struct store_tables row = {.key_table = tables->policy->key_table,
                                   .signing_table = tables->policy->signing_table,
                                   .digest = tables->digest,
                                   .state = tables->state,
                                   .changed_at = tables->changed_at,
                                   .woken = tables->woken};
  const struct store_commit commit = {.tables = &row,
                                      .tables_count = 1,
                                      .wake = wake,
                                      .events = events ? events->items : NULL,
                                      .event_count = events ? events->count : 0};
  int result = engine->setup.store->ops->commit(engine->setup.store, &commit, error);
  if (!result && events) engine_tell(engine, events);
  return result;
}

/* ---- looks ---- */

static void start_look(struct engine_tables *tables);

/* A change of tables belongs to no domain, so its event carries an empty one. */
static int note_change(struct engine_tables *tables, struct event_list *events, struct error *error) {
  static const struct lineage nobody;
  char reason[2048];
  struct engine *engine = tables->engine;
  engine_read_clock(engine, events);
  tables->changed_at = engine->plan_clock.now;
  tables->woken = 0;
  engine_want_turn(engine);
  snprintf(reason, sizeof reason, "somebody else changed %s or %s of signer %s: the keys there are proved at once", tables->policy->key_table,
           tables->policy->signing_table, tables->policy->name);
  return event_list_add(events, &nobody, NULL, tables->changed_at, "tables", reason, error);
}

static void take_stamp(struct engine_tables *tables, const struct signer_stamp *stamp, struct error *error) {
  struct engine *engine = tables->engine;
  struct event_list events = {0};
  const bool known = tables->digest[0] != '\0', differs = stamp->digest[0] && !text_equal(stamp->digest, tables->digest);
  if (text_equal(stamp->state, tables->state) && !differs) return;
  int result = known && differs && !tables->ours ? note_change(tables, &events, error) : 0;
  text_copy(tables->state, sizeof tables->state, stamp->state);
  if (stamp->digest[0]) text_copy(tables->digest, sizeof tables->digest, stamp->digest);
  if (!result) result = save(tables, NULL, &events, error);
  if (result) engine_fail(engine, error);
  event_list_release(&events);
}

static bool writes_tables(const struct operation *operation) {
  return operation->stage == &stage_activate || operation->stage == &stage_repair || operation->stage == &stage_withdraw;
}

/* A look that was under way when an operation of ours began may see the half of it; the look after it tells. */
static bool is_crossed(const struct engine *engine) {
  for (const struct operation *operation = engine->operations; operation; operation = operation->next)
    if (writes_tables(operation)) return true;
  return false;
}

/* Tables that cannot be looked at are no news: whoever signs with them is proved, and tells. */
static void looked(void *context, const struct signer_stamp *stamp, const struct error *error) {
  struct engine_tables *tables = context;
  struct engine *engine = tables->engine;
  struct error failure = {0};
  tables->looking = NULL;
  engine->looks--;
  if (error->code == 0 && !is_crossed(engine)) take_stamp(tables, stamp, &failure);
  tables->ours = tables->again;
  if (tables->again && !engine->failure.code) start_look(tables);
  if (engine->looks > 0) return;
  /* Where nothing was found and the engine rests, it rests on. */
  const bool first = engine->looked_at == 0, waited_for = !engine->timer && engine->open_operations == 0;
  if (first) engine->looked_at = time_max(loop_boottime(engine->setup.loop), 1);
  if (first || waited_for) engine_want_turn(engine);
}

static void start_look(struct engine_tables *tables) {
  struct engine *engine = tables->engine;
  struct error error = {0};
  const int64_t deadline = loop_boottime(engine->setup.loop) + ENGINE_LOOK_SECONDS * INT64_C(1000);
  tables->again = false;
  if (!tables->signer && engine->setup.factory->make_signer(engine->setup.factory->context, tables->policy, &tables->signer, &error)) return;
  const struct signer_ops *ops = tables->signer->ops;
  if (!ops->look || ops->look(tables->signer, tables->state, deadline, looked, tables, &tables->looking, &error)) return;
  engine->looks++;
}

int engine_inspect(struct engine *engine, struct error *error) {
  const int64_t now = loop_boottime(engine->setup.loop);
  const bool first = engine->looked_at == 0;
  if (engine->looks > 0 || engine->stopping) {
    if (engine->looks == 0) engine->looked_at = time_max(now, 1);
    return 0;
  }
  if (!first && (engine->open_operations > 0 || now < engine->looked_at + ENGINE_LOOK_EVERY * INT64_C(1000))) return 0;
  int result = first && engine->tables_count == 0 && !engine->setup.requests_only ? load(engine, error) : 0;
  for (size_t i = 0; i < engine->tables_count && !result; i++) start_look(&engine->tables[i]);
  if (!first || engine->looks == 0) engine->looked_at = time_max(now, 1);
  return result;
}

void engine_inspect_ours(struct engine *engine, const struct operation *operation) {
  const bool writes = writes_tables(operation);
  /* The first key at a signer makes its tables known. */
  for (size_t i = 0; i < operation->count && writes; i++)
    for (size_t j = 0; j < operation->works[i]->lineage.signer_count; j++) add_tables(engine, operation->works[i]->lineage.signers[j]);
  for (size_t i = 0; i < engine->tables_count && writes && !engine->failure.code; i++) {
    struct engine_tables *tables = &engine->tables[i];
    tables->ours = tables->again = true;
    if (!tables->looking) start_look(tables);
  }
}

void engine_release_looks(struct engine *engine) {
  for (size_t i = 0; i < engine->tables_count; i++) {
    struct engine_tables *tables = &engine->tables[i];
    if (tables->looking) signer_cancel(tables->signer, &tables->looking);
    signer_destroy(tables->signer);
  }
  engine->tables_count = engine->looks = 0;
}

/* ---- lineages ---- */

/* A change that lies ahead was stamped by a clock that has been set back since: what is to be proved after it would wait for its moment to come again. It counts from
 * now, so that each key is proved once more. */
static int come_back(struct engine_tables *tables, struct error *error) {
  const int64_t now = tables->engine->plan_clock.now;
  if (tables->changed_at <= now) return 0;
  tables->changed_at = now;
  return save(tables, NULL, NULL, error);
}

int engine_wake_changed(struct engine *engine, bool *ret_more, struct error *error) {
  for (size_t i = 0; i < engine->tables_count; i++) {
    struct engine_tables *tables = &engine->tables[i];
    int result = come_back(tables, error);
    if (result) return result;
    if (tables->woken == STORE_ALL_WOKEN) continue;
    struct store_wake wake = {.after = tables->woken, .limit = ENGINE_WAKE_BATCH, .at = engine->plan_clock.now, .last = STORE_ALL_WOKEN};
    /* The place is stored with the next batch: after a crash the last one is woken twice. */
    result = save(tables, &wake, NULL, error);
    if (result) return result;
    tables->woken = wake.last;
    *ret_more = true;
    if (wake.last != STORE_ALL_WOKEN) return 0;
    result = save(tables, NULL, NULL, error);
    if (result) return result;
  }
  return 0;
}

void engine_tell_changes(const struct engine *engine, struct lineage *lineage) {
  for (size_t i = 0; i < engine->tables_count; i++)
    for (size_t j = 0; j < lineage->signer_count; j++)
      if (has_tables(engine->tables[i].policy, lineage->signers[j]->key_table, lineage->signers[j]->signing_table))
        lineage->tables_changed_at = time_max(lineage->tables_changed_at, engine->tables[i].changed_at);
}
