/* What stands at a name, read from one answer, and what that means for a change. Pure. */
#ifndef DKIMROLL_UPDATE_STATE_H
#define DKIMROLL_UPDATE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dkimroll/error.h"
#include "dkimroll/message.h"
#include "dkimroll/publisher.h"

enum update_state {
  UPDATE_STATE_WANTED = 1,  /* as it shall be afterwards */
  UPDATE_STATE_BEFORE = 2,  /* as it must be before: the change may go out */
  UPDATE_STATE_FOREIGN = 3, /* neither */
};

/* Judges the answer to a TXT query for owner, which is item's name where the record lives. */
enum update_state update_state_judge(const struct publish_item *item, const char *owner, const struct message *answer);

/* Do both answers, for two names side by side, hold the same TXT and CNAME records? Then a wildcard made them and nothing stands at either name. */
bool update_state_same(const struct message *answer, const char *owner, const struct message *sibling_answer,
                       const char *sibling);

/* The RDATA of the one TXT whose content is text, as the server holds it. Borrowed from answer; NULL: there is none. */
const struct message_record *update_state_find(const struct message *answer, const char *owner, const char *text);

/* The same for what the change expects there before: record_before or record_also. */
const struct message_record *update_state_find_before(const struct publish_item *item, const char *owner,
                                                      const struct message *answer);

/* Says what stands at the name instead: another TXT, several, an alias, nothing. Always ERROR_CONFLICT. */
int update_state_conflict(const struct publish_item *item, const char *owner, const struct message *answer,
                          struct error *error);

#endif
