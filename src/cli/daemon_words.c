/* What head and life of the daemon say to each other, and what both say to people. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/daemon.h"
#include "dkimroll/status.h"
#include "dkimroll/text.h"

bool daemon_send(int descriptor, enum daemon_word word, const void *octets, size_t size) {
  uint8_t first = (uint8_t)word;
  struct iovec parts[] = {{.iov_base = &first, .iov_len = 1}, {.iov_base = (void *)(uintptr_t)octets, .iov_len = size < DAEMON_MESSAGE_MAX ? size : DAEMON_MESSAGE_MAX - 1}};
  const struct msghdr message = {.msg_iov = parts, .msg_iovlen = octets ? 2 : 1};
  const bool sent = sendmsg(descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
  if (!sent) errno = 0;
  return sent;
}

int daemon_receive(int descriptor, enum daemon_word *ret_word, char *buffer, size_t *ret_size) {
  ssize_t size;
  while ((size = recv(descriptor, buffer, DAEMON_MESSAGE_MAX, MSG_DONTWAIT)) < 0 && errno == EINTR) continue;
  /* What failed for a moment is tried again, since the descriptor stays readable; the end stays an end. */
  if (size < 0) return 0;
  if (size == 0) return -1;
  *ret_word = (enum daemon_word)(uint8_t)buffer[0];
  *ret_size = (size_t)size - 1;
  memmove(buffer, buffer + 1, *ret_size);
  buffer[*ret_size] = '\0';
  return 1;
}

/* ---- for people ---- */

/* What a key is going to do, by the name of its step. */
static const char *step_in_words(const char *action) {
  static const struct {
    const char *action, *words;
  } rows[] = {
      {"generate", "is made"},        {"publish", "is published"},       {"ready", "becomes ready"},      {"activate", "takes over"},
      {"retire", "retires"},          {"withdraw", "leaves the tables"}, {"revoke", "is revoked"},        {"delete", "has its record deleted"},
      {"destroy", "is removed"},      {"repair", "is repaired"},         {"prove", "is proved"},          {"attest", "has the clock attested"},
  };
  for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
    if (text_equal(rows[i].action, action)) return rows[i].words;
  return NULL;
}

/* The step of lineage that comes first; of two at once that of the newer key, whose turn ends that of the older one. false: none that a moment opens. */
static bool first_step(const struct lineage *lineage, const struct plan_clock *clock, size_t *ret_key, struct status_step *ret_step) {
  bool found = false;
  for (size_t i = 0; i < status_row_count(lineage); i++) {
    struct status_step step;
    status_next_step(lineage, i, clock, &step);
    if (step.at == TIME_NEVER || !step_in_words(step.action) || (found && step.at > ret_step->at)) continue;
    *ret_step = step;
    *ret_key = i;
    found = true;
  }
  return found;
}

static void describe_next(const struct lineage *lineage, const struct plan_clock *clock, struct buffer *text) {
  struct status_step step;
  char moment[TIME_TEXT_SIZE];
  size_t key = 0;
  const int64_t at = time_max(lineage->next_moment, clock->now);
  buffer_format(text, "next: %s at %s", lineage->domain, time_format(at, moment));
  if (!first_step(lineage, clock, &key, &step)) return;
  const char *selector = key < lineage->key_count ? lineage->keys[key].selector : "a key";
  /* Of a key that signs the next step is the making of its successor. */
  if (key < lineage->key_count && lineage->keys[key].state == KEY_ACTIVE && text_equal(step.action, "generate")) selector = "a successor";
  const int64_t opens = time_max(step.at, clock->now);
  if (opens <= at)
    buffer_format(text, " (%s %s)", selector, step_in_words(step.action));
  else
    buffer_format(text, " (a look; %s %s at %s)", selector, step_in_words(step.action), time_format(opens, moment));
}

void daemon_describe(const struct lineage *lineage, const struct plan_clock *clock, size_t in_hand, char buffer[DAEMON_SENTENCE_MAX]) {
  CLEANUP(buffer_release) struct buffer text = BUFFER_WITH_MAXIMUM(DAEMON_SENTENCE_MAX - 1);
  if (!lineage || lineage->next_moment == TIME_NEVER)
    buffer_add_text(&text, "nothing is due");
  else
    describe_next(lineage, clock, &text);
  if (in_hand > 0) buffer_format(&text, ", %zu domain%s in work", in_hand, in_hand == 1 ? "" : "s");
  text_copy(buffer, DAEMON_SENTENCE_MAX, text.failed ? "at work" : (const char *)text.data);
}
