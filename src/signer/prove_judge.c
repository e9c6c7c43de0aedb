#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/dkim_signature.h"
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

/* The signatures of a message, sorted out. */
struct prove_signatures {
  const char *expected; /* the first with d= and s= as expected; NULL: none */
  size_t expected_count;
  enum prove_verdict other; /* what the most telling of the others says; PROVE_UNSIGNED: there is none */
  struct prove_tags tags;   /* of it, printable */
};

static enum prove_verdict prove_judge_tags(const struct prove_message *expected, const struct prove_tags *tags) {
  if (!text_equal_nocase(tags->domain, expected->domain)) return PROVE_OTHER_DOMAIN;
  if (text_equal_nocase(tags->selector, expected->selector)) return PROVE_SIGNED;
  if (expected->before && text_equal_nocase(tags->selector, expected->before)) return PROVE_BEFORE;
  return PROVE_OTHER_SELECTOR;
}

/* A filter may write anything into them, and messages go to terminals. */
static void prove_print_tags(const struct prove_tags *tags, struct prove_tags *printable) {
  text_printable(tags->domain, strlen(tags->domain), printable->domain, sizeof(printable->domain));
  text_printable(tags->selector, strlen(tags->selector), printable->selector, sizeof(printable->selector));
}

/* Of the others the key before says most, then one of the domain, then any. */
static void prove_sort(const struct prove_message *expected, const struct milter_answer *answer,
                       struct prove_signatures *signatures) {
  signatures->other = PROVE_UNSIGNED;
  for (size_t i = 0; i < answer->signature_count; i++) {
    struct prove_tags tags;
    prove_read_tags(answer->signatures[i], &tags);
    enum prove_verdict found = prove_judge_tags(expected, &tags);
    if (found == PROVE_SIGNED) {
      if (signatures->expected_count++ == 0) signatures->expected = answer->signatures[i];
    } else if (found < signatures->other) {
      signatures->other = found;
      prove_print_tags(&tags, &signatures->tags);
    }
  }
}

static void prove_explain_unsigned(const struct prove_message *expected, const struct milter_answer *answer,
                                   struct error *error) {
  error_set(error, ERROR_PROOF, "the signer lets mail from %s pass unsigned%s%s", expected->address,
            answer->early ? ", decided already at: " : "", answer->early ? answer->stage : "");
  error_remedy(error, "`dkimroll run` writes lines of dkimroll that are missing; if it stays so, set LogWhy yes in opendkim.conf and look into its log: no line of SigningTable matches, its "
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
                     "directory above it, as its user sees them (`dkimroll check` names the object where the key is one of dkimroll; `namei -l FILE` "
                     "lists them for any)"
                   : "see the log of opendkim: the key may not fit SignatureAlgorithm (an Ed25519 key needs "
                     "ed25519-sha256), or MinimumKeyBits");
}

static void prove_explain_other(const struct prove_message *expected, const struct prove_signatures *signatures,
                                struct error *error) {
  const bool before = signatures->other == PROVE_BEFORE;
  error_set(error, ERROR_PROOF, "the signer signs mail from %s with d=%s s=%s%s, and not with d=%s s=%s",
            expected->address, signatures->tags.domain, signatures->tags.selector, before ? ", the key before" : "",
            expected->domain, expected->selector);
  error_remedy(error, "%s",
               before
                   ? "it has not read its tables again: see its log for why it refuses (`opendkim -n` checks "
                     "opendkim.conf), and check that reload "
                     "of the policy reaches it and that key-table and signing-table are those of opendkim.conf"
                   : "another line of its SigningTable, or Domain, Selector and KeyFile of opendkim.conf, come first, somebody changed "
                     "the entry of KeyTable (`dkimroll check` names the line), or it reads other tables than those of the policy; "
                     "more than one key for a sender "
                     "needs MultipleSignatures");
}

/* The key before must be at rest when it is retired, whatever else signs beside it. */
static void prove_explain_both(const struct prove_message *expected, struct error *error) {
  error_set(error, ERROR_PROOF, "the signer signs mail from %s with s=%s, and still with s=%s, the key before",
            expected->address, expected->selector, expected->before);
  error_remedy(error, "remove the line of SigningTable that names %s for this sender: that key could never be retired",
               expected->before);
}

static void prove_explain_too_many(const struct prove_message *expected, const struct prove_signatures *signatures,
                                   struct error *error) {
  if (signatures->expected_count > 1) {
    error_set(error, ERROR_PROOF, "the signer signs mail from %s %zu times with s=%s", expected->address,
              signatures->expected_count, expected->selector);
    error_remedy(error, "more than one line of SigningTable names that key for this sender: keep one");
    return;
  }
  error_set(error, ERROR_PROOF, "the signer signs mail from %s with s=%s, and also with d=%s s=%s", expected->address,
            expected->selector, signatures->tags.domain, signatures->tags.selector);
  error_remedy(error, "if that is wanted, set multiple-signatures: true for this signer in the policy; else remove the "
                      "other line of SigningTable that matches this sender");
}

/* What makes OpenDKIM sign like that, and what helps. */
static const char *prove_remedy_signature(enum dkim_verdict verdict) {
  switch (verdict) {
  case DKIM_VALID:
  case DKIM_FAILED: break;
  case DKIM_MALFORMED:
    return "SignHeaders and OmitHeaders of opendkim.conf must leave From signed; else see the log of opendkim";
  case DKIM_WEAK: return "set SignatureAlgorithm rsa-sha256 in opendkim.conf";
  case DKIM_UNKNOWN: return "see SignatureAlgorithm and Canonicalization in opendkim.conf";
  case DKIM_IDENTITY: return "see the second field (i=) of the sender's line in SigningTable";
  case DKIM_PARTIAL: return "take BodyLengthDB and MaximumSignedBytes out of opendkim.conf";
  case DKIM_EXPIRED: return "see SignatureTTL in opendkim.conf, and the clock of this host";
  case DKIM_RECORD_INVALID:
  case DKIM_RECORD_REVOKED:
    return "the record in DNS must be put right: `dkimroll status` says which one is expected, or make a new key with "
           "`dkimroll rotate`";
  case DKIM_RECORD_UNFIT:
    return "SignatureAlgorithm of opendkim.conf (rsa-sha256, or ed25519-sha256 for Ed25519 keys) must fit the key";
  case DKIM_BODY_DIFFERS:
    return "something changes the body before it is signed: see FixCRLF in opendkim.conf, and what else filters there";
  case DKIM_HEADER_DIFFERS:
    return "something changes header fields before they are signed: see ReplaceRules in opendkim.conf, and what else "
           "filters there";
  case DKIM_OTHER_KEY:
    return "the private key that KeyTable names for this selector does not belong to the record: somebody replaced the "
           "file or the entry; put the right one back, or make a new key with `dkimroll rotate`";
  }
  return "";
}

/* OpenDKIM 2.11 folds an Ed25519 signature after it has hashed it, which a simple header does not forgive. */
static bool prove_is_folded_late(const char *signature) {
  char algorithm[32], canon[32] = "simple";
  if (!prove_signature_tag(signature, "a", algorithm, sizeof(algorithm))) return false;
  (void)prove_signature_tag(signature, "c", canon, sizeof(canon));
  return text_equal(algorithm, "ed25519-sha256") && text_starts(canon, "simple");
}

static void prove_explain_signature(const struct prove_message *expected, const char *signature,
                                    enum dkim_verdict verdict, struct error *error) {
  error_context(error, "the signature of mail from %s with s=%s is not valid", expected->address, expected->selector);
  if (verdict == DKIM_OTHER_KEY && prove_is_folded_late(signature))
    error_remedy(error,
                 "set Canonicalization relaxed/simple in opendkim.conf: with simple headers OpenDKIM breaks its "
                 "own Ed25519 signatures; else %s",
                 prove_remedy_signature(verdict));
  else
    error_remedy(error, "%s", prove_remedy_signature(verdict));
}

/* A field as it was sent; NULL: out of memory. */
static char *prove_format_field(const struct milter_header *header) {
  return text_format("%s: %s", header->name, header->value);
}

struct prove_fields {
  struct span spans[DKIM_FIELDS_MAX];
  char *texts[DKIM_FIELDS_MAX]; /* owned */
  size_t count;
};

static void prove_fields_release(struct prove_fields *fields) {
  for (size_t i = 0; i < fields->count; i++) free(fields->texts[i]);
}

static bool prove_format_fields(const struct milter_message *message, struct prove_fields *fields) {
  for (size_t i = 0; i < message->header_count && i < DKIM_FIELDS_MAX; i++) {
    char *text = prove_format_field(&message->headers[i]);
    if (!text) return false;
    fields->texts[fields->count] = text;
    fields->spans[fields->count++] = (struct span){text, strlen(text)};
  }
  return fields->count == message->header_count;
}

static enum prove_verdict prove_verify(const struct prove_message *expected, const struct prove_sight *sight,
                                       const char *signature, struct error *error) {
  CLEANUP(prove_fields_release) struct prove_fields fields = {.count = 0};
  if (!expected->record) {
    error_set(error, ERROR_INTERNAL, "there is no key record to verify the signature of %s with", expected->selector);
    return PROVE_NO_ANSWER;
  }
  if (!prove_format_fields(sight->message, &fields)) {
    error_set(error, ERROR_NO_MEMORY, "out of memory for a proof");
    return PROVE_NO_ANSWER;
  }
  const struct dkim_message message = {.fields = fields.spans,
                                       .field_count = fields.count,
                                       .body = {sight->message->body, strlen(sight->message->body)}};
  const struct span record = {expected->record, strlen(expected->record)};
  const enum dkim_verdict verdict =
      dkim_signature_verify(&message, (struct span){signature, strlen(signature)}, record, sight->now, error);
  if (verdict == DKIM_VALID) return PROVE_SIGNED;
  if (verdict == DKIM_FAILED) return PROVE_NO_ANSWER;
  prove_explain_signature(expected, signature, verdict, error);
  return PROVE_BAD_SIGNATURE;
}

static enum prove_verdict prove_judge_signatures(const struct prove_message *expected, const struct prove_sight *sight,
                                                 struct error *error) {
  struct prove_signatures signatures = {0};
  prove_sort(expected, sight->answer, &signatures);
  if (!signatures.expected) {
    if (signatures.other == PROVE_UNSIGNED)
      prove_explain_unsigned(expected, sight->answer, error);
    else
      prove_explain_other(expected, &signatures, error);
    return signatures.other;
  }
  enum prove_verdict verdict = prove_verify(expected, sight, signatures.expected, error);
  if (verdict != PROVE_SIGNED) return verdict;
  if (signatures.other == PROVE_BEFORE) {
    prove_explain_both(expected, error);
    return PROVE_BEFORE;
  }
  if (signatures.expected_count == 1 && (expected->others || signatures.other == PROVE_UNSIGNED)) return PROVE_SIGNED;
  prove_explain_too_many(expected, &signatures, error);
  return PROVE_TOO_MANY;
}

enum prove_verdict prove_judge(const struct prove_message *expected, const struct prove_sight *sight,
                               struct error *ret_error) {
  enum prove_verdict verdict = PROVE_NO_ANSWER;
  switch (sight->answer->verdict) {
  case MILTER_ACCEPTED: return prove_judge_signatures(expected, sight, ret_error);
  case MILTER_REJECTED: verdict = PROVE_REJECTED; break;
  case MILTER_TEMPFAILED: verdict = PROVE_TEMPFAILED; break;
  case MILTER_DISCARDED: verdict = PROVE_DISCARDED; break;
  }
  prove_explain_refusal(expected, sight->answer, verdict, ret_error);
  return verdict;
}
