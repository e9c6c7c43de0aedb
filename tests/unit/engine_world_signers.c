/* The engine's world: signers, whose tables are lines, and which watch over what may sign. */
#include "engine_world_parts.h"

#include <unistd.h>

#include "dkimroll/text.h"

struct fake_signer {
  struct signer signer;
  struct world *world;
  const char *name;
  int number;
};

static struct world_line *find_line(struct world *world, int signer, const char *domain) {
  for (size_t i = 0; i < world->line_count; i++)
    if (world->lines[i].signer == signer && text_equal(world->lines[i].domain, domain)) return &world->lines[i];
  assert_true(world->line_count < WORLD_NAMES_MAX);
  struct world_line *line = &world->lines[world->line_count++];
  line->signer = signer;
  text_copy(line->domain, sizeof line->domain, domain);
  return line;
}

const char *world_signs(const struct world *world, int signer, const char *domain) {
  for (size_t i = 0; i < world->line_count; i++)
    if (world->lines[i].signer == signer && text_equal(world->lines[i].domain, domain)) return world->lines[i].selector;
  return "";
}

void world_edit_tables(struct world *world, int signer, const char *domain, const char *selector) {
  struct world_line *line = find_line(world, signer, domain);
  text_copy(line->selector, sizeof line->selector, selector);
}

static void activate_one(struct world_pending *pending, const struct signer_item *item, struct signer_result *result) {
  struct world *world = pending->world;
  if (world->signer_down && text_equal(world->signer_down, pending->signer_name)) {
    error_set(&result->error, ERROR_UNREACHABLE, "nobody answers");
    return;
  }
  if ((world->signer_fails && text_equal(world->signer_fails, pending->signer_name)) ||
      (world->domain_fails && text_equal(world->domain_fails, item->domain))) {
    error_set(&result->error, ERROR_PROOF, "the fake signer does not sign");
    result->rolled_back = true;
    return;
  }
  struct world_line *line = find_line(world, pending->signer, item->domain);
  struct world_name *name = world_name_of(world, item->selector, item->domain);
  if (!item->key_path || access(item->key_path, R_OK))
    world_violate(world, "a table names a key file that is not there", item->key_path);
  for (int s = 0; s < WORLD_SERVERS; s++) {
    const char *record = world_name_at(world, name, s);
    if (!record) world_violate(world, "a key signs whose record a server does not have", name->name);
    /* F1: negative answers have left all caches. */
    if (loop_boottime(world->loop) < name->changed + (world->lag[s] + WORLD_NEGATIVE_TTL) * 1000)
      world_violate(world, "a key signs too early", name->name);
  }
  if (line->selector[0] && !text_equal(line->selector, item->selector))
    world_name_of(world, line->selector, item->domain)->signed_at = loop_wall(world->loop);
  world->counts.switches += !text_equal(line->selector, item->selector);
  text_copy(line->selector, sizeof line->selector, item->selector);
  text_copy(line->key_name, sizeof line->key_name, item->key_name ? item->key_name : "");
  line->adopted = item->adopted;
  name->signed_at = loop_wall(world->loop);
  result->switched_at = result->completed_at = loop_wall(world->loop);
}

static void prove_one(struct world_pending *pending, const struct signer_item *item, struct signer_result *result) {
  struct world *world = pending->world;
  const struct world_line *line = find_line(world, pending->signer, item->domain);
  world->counts.compared += item->compare;
  if (world->signer_down && text_equal(world->signer_down, pending->signer_name))
    error_set(&result->error, ERROR_UNREACHABLE, "nobody answers");
  else if (!text_equal(line->selector, item->selector))
    error_set(&result->error, ERROR_PROOF, "it signs with \"%s\"", line->selector);
  else if (item->key_path && access(item->key_path, R_OK))
    world_violate(world, "a key is proved whose file is not there", item->key_path);
  else
    world_name_of(world, item->selector, item->domain)->signed_at = result->completed_at = loop_wall(world->loop);
}

static void signer_answer(struct world_pending *pending) {
  struct world *world = pending->world;
  const struct signer_item *items = pending->items;
  struct signer_result *results = calloc(pending->count, sizeof *results);
  for (size_t i = 0; i < pending->count; i++) {
    if (pending->kind == 0) {
      activate_one(pending, &items[i], &results[i]);
    } else if (pending->kind == 2) {
      prove_one(pending, &items[i], &results[i]);
    } else {
      if (text_equal(world_signs(world, pending->signer, items[i].domain), items[i].selector))
        world_violate(world, "the signing key was withdrawn", items[i].domain);
      results[i].completed_at = loop_wall(world->loop);
    }
  }
  ((signer_done *)pending->done)(pending->context, results, pending->count);
  free(results);
}

static int signer_begin(struct signer *signer, int kind, const struct signer_item *items, size_t count,
                        signer_done *done, void *context, struct signer_operation **ret_operation,
                        struct error *error) {
  struct fake_signer *fake = (struct fake_signer *)signer;
  const struct world_pending pending = {.world = fake->world,
                                        .answer = signer_answer,
                                        .items = items,
                                        .count = count,
                                        .kind = kind,
                                        .signer = fake->number,
                                        .signer_name = fake->name,
                                        .done = (void *)done,
                                        .context = context};
  return world_pending_start(&pending, loop_boottime(fake->world->loop) + fake->world->answer_ms, ret_operation, error);
}
static int signer_activate_start(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                                 signer_done *done, void *context, struct signer_operation **ret_operation,
                                 struct error *error) {
  (void)deadline;
  ((struct fake_signer *)signer)->world->counts.activations++;
  return signer_begin(signer, 0, items, count, done, context, ret_operation, error);
}
static int signer_withdraw_start(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                                 signer_done *done, void *context, struct signer_operation **ret_operation,
                                 struct error *error) {
  (void)deadline;
  ((struct fake_signer *)signer)->world->counts.withdrawals++;
  return signer_begin(signer, 1, items, count, done, context, ret_operation, error);
}
static int signer_prove_start(struct signer *signer, const struct signer_item *items, size_t count, int64_t deadline,
                              signer_done *done, void *context, struct signer_operation **ret_operation,
                              struct error *error) {
  (void)deadline;
  ((struct fake_signer *)signer)->world->counts.proofs++;
  return signer_begin(signer, 2, items, count, done, context, ret_operation, error);
}
static void look_answer(struct world_pending *pending) {
  struct world *world = pending->world;
  struct signer_stamp stamp = {0};
  struct error error = {0};
  world->looks++;
  if (world->tables_digest) {
    text_copy(stamp.digest, sizeof stamp.digest, world->tables_digest);
    text_copy(stamp.state, sizeof stamp.state, world->tables_digest);
  } else {
    error_set(&error, ERROR_PERMISSION, "nobody may look");
  }
  ((signer_looked *)pending->done)(pending->context, &stamp, &error);
}
static int signer_look_start(struct signer *signer, const char *known_state, int64_t deadline, signer_looked *done,
                             void *context, struct signer_operation **ret_operation, struct error *error) {
  struct fake_signer *fake = (struct fake_signer *)signer;
  const struct world_pending pending = {
      .world = fake->world, .answer = look_answer, .signer = fake->number, .done = (void *)done, .context = context};
  (void)known_state;
  (void)deadline;
  return world_pending_start(&pending, loop_boottime(fake->world->loop) + fake->world->answer_ms, ret_operation, error);
}
static void signer_cancel_one(struct signer *signer, struct signer_operation *operation) {
  (void)signer;
  world_pending_cancel(operation);
}
static void signer_end(struct signer *signer) {
  ((struct fake_signer *)signer)->world->open_back_ends--;
  free(signer);
}
static const struct signer_ops signer_ops = {.activate = signer_activate_start,
                                             .withdraw = signer_withdraw_start,
                                             .prove = signer_prove_start,
                                             .look = signer_look_start,
                                             .cancel = signer_cancel_one,
                                             .destroy = signer_end};

int world_make_signer(void *context, const struct policy_signer *policy, struct signer **ret_signer,
                       struct error *error) {
  struct world *world = context;
  (void)error;
  struct fake_signer *signer = calloc(1, sizeof *signer);
  *signer = (struct fake_signer){
      .signer.ops = &signer_ops, .world = world, .name = policy->name, .number = text_equal(policy->name, "second")};
  world->open_back_ends++;
  *ret_signer = &signer->signer;
  return 0;
}
