/* Emergencies: what operators asked for, and what the oracles of I1 and I2 waive for it, for those keys alone. */
#include <string.h>

#include "dkimroll/text.h"
#include "sim.h"

static struct sim_name *find_name(struct sim *sim, const char *selector, const char *domain) {
  char name[DNS_NAME_TEXT_SIZE];
  sim_owner_name(sim, selector, domain, name);
  for (size_t i = 0; i < sim->name_count; i++)
    if (text_equal(sim->names[i].name, name)) return &sim->names[i];
  return NULL;
}

void sim_emergency_ask(struct sim *sim, size_t domain, const char *selector, unsigned options) {
  char suffix[DNS_NAME_TEXT_SIZE];
  sim_record_suffix(sim, domain, suffix);
  sim_host_revoke(sim, sim->zones[domain].name, selector, options);
  for (size_t i = 0; i < sim->name_count; i++) {
    struct sim_name *name = &sim->names[i];
    const size_t size = strlen(selector);
    const bool meant = text_starts(name->name, selector) && name->name[size] == '.';
    if (!text_ends(name->name, suffix) || !(meant || options & REQUEST_WHOLE_HOST)) continue;
    name->compromised = true;
    name->ends_at_once |= (options & REQUEST_NOW) != 0;
  }
  if (options & REQUEST_WHOLE_HOST) sim->whole_host |= 1U << domain;
}

/* Of a whole host also keys that nobody saw published yet are meant; but nothing ends that nobody asked for. */
void sim_emergency_event(struct sim *sim, const struct event *event) {
  if (!text_equal(event->kind, "compromised") || !event->selector) return;
  struct sim_name *name = find_name(sim, event->selector, event->domain);
  const bool whole_host = sim->whole_host >> (event->domain[0] - 'a') & 1;
  bool asked = whole_host;
  if (name) {
    name->compromised |= whole_host;
    asked = name->compromised;
    name->is_known_for_it = true;
  }
  if (!asked) sim_violate(sim, "emergency", "nobody asked for the end of %s of %s", event->selector, event->domain);
}

bool sim_emergency_still_stands(const struct sim *sim, const struct sim_record *record) {
  const char *const key = strstr(record->text, "p=");
  for (size_t i = 0; i < sim->name_count && key && key[2]; i++)
    if (sim->names[i].is_known_for_it && text_equal(sim->names[i].name, record->name)) return true;
  return false;
}

bool sim_emergency_waives(struct sim *sim, const char *selector, const char *domain, bool unsigned_mail) {
  const struct sim_name *name = find_name(sim, selector, domain);
  return name && name->compromised && (!unsigned_mail || name->ends_at_once);
}
