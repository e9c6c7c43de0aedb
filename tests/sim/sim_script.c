/* Scenarios: text in, a life of the world through it. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/text.h"
#include "sim.h"
#include "sim_keys.h"

void sim_script_add(struct sim_script *script, const char *format, ...) {
  va_list arguments;
  char line[SIM_LINE];
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  if (script->count == script->capacity) {
    script->capacity = script->capacity ? 2 * script->capacity : 64;
    script->lines = reallocarray(script->lines, script->capacity, sizeof *script->lines);
    if (!script->lines) abort();
  }
  script->lines[script->count++] = text_duplicate(line);
}

void sim_script_release(struct sim_script *script) {
  for (size_t i = 0; i < script->count; i++) free(script->lines[i]);
  free(script->lines);
  *script = (struct sim_script){0};
}

bool sim_script_read(const char *path, struct sim_script *ret_script) {
  FILE *file = fopen(path, "re");
  char line[SIM_LINE];
  if (!file) return false;
  while (fgets(line, sizeof line, file)) {
    line[strcspn(line, "\r\n")] = '\0';
    sim_script_add(ret_script, "%s", line);
  }
  return fclose(file) == 0;
}

/* ---- lines ---- */

static size_t split(char *text, char **words) {
  size_t count = 0;
  char *rest = text;
  text[strcspn(text, "#")] = '\0';
  for (char *word; count < SIM_WORDS_MAX && (word = strsep(&rest, " \t")) != NULL;)
    if (*word) words[count++] = word;
  return count;
}

static bool take_size(const char *word, size_t lowest, size_t highest, size_t *ret) {
  char *end = NULL;
  const unsigned long number = strtoul(word, &end, 10);
  if (*end || number < lowest || number > highest) return false;
  *ret = number;
  return true;
}

static bool world_line(struct sim *sim, char **words, size_t count) {
  int64_t seconds = 0;
  if (count == 2 && text_equal(words[1], "signed")) {
    sim->is_signed = true;
    return true;
  }
  if (count == 2 && text_equal(words[1], "delegated")) {
    sim->is_delegated = true;
    return true;
  }
  if (count == 2 && text_equal(words[1], "ipv6")) {
    sim->has_ipv6 = true;
    return true;
  }
  if (count != 3) return false;
  if (text_equal(words[1], "publisher"))
    return (text_equal(words[2], "command") || text_equal(words[2], "zonefile")) && text_copy(sim->publisher, sizeof sim->publisher, words[2]);
  if (text_equal(words[1], "domains")) return take_size(words[2], 1, SIM_DOMAINS_MAX, &sim->domain_count);
  if (text_equal(words[1], "servers")) return take_size(words[2], 1, SIM_SERVERS_MAX, &sim->server_count);
  if (text_equal(words[1], "signers")) return take_size(words[2], 1, SIM_SIGNERS_MAX, &sim->signer_count);
  if (!duration_parse(words[2], &seconds) || seconds > 86400) return false;
  if (text_equal(words[1], "soa-ttl")) {
    sim->soa_ttl = (uint32_t)seconds;
  } else if (text_equal(words[1], "negative-ttl")) {
    sim->minimum = (uint32_t)seconds;
  } else if (text_equal(words[1], "wildcard")) {
    return text_copy(sim->wildcard, sizeof sim->wildcard, words[2]);
  } else {
    return false;
  }
  return true;
}

static bool run_line(struct sim *sim, char **words, size_t count) {
  int64_t seconds = 0, horizon = 0;
  if (count == 2 && text_equal(words[1], "daemon")) {
    sim->daemon = sim->stays = true;
    sim->horizon = TIME_NEVER;
    return true;
  }
  if (count < 3 || !duration_parse(words[2], &seconds) || seconds < 1) return false;
  if (text_equal(words[1], "every")) {
    if (count == 5 && (!text_equal(words[3], "for") || !duration_parse(words[4], &horizon))) return false;
    sim->run_every = seconds * 1000;
    sim->horizon = horizon;
    return count == 3 || count == 5;
  }
  sim->daemon = text_equal(words[1], "daemon");
  sim->horizon = seconds;
  return sim->daemon && count == 3;
}

static bool at_line(struct sim *sim, const char *line, char **words, unsigned number) {
  int64_t seconds = 0;
  if (!duration_parse(words[1], &seconds)) return false;
  sim->actions = reallocarray(sim->actions, sim->action_count + 1, sizeof *sim->actions);
  if (!sim->actions) abort();
  struct sim_action *action = &sim->actions[sim->action_count++];
  *action = (struct sim_action){.at = seconds * 1000, .line = number};
  const char *text = strstr(line, words[1]) + strlen(words[1]);
  text += strspn(text, " \t");
  text_copy(action->text, sizeof action->text, text);
  action->text[strcspn(action->text, "#")] = '\0';
  return true;
}

static bool take_line(struct sim *sim, const char *line, unsigned number) {
  char text[SIM_LINE], *words[SIM_WORDS_MAX];
  int64_t seconds = 0;
  text_copy(text, sizeof text, line);
  const size_t count = split(text, words);
  if (count == 0) return true;
  if (text_equal(words[0], "at") && count > 2) return at_line(sim, line, words, number);
  if (text_equal(words[0], "world")) return world_line(sim, words, count);
  if (text_equal(words[0], "run")) return run_line(sim, words, count);
  if (text_equal(words[0], "policy") && count == 3) return sim_policy_set(sim, words[1], words[2]);
  if (count != 2) return false;
  if (text_equal(words[0], "seed")) {
    sim->seed = strtoull(words[1], NULL, 10);
    return true;
  }
  if (!duration_parse(words[1], &seconds)) return false;
  if (text_equal(words[0], "lasts"))
    sim->end = SIM_START + seconds * 1000;
  else if (text_equal(words[0], "calm"))
    sim->calm = seconds * 1000;
  else
    return false;
  return true;
}

/* ---- the life ---- */

struct cue {
  struct sim *sim;
  const struct sim_action *action;
};

static void cue_fire(void *context) {
  struct cue *cue = context;
  char why[SIM_LINE];
  /* What ends a process ends a run; a command that imports has a minute of peace. */
  if (cue->sim->is_importing) {
    sim_loop_at(cue->sim->clock, sim_loop_now(cue->sim->clock) + SIM_SECOND, cue_fire, cue, true);
    return;
  }
  if (!sim_action_do(cue->sim, cue->action, why, sizeof why))
    sim_violate(cue->sim, "scenario", "line %u: \"%s\": %s", cue->action->line, cue->action->text, why);
  free(cue);
}

static void calm_fire(void *context) { sim_calm(context); }

/* A daemon does not outlive the world. */
static void end_fire(void *context) {
  struct sim *sim = context;
  if (sim->engine) engine_stop(sim->engine);
}

static void plan_actions(struct sim *sim) {
  for (size_t i = 0; i < sim->action_count; i++) {
    struct cue *cue = malloc(sizeof *cue);
    if (!cue) abort();
    *cue = (struct cue){sim, &sim->actions[i]};
    sim_loop_at(sim->clock, SIM_START + sim->actions[i].at, cue_fire, cue, true);
  }
  sim_loop_at(sim->clock, sim->end, end_fire, sim, false);
  if (sim->calm) sim_loop_at(sim->clock, sim->end - sim->calm, calm_fire, sim, false);
}

/* The timer's next elapse at or after moment, somewhat late as timers are. */
static int64_t next_tick(struct sim *sim, int64_t moment) {
  const int64_t now = sim_loop_now(sim->clock);
  const int64_t since = time_max(moment, now) - SIM_START;
  return SIM_START + (since / sim->run_every + 1) * sim->run_every + SIM_RANDOM(sim, 2000);
}

/* Nobody starts dkimroll before. */
static int64_t begins_at(const struct sim *sim) { return sim->import_waits ? sim->end : sim->away_until; }

static void live(struct sim *sim) {
  while (!sim->over && sim_loop_now(sim->clock) < sim->end) {
    const int64_t due = sim->dirty ? SIM_START : sim_host_next(sim);
    int64_t tick = sim->daemon && due <= sim_loop_now(sim->clock) ? sim_loop_now(sim->clock) + SIM_MINUTE : next_tick(sim, due);
    tick = time_max(tick, begins_at(sim));
    if (!sim_loop_until(sim->clock, time_min(tick, sim->end))) {
      if (sim->dirty && !sim->over) sim_loop_until(sim->clock, time_min(time_max(next_tick(sim, 0), begins_at(sim)), sim->end));
    }
    if (sim_loop_now(sim->clock) < begins_at(sim)) continue;
    if (!sim->over && sim_loop_now(sim->clock) < sim->end) sim_host_run(sim, sim->horizon);
  }
  if (sim->over) return;
  char why[SIM_LINE];
  const char *ill = sim->calm ? sim_oracle_ill(sim, NULL, why, sizeof why) : NULL;
  if (ill) sim_violate(sim, "liveness", "after %lld h of calm: %s", (long long)(sim->calm / SIM_HOUR), ill);
  if (sim->calm && !sim->over) sim_orphans_judge(sim);
  sim_oracle_store(sim);
}

static void begin(struct sim *sim) {
  entropy_seed(&sim->world_random, sim->seed * 2 + 1);
  entropy_seed(&sim->process_random, sim->seed * 2 + 2);
  sim_host_init(sim);
  sim_disk_install(&sim->disk, sim->seed);
  sim->disk.room = -1;
  sim_zones_init(sim);
  sim_filters_init(sim);
  for (size_t i = 0; i < sim->domain_count; i++) {
    sim->present[i] = true;
    if (!sim->domain_signers[i]) sim->domain_signers[i] = (1u << sim->signer_count) - 1;
  }
  sim_policy_write(sim);
  plan_actions(sim);
  sim_mail_begin(sim);
}

static void end(struct sim *sim) {
  sim->result->counts.simulated_seconds = (uint64_t)(sim_loop_now(sim->clock) - SIM_START) / 1000;
  sim_filters_free(sim);
  sim_keys_forget();
  sim_zones_free(sim);
  sim_host_free(sim);
  if (sim->disk.real) sim_disk_remove(&sim->disk);
  sim_loop_free(sim->clock);
  for (size_t i = 0; i < sim->arena_count; i++) free(sim->arena[i]);
  free(sim->arena);
  free(sim->secrets);
  free(sim->actions);
}

void sim_run(const struct sim_script *script, const struct sim_options *options, struct sim_result *ret_result) {
  struct sim *sim = calloc(1, sizeof *sim);
  if (!sim) abort();
  *ret_result = (struct sim_result){.digest = UINT64_C(14695981039346656037)};
  sim->options = *options;
  sim->result = ret_result;
  sim->domain_count = 1;
  sim->server_count = 3;
  sim->signer_count = 1;
  sim->soa_ttl = 3600;
  sim->minimum = 900;
  sim->run_every = 5 * SIM_MINUTE;
  sim->horizon = 600;
  sim->end = SIM_START + 60 * SIM_DAY;
  sim->clock = sim_loop_new();
  sim->loop = sim_loop_borrow(sim->clock);
  bool well = true;
  for (size_t i = 0; i < script->count && well; i++) {
    well = take_line(sim, script->lines[i], (unsigned)i + 1);
    if (!well) snprintf(ret_result->violation, sizeof ret_result->violation, "line %zu means nothing: %.400s", i + 1, script->lines[i]);
  }
  ret_result->failed = !well;
  if (well) {
    begin(sim);
    live(sim);
  }
  end(sim);
  free(sim);
}
