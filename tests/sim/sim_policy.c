/* The policy of the simulated host: a few values that scenarios set, written as the YAML that production code reads. */
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/text.h"
#include "sim.h"

static const struct {
  const char *key, *standard;
  const char *group; /* under the rules; NULL: at their top */
} known[] = {
    {"rotate-every", "20d", NULL},     {"standby", "0", NULL},          {"ttl", "1h", "publish"},
    {"safety", "1h", "publish"},       {"sightings", "2", "confirm"},   {"every", "30s", "confirm"},
    {"warn-after", "1h", "confirm"},   {"queue-lifetime", "2d", "retire"}, {"queue-backoff", "1h", "retire"},
    {"drain", "1h", "retire"},         {"verify-window", "1d", "retire"},  {"retire-safety", "1h", "retire"},
    {"tombstone", "3d", "retire"},     {"private-key", "destroy", "retire"}, {"selector", "s%Y%m%d", NULL},
    /* "none": not given */
    {"jitter", "none", "calendar"},    {"time-zone", "none", "calendar"}, {"freeze", "none", "calendar"}, {"window-days", "none", "window"},
    {"window-hours", "none", "window"}, {"max-per-run", "none", "limits"}, {"failure-budget", "none", "limits"},
};

bool sim_policy_set(struct sim *sim, const char *key, const char *value) {
  bool found = false;
  for (size_t i = 0; i < ARRAY_SIZE(known); i++) found |= text_equal(known[i].key, key);
  for (size_t i = 0; found && i < sim->rule_count; i++)
    if (text_equal(sim->rules[i].key, key)) {
      text_copy(sim->rules[i].value, sizeof sim->rules[i].value, value);
      return true;
    }
  if (!found || sim->rule_count == ARRAY_SIZE(sim->rules)) return false;
  text_copy(sim->rules[sim->rule_count].key, sizeof sim->rules[0].key, key);
  text_copy(sim->rules[sim->rule_count++].value, sizeof sim->rules[0].value, value);
  return true;
}

static const char *value_of(const struct sim *sim, const char *key) {
  for (size_t i = 0; i < sim->rule_count; i++)
    if (text_equal(sim->rules[i].key, key)) return sim->rules[i].value;
  for (size_t i = 0; i < ARRAY_SIZE(known); i++)
    if (text_equal(known[i].key, key)) return known[i].standard;
  abort();
}

int64_t sim_policy_seconds(const struct sim *sim, const char *key) {
  int64_t seconds = 0;
  if (!duration_parse(value_of(sim, key), &seconds)) return TIME_NEVER;
  return seconds;
}

int64_t sim_policy_window(const struct sim *sim) {
  return (sim_policy_seconds(sim, "queue-lifetime") + sim_policy_seconds(sim, "queue-backoff") + sim_policy_seconds(sim, "verify-window")) * 1000;
}

static void write_group(const struct sim *sim, const char *group, FILE *file) {
  const char *separator = "";
  fprintf(file, "    %s: {", group);
  for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
    if (!text_equal(known[i].group, group)) continue;
    const char *key = text_equal(known[i].key, "retire-safety") ? "safety" : known[i].key;
    fprintf(file, "%s%s: %s", separator, key, value_of(sim, known[i].key));
    separator = ", ";
  }
  if (text_equal(group, "retire") && text_equal(value_of(sim, "private-key"), "archive")) fprintf(file, ", archive-directory: %s/archive/%%d", sim->root);
  fprintf(file, "}\n");
}

static bool is_given(const struct sim *sim, const char *key) { return !text_equal(value_of(sim, key), "none"); }

/* What is given of a group: lists of words as lists of texts. */
static void write_given(const struct sim *sim, const char *group, const char *indent, FILE *file) {
  for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
    if (!text_equal(known[i].group, group) || !is_given(sim, known[i].key)) continue;
    const bool list = text_equal(known[i].key, "freeze");
    fprintf(file, "%s%s: %s\"", indent, known[i].key, list ? "[" : "");
    for (const char *c = value_of(sim, known[i].key); *c; c++) *c == ',' ? fputs("\", \"", file) : fputc(*c, file);
    fprintf(file, "\"%s\n", list ? "]" : "");
  }
}

static void write_window(const struct sim *sim, FILE *file) {
  if (!is_given(sim, "window-days") && !is_given(sim, "window-hours")) return;
  fprintf(file, "    window: {");
  if (is_given(sim, "window-days")) fprintf(file, "days: [%s]", value_of(sim, "window-days"));
  if (is_given(sim, "window-hours")) fprintf(file, "%shours: \"%s\"", is_given(sim, "window-days") ? ", " : "", value_of(sim, "window-hours"));
  fprintf(file, "}\n");
}

static void write_domain(const struct sim *sim, size_t domain, FILE *file) {
  const char *separator = "";
  fprintf(file, "  %c.test: {signers: [", (char)('a' + domain));
  for (size_t s = 0; s < sim->signer_count; s++) {
    if (!(sim->domain_signers[domain] >> s & 1)) continue;
    fprintf(file, "%ss%zu", separator, s + 1);
    separator = ", ";
  }
  fprintf(file, "]}\n");
}

static void write_signers(const struct sim *sim, FILE *file) {
  const struct passwd *user = getpwuid(geteuid());
  const struct group *group = getgrgid(getegid());
  if (!user || !group) abort();
  fprintf(file, "signers:\n");
  for (size_t s = 0; s < sim->signer_count; s++)
    fprintf(file,
            "  s%zu: {key-table: %s/s%zu/KeyTable, signing-table: \"%s:%s/s%zu/SigningTable\", key-directory: %s/s%zu/keys/%%d, owner: \"%s:%s\", "
            "reload: {pid-file: %s/s%zu/pid}, milter: \"unix:%s/s%zu/socket\"%s%s%s}\n",
            s + 1, sim->root, s + 1, s % 2 ? "file" : "refile", sim->root, s + 1, sim->root, s + 1, user->pw_name, group->gr_name, sim->root, s + 1,
            sim->root, s + 1, s ? "" : ", restart: {command: [", s ? "" : sim->root, s ? "" : "/s1/pid]}");
}

void sim_policy_write(struct sim *sim) {
  char path[128], temporary[128];
  sim_host_path(sim, "policy.yaml", path, sizeof path);
  sim_host_path(sim, "policy.new", temporary, sizeof temporary);
  FILE *file = fopen(temporary, "we");
  if (!file) abort();
  write_given(sim, "limits", "", file);
  fprintf(file, "state: %s/lib/state.db\npolicies:\n  standard:\n    keys: {main: {algorithm: ed25519}}\n", sim->root);
  for (size_t i = 0; i < ARRAY_SIZE(known); i++)
    if (!known[i].group) fprintf(file, "    %s: \"%s\"\n", known[i].key, value_of(sim, known[i].key));
  write_group(sim, "publish", file);
  write_group(sim, "confirm", file);
  write_group(sim, "retire", file);
  write_given(sim, "calendar", "    ", file);
  write_window(sim, file);
  sim_runner_policy(sim, file);
  write_signers(sim, file);
  fprintf(file, "domain-defaults: {policy: standard, publisher: primary}\ndomains:\n");
  size_t count = 0;
  for (size_t i = 0; i < sim->domain_count; i++) {
    if (sim->present[i]) write_domain(sim, i, file);
    count += sim->present[i];
  }
  if (count == 0) fprintf(file, "  {}\n");
  sim_files_world_begin(&sim->files);
  if (fclose(file) || rename(temporary, path)) abort();
  sim_files_world_end(&sim->files);
  sim->policy_version++;
  sim->dirty = sim->policy_changed = true;
  if (sim->engine) engine_stop(sim->engine);
}
