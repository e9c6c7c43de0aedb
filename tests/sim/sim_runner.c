/* The other side of publishers for zones that take no updates: a DNS provider's tool, and a primary that includes a fragment. They change what ns1 has, in the ways in which such things
 * go wrong: they fail before or after the effect, say yes and do nothing, or hang. Fragments are real files, written by the runner's real handler. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/file.h"
#include "dkimroll/message.h"
#include "dkimroll/runner.h"
#include "dkimroll/runner_fragment.h"
#include "dkimroll/text.h"
#include "sim.h"

static void take_away(struct sim_content *content, const char *name, const char *text) {
  for (size_t i = content->count; i-- > 0 && text;) {
    const struct sim_record *record = &content->records[i];
    if (record->type == DNS_TYPE_TXT && text_equal(record->name, name) && text_equal(record->text, text) && !(record->flags & SIM_RECORD_TORN))
      sim_content_remove(content, i);
  }
}

static bool stands(const struct sim_content *content, const char *name, const char *text) {
  for (size_t i = 0; i < content->count; i++)
    if (text_equal(content->records[i].name, name) && text_equal(content->records[i].text, text) && !(content->records[i].flags & SIM_RECORD_TORN)) return true;
  return false;
}

static void put(struct sim *sim, struct sim_content *content, const char *name, uint32_t ttl, const char *text) {
  if (stands(content, name, text)) return;
  for (size_t i = content->count; i-- > 0;)
    if (content->records[i].flags & SIM_RECORD_TORN && text_equal(content->records[i].name, name)) sim_content_remove(content, i);
  sim_content_add(sim, content, name, DNS_TYPE_TXT, ttl, text, SIM_RECORD_OURS);
}

static void commit(struct sim *sim, struct sim_zone *zone, struct sim_content *content) {
  sim->result->counts.updates++;
  sim_oracle_update(sim, zone, sim_zone_at(zone, 0), content);
  sim_zone_commit(sim, zone, content);
}

static void change_record(struct sim *sim, const struct runner_call *call) {
  struct sim_zone *zone = sim_zone_find(sim, runner_call_variable(call, "DKIMROLL_NAME"));
  const char *name = runner_call_variable(call, "DKIMROLL_NAME");
  const char *record = runner_call_variable(call, "DKIMROLL_RECORD");
  long long ttl = 0;
  if (!zone || !text_parse_number(runner_call_variable(call, "DKIMROLL_TTL"), 0, INT32_MAX, &ttl)) abort();
  struct sim_content *content = sim_zone_edit(zone);
  take_away(content, name, runner_call_variable(call, "DKIMROLL_OLD_RECORD"));
  if (text_equal(call->word, "delete"))
    take_away(content, name, record);
  else
    put(sim, content, name, (uint32_t)ttl, record);
  commit(sim, zone, content);
}

/* What ns1 reads: the zone's own records and those of the fragment, nothing else. */
static void read_zone(struct sim *sim, const struct runner_call *call) {
  CLEANUP(fragment_release) struct fragment fragment = {0};
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  struct error error = {0};
  const char *name = runner_call_variable(call, "DKIMROLL_ZONE");
  struct sim_zone *zone = sim_zone_find(sim, name);
  /* A name server refuses a zone whose fragment it cannot read, and keeps the old one. */
  if (!zone || file_read(runner_call_variable(call, "DKIMROLL_FILE"), FRAGMENT_FILE_MAX, &text, &size, NULL, &error) ||
      fragment_parse(text, size, name, &fragment, &error))
    return;
  struct sim_content *content = sim_zone_edit(zone);
  for (size_t i = content->count; i-- > 0;) {
    bool kept = !(content->records[i].flags & SIM_RECORD_OURS) || content->records[i].flags & (SIM_RECORD_TORN | SIM_RECORD_TAMPERED);
    for (size_t j = 0; j < fragment.count && !kept; j++)
      kept = text_equal(fragment.records[j].name, content->records[i].name) && text_equal(fragment.records[j].text, content->records[i].text);
    if (!kept) sim_content_remove(content, i);
  }
  for (size_t j = 0; j < fragment.count; j++) put(sim, content, fragment.records[j].name, fragment.records[j].ttl, fragment.records[j].text);
  commit(sim, zone, content);
}

static bool happens(struct sim *sim, int64_t until, unsigned percent) {
  return until > sim_loop_now(sim->clock) && SIM_RANDOM(sim, 100) < percent;
}

static int run_tool(void *context, struct reader *request, struct buffer *reply, struct error *error) {
  struct sim *sim = context;
  CLEANUP(runner_call_release) struct runner_call_memory memory = {0};
  struct runner_call call;
  const int result = runner_call_read(request, &call, &memory, error);
  if (result) return result;
  const bool fails = happens(sim, sim->tool_fails_until, sim->tool_fails) || sim->rejects_until > sim_loop_now(sim->clock);
  const bool hangs = happens(sim, sim->tool_hangs_until, sim->tool_hangs);
  const bool lies = happens(sim, sim->tool_lies_until, sim->tool_lies);
  const bool effect = !lies && sim->rejects_until <= sim_loop_now(sim->clock) && (!(fails || hangs) || SIM_RANDOM(sim, 2));
  struct command_result ended = {.end = hangs ? COMMAND_TIMED_OUT : COMMAND_EXITED, .status = fails && !hangs ? RUNNER_TEMPFAIL : 0};
  if (effect && call.purpose == RUNNER_PUBLISH) change_record(sim, &call);
  if (effect && call.purpose == RUNNER_RELOAD_ZONE) read_zone(sim, &call);
  runner_reply_write(reply, &ended);
  return 0;
}

size_t sim_runner_handlers(struct sim *sim, struct keeper_handler *handlers) {
  struct error error = {0};
  runner_zonefiles_release(&sim->zonefiles);
  if (runner_zonefiles_allow(&sim->zonefiles, sim->policy, &error)) abort();
  handlers[0] = (struct keeper_handler){.job = KEEPER_RUN, .run = run_tool, .context = sim};
  handlers[1] = runner_fragment_handler(&sim->zonefiles);
  return 2;
}

void sim_runner_policy(const struct sim *sim, FILE *file) {
  const char *const resolvers = "resolvers: [\"192.0.2.2\", \"192.0.2.3\"], wait: 2m";
  if (text_equal(sim->publisher, "command"))
    fprintf(file, "publishers: {primary: {type: command, command: [/usr/bin/provider], %s}}\n", resolvers);
  else if (text_equal(sim->publisher, "zonefile"))
    fprintf(file, "publishers: {primary: {type: zonefile, file: \"%s/zones/%%z.dkim\", reload: {command: [/usr/sbin/reload]}, %s}}\n", sim->root, resolvers);
  else
    fprintf(file, "publishers: {primary: {server: \"192.0.2.11\", tsig-file: %s/tsig.key, resolvers: [\"192.0.2.2\", \"192.0.2.3\"]}}\n", sim->root);
}

static bool has_ours(const struct sim_content *content) {
  for (size_t i = 0; i < content->count; i++)
    if (content->records[i].flags & SIM_RECORD_OURS) return true;
  return false;
}

void sim_runner_make_fragments(struct sim *sim, bool new) {
  char name[48], path[128];
  if (!text_equal(sim->publisher, "zonefile")) return;
  for (size_t i = 0; i < sim->zone_count; i++) {
    snprintf(name, sizeof name, "zones/%s.dkim", sim->zones[i].name);
    if (access(sim_host_path(sim, name, path, sizeof path), F_OK) == 0 || (new && has_ours(sim_zone_at(&sim->zones[i], 0)))) continue;
    sim_trace(sim, "an operator makes an empty fragment of %s", sim->zones[i].name);
    sim_files_world_begin(&sim->files);
    (void)!mkdir(sim_host_path(sim, "zones", path, sizeof path), 0755);
    const int descriptor = open(sim_host_path(sim, name, path, sizeof path), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (descriptor < 0 || close(descriptor)) abort();
    sim_files_world_end(&sim->files);
  }
}

bool sim_runner_lose_fragments(struct sim *sim) {
  char name[48], path[128];
  for (size_t i = 0; i < sim->zone_count; i++) {
    snprintf(name, sizeof name, "zones/%s.dkim", sim->zones[i].name);
    sim_files_world_begin(&sim->files);
    (void)!unlink(sim_host_path(sim, name, path, sizeof path));
    sim_files_world_end(&sim->files);
  }
  return text_equal(sim->publisher, "zonefile");
}
