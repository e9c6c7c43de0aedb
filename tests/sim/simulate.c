/* simulate --seed N [--count N] [--days D] [--faults LIST] [--trace] | --show N | --minimise N | --hours H | FILE...
 * Lives through seeds or scenarios. Exit 1 after a violation, which is printed with the command that replays it. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "dkimroll/text.h"
#include "sim.h"

struct settings {
  unsigned days;
  const char *faults;
  bool trace, minimise, show, twice;
  uint64_t seed, count;
  double hours;
  struct sim_counts counts;
  size_t passed, failed;
};

static void add_counts(struct sim_counts *sum, const struct sim_counts *counts) {
  sum->runs += counts->runs;
  sum->crashes += counts->crashes;
  sum->mails += counts->mails;
  sum->verified += counts->verified;
  sum->excused += counts->excused;
  sum->rotations += counts->rotations;
  sum->queries += counts->queries;
  sum->updates += counts->updates;
  sum->simulated_seconds += counts->simulated_seconds;
  if (counts->busiest > sum->busiest) sum->busiest = counts->busiest;
  if (counts->loudest > sum->loudest) sum->loudest = counts->loudest;
  for (size_t i = 0; sim_fault_kinds[i]; i++) sum->faults[i] += counts->faults[i];
}

static void live(struct settings *settings, const struct sim_script *script, struct sim_result *ret_result) {
  const struct sim_options options = {.trace = settings->trace ? stdout : NULL};
  sim_run(script, &options, ret_result);
}

static void print_replay(const struct settings *settings, uint64_t seed) {
  printf("replay: simulate --seed %llu --days %u%s%s --trace\n", (unsigned long long)seed, settings->days, settings->faults ? " --faults " : "",
         settings->faults ? settings->faults : "");
}

static bool try_seed(struct settings *settings, uint64_t seed) {
  struct sim_script script = {0};
  struct sim_result result, again;
  sim_seed_script(seed, settings->days, settings->faults, &script);
  live(settings, &script, &result);
  add_counts(&settings->counts, &result.counts);
  if (settings->twice && !result.failed) {
    live(settings, &script, &again);
    if (again.digest != result.digest) {
      result.failed = true;
      snprintf(result.violation, sizeof result.violation, "the same seed lived two different lives: %016llx and %016llx", (unsigned long long)result.digest,
               (unsigned long long)again.digest);
    }
  }
  sim_script_release(&script);
  *(result.failed ? &settings->failed : &settings->passed) += 1;
  if (!result.failed) return true;
  printf("[  FAILED  ] seed %llu: %s\n", (unsigned long long)seed, result.violation);
  print_replay(settings, seed);
  return false;
}

static bool try_file(struct settings *settings, const char *path) {
  struct sim_script script = {0};
  struct sim_result result;
  if (!sim_script_read(path, &script)) {
    printf("[  FAILED  ] %s cannot be read\n", path);
    settings->failed++;
    return false;
  }
  live(settings, &script, &result);
  add_counts(&settings->counts, &result.counts);
  sim_script_release(&script);
  *(result.failed ? &settings->failed : &settings->passed) += 1;
  printf("[ %s ] %s%s%s\n", result.failed ? " FAILED " : "      OK", path, result.failed ? ": " : "", result.failed ? result.violation : "");
  if (result.failed) printf("replay: simulate --trace %s\n", path);
  return !result.failed;
}

/* ---- the minimiser: actions are taken away as long as the same invariant is violated ---- */

static bool still_fails(struct settings *settings, const struct sim_script *script, const bool *without, const char *kind) {
  struct sim_script shorter = {0};
  struct sim_result result;
  for (size_t i = 0; i < script->count; i++)
    if (!without[i]) sim_script_add(&shorter, "%s", script->lines[i]);
  live(settings, &shorter, &result);
  sim_script_release(&shorter);
  return result.failed && strncmp(result.violation, kind, strcspn(kind, " ")) == 0;
}

static void minimise(struct settings *settings, uint64_t seed) {
  struct sim_script script = {0};
  struct sim_result result;
  const bool trace = settings->trace;
  settings->trace = false;
  sim_seed_script(seed, settings->days, settings->faults, &script);
  live(settings, &script, &result);
  if (!result.failed) {
    printf("seed %llu violates nothing\n", (unsigned long long)seed);
    sim_script_release(&script);
    return;
  }
  bool *without = calloc(script.count, sizeof *without), *attempt = calloc(script.count, sizeof *attempt);
  if (!without || !attempt) abort();
  for (size_t size = script.count / 2; size > 0; size = size > 1 ? size / 2 : 0)
    for (size_t from = 0; from < script.count; from += size) {
      bool any = false;
      memcpy(attempt, without, script.count * sizeof *attempt);
      for (size_t i = from; i < from + size && i < script.count; i++)
        if (text_starts(script.lines[i], "at ") && !attempt[i]) any = attempt[i] = true;
      if (any && still_fails(settings, &script, attempt, result.violation)) memcpy(without, attempt, script.count * sizeof *attempt);
    }
  struct sim_script shortest = {0};
  for (size_t i = 0; i < script.count; i++)
    if (!without[i]) sim_script_add(&shortest, "%s", script.lines[i]);
  settings->trace = trace;
  live(settings, &shortest, &result);
  printf("# %s\n", result.violation);
  for (size_t i = 0; i < shortest.count; i++) printf("%s\n", shortest.lines[i]);
  sim_script_release(&shortest);
  sim_script_release(&script);
  free(without);
  free(attempt);
}

/* ---- the summary ---- */

static void print_summary(const struct settings *settings) {
  const struct sim_counts *c = &settings->counts;
  uint64_t faults = 0;
  for (size_t i = 0; sim_fault_kinds[i]; i++) faults += c->faults[i];
  printf("simulated %.1f years, %llu runs of dkimroll, %llu crashes, %llu queries, %llu updates, %llu switches, %llu mails, %llu verifications (%llu excused)\n",
         (double)c->simulated_seconds / (365.25 * 86400), (unsigned long long)c->runs, (unsigned long long)c->crashes, (unsigned long long)c->queries,
         (unsigned long long)c->updates, (unsigned long long)c->rotations, (unsigned long long)c->mails, (unsigned long long)c->verified,
         (unsigned long long)c->excused);
  printf("busiest day: %llu jobs of the keeper; loudest day: %llu events\n", (unsigned long long)c->busiest, (unsigned long long)c->loudest);
  printf("faults injected: %llu:", (unsigned long long)faults);
  for (size_t i = 0; sim_fault_kinds[i]; i++)
    if (c->faults[i]) printf(" %s %llu", sim_fault_kinds[i], (unsigned long long)c->faults[i]);
  printf("\n[  PASSED  ] %zu test(s).\n", settings->passed);
  if (settings->failed) printf(" %zu FAILED TEST(S)\n", settings->failed);
}

static double real_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int usage(void) {
  fprintf(stderr, "usage: simulate [--seed N] [--count N] [--days D] [--faults LIST] [--twice] [--trace]\n"
                  "       simulate --hours H [--seed N]      runs on with rising seeds\n"
                  "       simulate --show N | --minimise N   prints the scenario of a seed, whole or cut down\n"
                  "       simulate [--trace] FILE...         lives through scenarios (tests/sim/README.md)\n");
  return EX_USAGE;
}

int main(int argc, char **argv) {
  static const struct option options[] = {{"seed", 1, NULL, 's'},   {"count", 1, NULL, 'n'}, {"days", 1, NULL, 'd'},  {"faults", 1, NULL, 'f'}, {"trace", 0, NULL, 't'},
                                          {"hours", 1, NULL, 'h'},  {"show", 1, NULL, 'w'},  {"minimise", 1, NULL, 'm'}, {"twice", 0, NULL, '2'},  {0}};
  struct settings settings = {.days = 90, .seed = 1, .count = 1};
  bool seeds = false;
  setvbuf(stdout, NULL, _IOLBF, 0); /* what was found is told at once, also into a file */
  for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    switch (option) {
    case 's': settings.seed = strtoull(optarg, NULL, 10); seeds = true; break;
    case 'n': settings.count = strtoull(optarg, NULL, 10); seeds = true; break;
    case 'd': settings.days = (unsigned)strtoul(optarg, NULL, 10); break;
    case 'f': settings.faults = optarg; break;
    case 't': settings.trace = true; break;
    case 'h': settings.hours = strtod(optarg, NULL); seeds = true; break;
    case 'w': settings.show = true; settings.seed = strtoull(optarg, NULL, 10); break;
    case 'm': settings.minimise = true; settings.seed = strtoull(optarg, NULL, 10); break;
    case '2': settings.twice = true; break;
    default: return usage();
    }
  }
  if (settings.minimise) {
    minimise(&settings, settings.seed);
    return EX_OK;
  }
  if (settings.show) {
    struct sim_script script = {0};
    sim_seed_script(settings.seed, settings.days, settings.faults, &script);
    for (size_t i = 0; i < script.count; i++) printf("%s\n", script.lines[i]);
    sim_script_release(&script);
    return EX_OK;
  }
  if (!seeds && optind == argc) return usage();
  const double begun = real_seconds();
  bool well = true;
  for (int i = optind; i < argc; i++) well &= try_file(&settings, argv[i]);
  for (uint64_t i = 0; seeds && (settings.hours > 0 ? well && real_seconds() - begun < settings.hours * 3600 : i < settings.count); i++)
    well &= try_seed(&settings, settings.seed + i);
  print_summary(&settings);
  return well ? EX_OK : 1;
}
