#include <string.h>

#include "dkimroll/prove.h"
#include "dkimroll/selector.h"
#include "dkimroll/text.h"

static bool prove_is_space(char letter) {
  return letter == ' ' || letter == '\t' || letter == '\r' || letter == '\n';
}

/* Copies without white space, which may stand anywhere in folded values. */
static bool prove_copy_value(const char *start, const char *end, char *buffer, size_t size) {
  size_t used = 0;
  for (const char *p = start; p < end; p++) {
    if (prove_is_space(*p)) continue;
    if (used + 1 >= size) return false;
    buffer[used++] = *p;
  }
  buffer[used] = '\0';
  return true;
}

bool prove_signature_tag(const char *signature, const char *tag, char *buffer, size_t size) {
  const char *place = strchr(signature, ':');
  size_t tag_size = strlen(tag);
  while (place) {
    place++;
    while (prove_is_space(*place)) place++;
    const char *end = strchrnul(place, ';');
    const char *equals = memchr(place, '=', (size_t)(end - place));
    const char *name_end = equals;
    while (name_end && name_end > place && prove_is_space(name_end[-1])) name_end--;
    if (name_end && (size_t)(name_end - place) == tag_size && memcmp(place, tag, tag_size) == 0)
      return prove_copy_value(equals + 1, end, buffer, size);
    place = *end ? end : NULL;
  }
  return false;
}

/* d= and s= of a signature, empty where it has none that fit. */
struct prove_tags {
  char domain[DNS_NAME_TEXT_SIZE];
  char selector[DNS_NAME_TEXT_SIZE];
};

static void prove_read_tags(const char *signature, struct prove_tags *tags) {
  if (!prove_signature_tag(signature, "d", tags->domain, sizeof(tags->domain))) tags->domain[0] = '\0';
  if (!prove_signature_tag(signature, "s", tags->selector, sizeof(tags->selector))) tags->selector[0] = '\0';
}

/* Looks for the signature that says most: the expected one, else one of the domain, else any. */
static enum prove_verdict prove_judge_signatures(const struct prove_message *expected,
                                                 const struct milter_answer *answer, struct prove_tags *ret_tags) {
  enum prove_verdict verdict = PROVE_UNSIGNED;
  for (size_t i = 0; i < answer->signature_count; i++) {
    struct prove_tags tags;
    prove_read_tags(answer->signatures[i], &tags);
    enum prove_verdict found = PROVE_OTHER_DOMAIN;
    if (text_equal_nocase(tags.domain, expected->domain)) {
      found = PROVE_OTHER_SELECTOR;
      if (expected->before && text_equal_nocase(tags.selector, expected->before)) found = PROVE_BEFORE;
      if (text_equal_nocase(tags.selector, expected->selector)) return PROVE_SIGNED;
    }
    if (found >= verdict) continue;
    verdict = found;
    *ret_tags = tags;
  }
  return verdict;
}

static enum prove_verdict prove_judge_answer(const struct prove_message *expected, const struct milter_answer *answer,
                                             struct prove_tags *ret_tags) {
  switch (answer->verdict) {
  case MILTER_ACCEPTED: return prove_judge_signatures(expected, answer, ret_tags);
  case MILTER_REJECTED: return PROVE_REJECTED;
  case MILTER_TEMPFAILED: return PROVE_TEMPFAILED;
  case MILTER_DISCARDED: return PROVE_DISCARDED;
  }
  return PROVE_NO_ANSWER;
}

static void prove_explain_unsigned(const struct prove_message *expected, const struct milter_answer *answer,
                                   struct error *error) {
  error_set(error, ERROR_PROOF, "the signer lets mail from %s pass unsigned%s%s", expected->address,
            answer->early ? ", decided already at: " : "", answer->early ? answer->stage : "");
  error_remedy(error, "set LogWhy yes in opendkim.conf and look into its log: no line of SigningTable matches, its "
                      "second field (i=) is of another domain, Mode lacks \"s\", the domain is in ExemptDomains, or "
                      "key-table and signing-table of the policy are not those of opendkim.conf");
}

static void prove_explain_refusal(const struct prove_message *expected, const struct milter_answer *answer,
                                  enum prove_verdict verdict, struct error *error) {
  const char *what = verdict == PROVE_TEMPFAILED ? "defers" : verdict == PROVE_REJECTED ? "rejects" : "discards";
  error_set(error, ERROR_PROOF, "the signer %s mail from %s at: %s%s%s%s", what, expected->address, answer->stage,
            answer->text[0] ? " (" : "", answer->text, answer->text[0] ? ")" : "");
  error_remedy(error, "%s",
               verdict == PROVE_TEMPFAILED
                   ? "see the log of opendkim for \"error loading key\" or \"key data is not secure\": owner and mode "
                     "of the key file and of every "
                     "directory above it, as its user sees them (`dkimroll check` names the object)"
                   : "see the log of opendkim: the key may not fit SignatureAlgorithm (an Ed25519 key needs "
                     "ed25519-sha256), or MinimumKeyBits");
}

static void prove_explain_signature(const struct prove_message *expected, const struct prove_tags *tags,
                                    enum prove_verdict verdict, struct error *error) {
  error_set(error, ERROR_PROOF, "the signer signs mail from %s with d=%s s=%s%s, and not with d=%s s=%s",
            expected->address, tags->domain, tags->selector, verdict == PROVE_BEFORE ? ", the key before" : "",
            expected->domain, expected->selector);
  error_remedy(error, "%s",
               verdict == PROVE_BEFORE
                   ? "it has not read its tables again: see its log for why it refuses (`opendkim -n` checks "
                     "opendkim.conf), and check that reload "
                     "of the policy reaches it and that key-table and signing-table are those of opendkim.conf"
                   : "another line of its SigningTable, or Domain, Selector and KeyFile of opendkim.conf, come first; "
                     "more than one key for a sender "
                     "needs MultipleSignatures");
}

enum prove_verdict prove_judge(const struct prove_message *expected, const struct prove_sight *sight,
                               struct error *ret_error) {
  struct prove_tags tags = {0};
  enum prove_verdict verdict = prove_judge_answer(expected, sight->answer, &tags);
  switch (verdict) {
  case PROVE_SIGNED: break;
  case PROVE_BEFORE:
  case PROVE_OTHER_SELECTOR:
  case PROVE_OTHER_DOMAIN: prove_explain_signature(expected, &tags, verdict, ret_error); break;
  case PROVE_UNSIGNED: prove_explain_unsigned(expected, sight->answer, ret_error); break;
  case PROVE_TEMPFAILED:
  case PROVE_REJECTED:
  case PROVE_DISCARDED: prove_explain_refusal(expected, sight->answer, verdict, ret_error); break;
  case PROVE_PENDING:
  case PROVE_NO_ANSWER: error_set(ret_error, ERROR_INTERNAL, "the signer's answer cannot be judged"); break;
  }
  return verdict;
}
