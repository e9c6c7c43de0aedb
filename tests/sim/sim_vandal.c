/* People who edit the tables of OpenDKIM by hand: lines of their own, which must stay, and ours, which they drop or bend. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"
#include "sim.h"

static char *read_table(struct sim *sim, size_t signer, const char *table, char *path, size_t size) {
  char name[64];
  char *text = NULL;
  size_t length = 0;
  struct error error;
  snprintf(name, sizeof name, "s%zu/%s", signer + 1, table);
  return file_read(sim_host_path(sim, name, path, size), 1 << 20, &text, &length, NULL, &error) ? NULL : text;
}

static void write_table(struct sim *sim, const char *path, const struct buffer *text) {
  sim->tables_edited = true;
  sim_files_world_begin(&sim->files);
  const int descriptor = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
  if (descriptor < 0 || write(descriptor, text->data, text->size) != (ssize_t)text->size || close(descriptor)) abort();
  sim_files_world_end(&sim->files);
}

/* A customer of their own above ours, and a remark without a final newline below. */
static void add_foreign(struct sim *sim, size_t signer, const char *table) {
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(1 << 20);
  char path[128], line[160];
  CLEANUP_FREE char *old = read_table(sim, signer, table, path, sizeof path);
  if (!old) return;
  const unsigned number = sim->foreign_lines[signer]++;
  snprintf(line, sizeof line, text_equal(table, "KeyTable") ? "k%u.customer.test\tcustomer.test:k%u:/nowhere/k%u.private # theirs" : "%ucustomer.test k%u.customer.test", number,
           number, number);
  if (number % 2) buffer_format(&text, "%s\n%s", line, old);
  if (number % 2 == 0) buffer_format(&text, "%s%s%s", old, old[0] && old[strlen(old) - 1] != '\n' ? "\n" : "", line);
  write_table(sim, path, &text);
}

bool sim_tables_foreign(struct sim *sim, size_t signer) {
  add_foreign(sim, signer, "KeyTable");
  add_foreign(sim, signer, "SigningTable");
  return true;
}

/* Every line that names the domain goes from one of the tables. */
bool sim_tables_drop_lines(struct sim *sim, size_t signer, const char *table, size_t domain, bool excused) {
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(1 << 20);
  char path[128];
  CLEANUP_FREE char *old = read_table(sim, signer, table, path, sizeof path);
  bool changed = false;
  buffer_add_text(&text, "");
  for (char *line = old, *next = NULL; line && *line; line = next) {
    next = line + strcspn(line, "\n");
    next += *next == '\n';
    CLEANUP_FREE char *copy = strndup(line, (size_t)(next - line));
    if (!copy) abort();
    if (strstr(copy, sim->zones[domain].name))
      changed = true;
    else
      buffer_add_text(&text, copy);
  }
  if (!old || !changed) return true;
  write_table(sim, path, &text);
  if (excused) {
    struct sim_mail_place *place = &sim->places[signer][domain];
    if (!place->tampered_at) place->tampered_at = sim_loop_now(sim->clock);
    place->mended_at = 0;
  }
  return true;
}

/* Is that line one that dkimroll never wrote, and has not taken over? */
static bool is_of_others(struct sim *sim, const char *line) {
  for (size_t i = 0; i < sim->by_hand_count; i++) {
    char name[DNS_NAME_TEXT_SIZE];
    const struct sim_by_hand *key = &sim->by_hand[i];
    snprintf(name, sizeof name, "%s._domainkey.%s", key->selector, sim->zones[key->domain].name);
    if (!key->taken_over && strstr(line, name)) return true;
  }
  for (size_t i = 0; i < sim->domain_count; i++)
    if (strstr(line, sim->zones[i].name)) return false;
  return line[0] != '\0';
}

char *sim_tables_of_others(struct sim *sim) {
  static const char *const tables[] = {"KeyTable", "SigningTable"};
  struct buffer text = BUFFER_WITH_MAXIMUM(1 << 20);
  for (size_t t = 0; t < ARRAY_SIZE(tables) * sim->signer_count; t++) {
    char path[128];
    CLEANUP_FREE char *table = read_table(sim, t / 2, tables[t % 2], path, sizeof path);
    buffer_format(&text, "%s\n", path);
    for (char *rest = table, *line; rest && (line = strsep(&rest, "\n"));)
      if (is_of_others(sim, line)) buffer_format(&text, "%s\n", line);
  }
  return buffer_take_text(&text);
}

/* ---- what only people can put right ---- */

static int note_active(void *context, const void *row) {
  const struct lineage *lineage = row;
  for (size_t i = 0; i < lineage->key_count; i++) *(bool *)context |= lineage->keys[i].state == KEY_ACTIVE;
  return 0;
}

static bool has_active(struct sim *sim, size_t domain) {
  struct store *store = sim_host_store(sim);
  const struct store_filter filter = {.domain = sim->zones[domain].name};
  struct error error = {0};
  bool active = false;
  return store && store->ops->select(store, STORE_SELECT_LINEAGES, &filter, note_active, &active, &error) == 0 && active;
}

/* A line in SigningTable that names a key of the domain which KeyTable does not have. */
static bool names_nothing(struct sim *sim, size_t signer, size_t domain) {
  char path[128], suffix[DNS_NAME_TEXT_SIZE], name[DNS_NAME_TEXT_SIZE];
  CLEANUP_FREE char *keys = read_table(sim, signer, "KeyTable", path, sizeof path);
  CLEANUP_FREE char *signing = read_table(sim, signer, "SigningTable", path, sizeof path);
  snprintf(suffix, sizeof suffix, "._domainkey.%s", sim->zones[domain].name);
  for (char *rest = signing, *line; keys && rest && (line = strsep(&rest, "\n"));) {
    if (!text_ends(line, suffix)) continue;
    const size_t blank = strcspn(line, " \t");
    text_copy(name, sizeof name, line + blank + strspn(line + blank, " \t"));
    if (!strstr(keys, name)) return true;
  }
  return false;
}

/* A script's key that signs where dkimroll's own should, or a line that defers mail and that dkimroll, as far as it can know, did not write: import and alarms say that these lines are to go, and the lines that
 * should be there dkimroll writes itself. */
void sim_tables_settle(struct sim *sim) {
  char name[DNS_NAME_TEXT_SIZE];
  const bool lost = sim_fault_count(sim, "store-lost") > 0;
  for (size_t domain = 0; domain < sim->domain_count; domain++)
    for (size_t s = 0; s < sim->signer_count; s++) {
      const struct sim_by_hand *key = sim_by_hand_find(sim, sim_owner_name(sim, sim->places[s][domain].selector, sim->zones[domain].name, name));
      const bool theirs = key && !key->taken_over && has_active(sim, domain);
      if (!theirs && !((lost || !has_active(sim, domain)) && names_nothing(sim, s, domain))) continue;
      sim_trace(sim, "somebody does what the remedy says: the lines of %s leave the SigningTable of s%zu", sim->zones[domain].name, s + 1);
      (void)!sim_tables_drop_lines(sim, s, "SigningTable", domain, true);
    }
}

void sim_tables_drop_left(struct sim *sim) {
  static const char *const tables[] = {"SigningTable", "KeyTable"};
  for (size_t domain = 0; domain < sim->domain_count; domain++)
    for (size_t s = 0; s < sim->signer_count; s++) {
      if (!sim->present[domain] || sim->domain_signers[domain] >> s & 1) continue;
      sim_trace(sim, "somebody does what import says: the lines of %s leave the tables of s%zu", sim->zones[domain].name, s + 1);
      for (size_t i = 0; i < ARRAY_SIZE(tables); i++) (void)!sim_tables_drop_lines(sim, s, tables[i], domain, true);
    }
}

struct search {
  char selector[SELECTOR_SIZE];
  bool found;
};

static int note_selector(void *context, const void *row) {
  struct search *search = context;
  const struct lineage *lineage = row;
  for (size_t i = 0; i < lineage->key_count; i++) search->found |= text_equal(lineage->keys[i].selector, search->selector);
  return 0;
}

/* Does the first line of the domain in that SigningTable name a key that the store has not? */
static bool names_unknown(struct sim *sim, size_t signer, size_t domain) {
  char path[128], suffix[DNS_NAME_TEXT_SIZE];
  CLEANUP_FREE char *signing = read_table(sim, signer, "SigningTable", path, sizeof path);
  struct store *store = sim_host_store(sim);
  const struct store_filter filter = {.domain = sim->zones[domain].name};
  struct error error = {0};
  snprintf(suffix, sizeof suffix, "._domainkey.%s", sim->zones[domain].name);
  for (char *rest = signing, *line; store && rest && (line = strsep(&rest, "\n"));) {
    struct search search = {0};
    if (!text_ends(line, suffix)) continue;
    const char *name = line + strcspn(line, " \t");
    name += strspn(name, " \t");
    snprintf(search.selector, sizeof search.selector, "%.*s", (int)(strlen(name) - strlen(suffix)), name);
    return store->ops->select(store, STORE_SELECT_LINEAGES, &filter, note_selector, &search, &error) == 0 && !search.found;
  }
  return false;
}

void sim_tables_make_room(struct sim *sim, bool but_first) {
  for (size_t domain = 0; domain < sim->domain_count; domain++)
    for (size_t s = but_first; s < sim->signer_count && !has_active(sim, domain); s++) {
      if (!names_unknown(sim, s, domain)) continue;
      sim_trace(sim, "somebody does what import says: the lines of %s leave the SigningTable of s%zu", sim->zones[domain].name, s + 1);
      (void)!sim_tables_drop_lines(sim, s, "SigningTable", domain, true);
    }
}
