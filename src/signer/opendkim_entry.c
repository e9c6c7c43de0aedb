#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/opendkim.h"
#include "dkimroll/text.h"

static int opendkim_no_memory(const struct signer_item *item, struct error *error) {
  return error_set(error, ERROR_NO_MEMORY, "%s: out of memory", item->domain);
}

static int opendkim_entry_make_sender(const struct policy_signer *policy, const struct signer_item *item,
                                      const char *text, struct opendkim_sender *sender, struct error *error) {
  enum table_kind kind = policy->signing_table_format == SIGNING_TABLE_FILE ? TABLE_SIGNING_FILE : TABLE_SIGNING_REFILE;
  int result = table_sender_pattern(kind, text, &sender->pattern, error);
  return result < 0 ? result : table_sender_address(text, item->domain, &sender->address, error);
}

static int opendkim_entry_make_senders(const struct policy_signer *policy, const struct signer_item *item,
                                       struct opendkim_entry *entry, struct error *error) {
  if (item->sender_count > POLICY_SENDERS_MAX)
    return error_set(error, ERROR_LIMIT, "%s: more than %d senders", item->domain, POLICY_SENDERS_MAX);
  size_t count = item->sender_count > 0 ? item->sender_count : 1;
  entry->senders = calloc(count, sizeof(*entry->senders));
  if (!entry->senders) return opendkim_no_memory(item, error);
  CLEANUP_FREE char *whole = text_format("*@%s", item->domain);
  if (!whole) return opendkim_no_memory(item, error);
  for (size_t i = 0; i < count; i++) {
    /* Counted first, so that a half-made one is released. */
    entry->sender_count++;
    int result = opendkim_entry_make_sender(policy, item, item->sender_count > 0 ? item->senders[i] : whole,
                                            &entry->senders[i], error);
    if (result < 0) return result;
  }
  return 0;
}

/* A key that does not exist yet has a name all the same: whoever checks the tables before the first key wants to know
 * what would be in its way. */
static int opendkim_entry_make_key(const struct policy_signer *policy, const struct signer_item *item,
                                   struct opendkim_entry *entry, struct error *error) {
  const char *selector = item->selector ? item->selector : OPENDKIM_NO_SELECTOR;
  CLEANUP_FREE char *path = NULL;
  if (!item->key_path) {
    int result = policy_signer_key_path(policy, item->domain, selector, &path, error);
    if (result < 0) return result;
  }
  entry->name = item->key_name ? text_duplicate(item->key_name) : policy_signer_key_name(policy, item->domain, selector);
  entry->value = text_format("%s:%s:%s", item->domain, selector, path ? path : item->key_path);
  return entry->name && entry->value ? 0 : opendkim_no_memory(item, error);
}

int opendkim_entry_make(const struct policy_signer *policy, const struct signer_item *item,
                        struct opendkim_entry *entry, struct error *error) {
  *entry = (struct opendkim_entry){.adopted = item->adopted, .stays = item->stays};
  int result = opendkim_entry_make_key(policy, item, entry, error);
  if (result < 0) return result;
  if (item->previous_selector) {
    const char *path = item->previous_key_path ? item->previous_key_path : "";
    entry->before_name = item->previous_key_name ? text_duplicate(item->previous_key_name)
                                                 : policy_signer_key_name(policy, item->domain, item->previous_selector);
    entry->before_value = text_format("%s:%s:%s", item->domain, item->previous_selector, path);
    if (!entry->before_name || !entry->before_value) return opendkim_no_memory(item, error);
  }
  return opendkim_entry_make_senders(policy, item, entry, error);
}

bool opendkim_entry_can_undo(const struct opendkim_entry *entry) {
  for (size_t i = 0; i <= entry->sender_count; i++)
    if (entry->made[i] != TABLE_MADE_NOTHING) return true;
  return entry->before_name != NULL;
}

void opendkim_entry_release(struct opendkim_entry *entry) {
  for (size_t i = 0; i < entry->sender_count; i++) {
    free(entry->senders[i].pattern);
    free(entry->senders[i].address);
  }
  free(entry->senders);
  free(entry->name);
  free(entry->value);
  free(entry->before_name);
  free(entry->before_value);
  *entry = (struct opendkim_entry){0};
}

/* With the key-name "%d" the name outlives its keys, and only the value changes. */
static bool opendkim_entry_is_stable(const struct opendkim_entry *entry) {
  return entry->before_name && text_equal(entry->before_name, entry->name);
}

size_t opendkim_edits_switch(const struct opendkim_entry *entry, struct table_edit *edits) {
  bool stable = opendkim_entry_is_stable(entry);
  edits[0] = (struct table_edit){.kind = TABLE_KEY_SET,
                                 .name = entry->name,
                                 .value = entry->value,
                                 .before = stable ? entry->before_value : NULL,
                                 .beside = stable ? NULL : entry->before_name,
                                 .existing = entry->adopted && !entry->stays,
                                 .kept = entry->adopted && entry->stays};
  for (size_t i = 0; i < entry->sender_count; i++)
    edits[i + 1] = (struct table_edit){.kind = TABLE_SIGN_POINT,
                                       .pattern = entry->senders[i].pattern,
                                       .address = entry->senders[i].address,
                                       .name = entry->name,
                                       .before = entry->before_name};
  return entry->sender_count + 1;
}

/* The line of a sender as it was before the switch. What was there before it and names the new key already (a
 * repetition after a crash) goes back to the key that signs; if there is none, it stays: it may be all that signs. */
static bool opendkim_undo_sender(const struct opendkim_entry *entry, size_t index, struct table_edit *edit) {
  const struct opendkim_sender *sender = &entry->senders[index];
  enum table_made made = (enum table_made)entry->made[index + 1];
  bool stable = opendkim_entry_is_stable(entry);
  if (made == TABLE_MADE_ADDED) {
    *edit = (struct table_edit){.kind = TABLE_SIGN_REMOVE, .pattern = sender->pattern, .name = entry->name};
    return true;
  }
  if (stable || !entry->before_name) return false;
  *edit = (struct table_edit){.kind = TABLE_SIGN_POINT,
                              .pattern = sender->pattern,
                              .address = sender->address,
                              .name = entry->before_name,
                              .before = entry->name,
                              .existing = true};
  return true;
}

size_t opendkim_edits_undo(const struct opendkim_entry *entry, struct table_edit *edits) {
  size_t count = 0;
  if (opendkim_entry_is_stable(entry))
    edits[count++] = (struct table_edit){.kind = TABLE_KEY_SET,
                                         .name = entry->name,
                                         .value = entry->before_value,
                                         .before = entry->value,
                                         .existing = true};
  for (size_t i = 0; i < entry->sender_count; i++)
    if (opendkim_undo_sender(entry, i, &edits[count])) count++;
  return count;
}

size_t opendkim_edits_undo_key(const struct opendkim_entry *entry, struct table_edit *edits) {
  bool added = entry->made[0] == TABLE_MADE_ADDED;
  if (opendkim_entry_is_stable(entry) || !(added || entry->before_name)) return 0;
  edits[0] = (struct table_edit){.kind = TABLE_KEY_REMOVE, .name = entry->name, .value = entry->value};
  return 1;
}

size_t opendkim_edits_heal(const struct opendkim_entry *entry, struct table_edit *edits) {
  if (opendkim_entry_is_stable(entry)) {
    edits[0] = (struct table_edit){.kind = TABLE_KEY_SET,
                                   .name = entry->name,
                                   .value = entry->before_value,
                                   .before = entry->value,
                                   .existing = true};
    return 1;
  }
  for (size_t i = 0; i < entry->sender_count; i++) {
    const struct opendkim_sender *sender = &entry->senders[i];
    if (entry->before_name)
      edits[i] = (struct table_edit){.kind = TABLE_SIGN_POINT,
                                     .pattern = sender->pattern,
                                     .address = sender->address,
                                     .name = entry->before_name,
                                     .before = entry->name,
                                     .existing = true};
    else
      edits[i] = (struct table_edit){.kind = TABLE_SIGN_REMOVE, .pattern = sender->pattern, .name = entry->name};
  }
  return entry->sender_count;
}

size_t opendkim_edits_withdraw(const struct opendkim_entry *entry, struct table_edit *edits) {
  edits[0] = (struct table_edit){
      .kind = TABLE_KEY_REMOVE, .name = entry->name, .value = entry->value, .address = entry->senders[0].address,
      .shared = entry->adopted};
  return 1;
}
