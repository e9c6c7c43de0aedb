/* What is left behind: records, lines and key files that are dkimroll's, and that it knows nothing of any more, or that it should have taken away. In the end there must be none. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/file.h"
#include "dkimroll/message.h"
#include "dkimroll/text.h"
#include "sim.h"

/* "\n" selector "._domainkey." domain "\n" for each key that lives. */
static int note_living(void *context, const void *row) {
  const struct lineage *lineage = row;
  for (size_t i = 0; i < lineage->key_count; i++) buffer_format(context, "\n%s._domainkey.%s\n", lineage->keys[i].selector, lineage->domain);
  return 0;
}

static bool lives(const char *living, const char *selector, size_t size, const char *domain) {
  char name[DNS_NAME_TEXT_SIZE];
  snprintf(name, sizeof name, "\n%.*s._domainkey.%s\n", (int)size, selector, domain);
  return strstr(living, name) != NULL;
}

/* What a script made is its maker's; once it was taken over it becomes that again where the store is lost, or lines of it were dropped by hand. */
static bool is_by_hand(const struct sim *sim, const char *selector, size_t size, const char *domain) {
  const bool again = sim_fault_count(sim, "store-lost") || sim_fault_count(sim, "tables-dropped");
  for (size_t i = 0; i < sim->by_hand_count; i++) {
    const struct sim_by_hand *key = &sim->by_hand[i];
    if ((!key->taken_over || again) && strlen(key->selector) == size && strncmp(key->selector, selector, size) == 0 && text_equal(sim->zones[key->domain].name, domain)) return true;
  }
  return false;
}

/* What the world did to a record, or brought back from a backup, is not left behind by dkimroll. */
static void judge_records(struct sim *sim, size_t domain, const char *living) {
  char suffix[DNS_NAME_TEXT_SIZE];
  const struct sim_content *content = sim_zone_at(sim_record_zone(sim, domain), 0);
  sim_record_suffix(sim, domain, suffix);
  for (size_t i = 0; i < content->count; i++) {
    const struct sim_record *record = &content->records[i];
    const bool ours = record->flags & SIM_RECORD_OURS && !(record->flags & (SIM_RECORD_FOREIGN | SIM_RECORD_TORN | SIM_RECORD_TAMPERED | SIM_RECORD_RISEN));
    if (record->type != DNS_TYPE_TXT || !ours || !text_ends(record->name, suffix)) continue;
    const size_t size = strlen(record->name) - strlen(suffix);
    if (sim_emergency_still_stands(sim, record) && !sim_fault_count(sim, "store-lost"))
      sim_violate(sim, "emergency", "the key of %s is in other hands, and its record stands", record->name);
    if (lives(living, record->name, size, sim->zones[domain].name) || is_by_hand(sim, record->name, size, sim->zones[domain].name)) continue;
    sim_violate(sim, "orphan", "the record %s is left, and no key lives that has it", record->name);
  }
}

/* A line may name one key twice. */
static void judge_line(struct sim *sim, size_t domain, const char *line, const char *path, const char *living) {
  char word[DNS_NAME_TEXT_SIZE];
  snprintf(word, sizeof word, "._domainkey.%s", sim->zones[domain].name);
  const char *const end = strstr(line, word);
  const char *begin = end;
  while (begin && begin > line && !strchr(" \t", begin[-1])) begin--;
  if (!begin || lives(living, begin, (size_t)(end - begin), sim->zones[domain].name) || is_by_hand(sim, begin, (size_t)(end - begin), sim->zones[domain].name)) return;
  sim_violate(sim, "orphan", "%s has the line \"%s\" left, and no key lives that it names", path, line);
}

static void judge_table(struct sim *sim, size_t signer, const char *table, const char *living) {
  char name[32], path[128];
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  struct error error;
  snprintf(name, sizeof name, "s%zu/%s", signer + 1, table);
  if (file_read(sim_host_path(sim, name, path, sizeof path), 1 << 20, &text, &size, NULL, &error)) return;
  for (char *rest = text, *line; (line = strsep(&rest, "\n"));)
    for (size_t domain = 0; domain < sim->domain_count; domain++) judge_line(sim, domain, line, path, living);
}

static void judge_files(struct sim *sim, size_t signer, size_t domain, const char *living) {
  char name[48], path[128];
  struct dirent **entries = NULL;
  snprintf(name, sizeof name, "s%zu/keys/%s", signer + 1, sim->zones[domain].name);
  const int count = scandir(sim_host_path(sim, name, path, sizeof path), &entries, NULL, alphasort);
  for (int i = 0; i < count; i++) {
    const char *const file = entries[i]->d_name;
    const size_t size = strcspn(file, ".");
    if (text_ends(file, ".private") && !lives(living, file, size, sim->zones[domain].name) && !is_by_hand(sim, file, size, sim->zones[domain].name))
      sim_violate(sim, "orphan", "the private key %s/%s is left, and no key lives that has it", path, file);
    free(entries[i]);
  }
  free(entries);
}

void sim_orphans_judge(struct sim *sim) {
  static const struct store_filter all;
  CLEANUP(buffer_release) struct buffer living = BUFFER_WITH_MAXIMUM(1 << 20);
  struct store *store = sim_host_store(sim);
  struct error error = {0};
  buffer_add_text(&living, "");
  if (!store || store->ops->select(store, STORE_SELECT_LINEAGES, &all, note_living, &living, &error)) return;
  CLEANUP_FREE char *names = buffer_take_text(&living);
  for (size_t domain = 0; domain < sim->domain_count; domain++) judge_records(sim, domain, names);
  for (size_t s = 0; s < sim->signer_count; s++) {
    judge_table(sim, s, "KeyTable", names);
    judge_table(sim, s, "SigningTable", names);
    /* Of a file that no table names import cannot tell whose it is. */
    for (size_t domain = 0; domain < sim->domain_count && !sim->has_imported; domain++) judge_files(sim, s, domain, names);
  }
}
