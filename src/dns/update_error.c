/* What a server's no means. One table, because the same no comes from different servers for different reasons and the postmaster must not have to know which. */
#include "dkimroll/update_error.h"

#include <stdio.h>
#include <string.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/message.h"
#include "dkimroll/selector.h"
#include "dkimroll/text.h"

enum { ANY = -1, WORD_SIZE = 1024, FILLED_MAX = 16384 };

enum subject {
  REPLY_TO_UPDATE, /* believed: value is the rcode */
  REPLY_TO_QUERY,
  TSIG_OF_SERVER, /* the server found fault with our TSIG: value is its error */
  TSIG_OF_REPLY,  /* we found fault with the reply's TSIG: value is our verdict */
  TSIG_MISSING,   /* we signed, the reply is not signed: value is the rcode */
};

struct meaning {
  enum subject subject;
  int value;
  enum update_reaction reaction;
  enum update_scope scope;
  int code;
  bool retryable;
  const char *message; /* {words} are filled in by fill_in() */
  const char *remedy;
};

/* The first row that fits counts; each subject ends with an ANY. */
static const struct meaning meanings[] = {
    {REPLY_TO_UPDATE, DNS_FORMERR, UPDATE_SPLIT, UPDATE_OF_RECORD, ERROR_REFUSED, false,
     "FORMERR: it cannot read the update of {name}",
     "Something between here and the server may change DNS messages (a firewall, a proxy), or the server does not know "
     "RFC 2136. "
     "Give the primary itself as server: of the publisher."},
    {REPLY_TO_UPDATE, DNS_SERVFAIL, UPDATE_RETRY, UPDATE_OF_RECORD, ERROR_REFUSED, true,
     "SERVFAIL: it could not apply the update of {name} in zone {zone}",
     "The server's log has the reason: most often it cannot write the zone file or its journal (rights, full disk), or "
     "the "
     "zone is frozen (rndc thaw {zone}; knotc zone-thaw {zone})."},
    {REPLY_TO_UPDATE, DNS_NXDOMAIN, UPDATE_REREAD, UPDATE_OF_RECORD, ERROR_CONFLICT, true,
     "NXDOMAIN: a name that must be in use is not, at {name}",
     "Someone else changes the same name. Find out who: dig {name} TXT."},
    {REPLY_TO_UPDATE, DNS_NOTIMP, UPDATE_RETRY, UPDATE_OF_RECORD, ERROR_REFUSED, true,
     "NOTIMP: it does not take updates of zone {zone}",
     "This is not the primary, or a server without RFC 2136. Give the primary as server: of the publisher."},
    {REPLY_TO_UPDATE, DNS_REFUSED, UPDATE_SPLIT, UPDATE_OF_RECORD, ERROR_REFUSED, false,
     "REFUSED: it does not allow key {key} to change the TXT record {name}, or zone {zone} is not dynamic there, or "
     "frozen",
     "If it is frozen to be edited: rndc thaw {zone}; knotc zone-thaw {zone}. Else BIND, in the zone clause instead "
     "of allow-update: {bind} Knot: {knot}; and name that acl in the zone."},
    {REPLY_TO_UPDATE, DNS_YXDOMAIN, UPDATE_REREAD, UPDATE_OF_RECORD, ERROR_CONFLICT, true,
     "YXDOMAIN: a name that must be free is in use, at {name}",
     "Someone else changes the same name. Find out who: dig {name} ANY."},
    {REPLY_TO_UPDATE, DNS_YXRRSET, UPDATE_REREAD, UPDATE_OF_RECORD, ERROR_CONFLICT, true,
     "YXRRSET: a TXT or CNAME record stands at {name} though a query does not show it",
     "A view or split zone may answer queries from here with other data: give key {key} the view that takes the "
     "updates, or name "
     "the right server and port as server: of the publisher."},
    {REPLY_TO_UPDATE, DNS_NXRRSET, UPDATE_REREAD, UPDATE_OF_RECORD, ERROR_CONFLICT, true,
     "NXRRSET: the TXT record at {name} is not the one that a query shows",
     "A view or split zone may answer queries from here with other data: give key {key} the view that takes the "
     "updates, or name "
     "the right server and port as server: of the publisher."},
    {REPLY_TO_UPDATE, DNS_NOTAUTH, UPDATE_FINAL, UPDATE_OF_ZONE, ERROR_REFUSED, false,
     "NOTAUTH: it is not authoritative for zone {zone}",
     "Give the primary of {zone} as server: of the publisher, or the zone that holds {name} as zone:."},
    {REPLY_TO_UPDATE, DNS_NOTZONE, UPDATE_SPLIT, UPDATE_OF_RECORD, ERROR_REFUSED, false,
     "NOTZONE: it says that {name} does not lie in zone {zone}",
     "Correct zone: of the publisher or domain, or leave it out: then it is discovered."},
    {REPLY_TO_UPDATE, ANY, UPDATE_SPLIT, UPDATE_OF_RECORD, ERROR_REFUSED, false,
     "{rcode} to the update of {name} in zone {zone}", "The server's log may have the reason."},

    {REPLY_TO_QUERY, DNS_FORMERR, UPDATE_FINAL, UPDATE_OF_RECORD, ERROR_REFUSED, false,
     "FORMERR: it cannot read the query for {name} TXT",
     "The server may be too old for EDNS (RFC 6891), or something in between changes DNS messages. Give the primary "
     "itself as server: of "
     "the publisher."},
    {REPLY_TO_QUERY, DNS_SERVFAIL, UPDATE_RETRY, UPDATE_OF_RECORD, ERROR_REFUSED, true,
     "SERVFAIL: it cannot answer for {name}; zone {zone} may not be loaded",
     "The server's log has the reason: often an error in the zone file, or a secondary whose zone expired."},
    {REPLY_TO_QUERY, DNS_NOTIMP, UPDATE_FINAL, UPDATE_OF_RECORD, ERROR_REFUSED, false,
     "NOTIMP: it does not answer queries for {name} TXT", "Give the primary of {zone} as server: of the publisher."},
    {REPLY_TO_QUERY, DNS_REFUSED, UPDATE_FINAL, UPDATE_OF_RECORD, ERROR_REFUSED, false,
     "REFUSED: it does not answer key {key} for {name}: it does not serve zone {zone}, or not to this host",
     "Give the primary of {zone} as server: of the publisher; on it, BIND's allow-query must let key {key} or this "
     "host pass."},
    {REPLY_TO_QUERY, DNS_NOTAUTH, UPDATE_FINAL, UPDATE_OF_ZONE, ERROR_REFUSED, false,
     "NOTAUTH: it is not authoritative for {name}, or does not allow key {key}",
     "Give the primary of {zone} as server: of the publisher. Knot: {knot}; and name that acl in the zone."},
    {REPLY_TO_QUERY, DNS_NOERROR, UPDATE_FINAL, UPDATE_OF_RECORD, ERROR_REFUSED, false,
     "answers for {name} without authority: it is not a server of zone {zone}, or the name is delegated further down",
     "Give the primary of the zone that holds {name} as server: and that zone as zone: of the publisher, or leave both "
     "out."},
    {REPLY_TO_QUERY, DNS_NXDOMAIN, UPDATE_FINAL, UPDATE_OF_RECORD, ERROR_REFUSED, false,
     "answers for {name} without authority: it is not a server of zone {zone}",
     "Give the primary of the zone that holds {name} as server: and that zone as zone: of the publisher, or leave both "
     "out."},
    {REPLY_TO_QUERY, ANY, UPDATE_FINAL, UPDATE_OF_RECORD, ERROR_REFUSED, false, "{rcode} to the query for {name} TXT",
     "The server's log may have the reason."},

    {TSIG_OF_SERVER, TSIG_BADSIG, UPDATE_FINAL, UPDATE_OF_SERVER, ERROR_REFUSED, false,
     "{rcode} with TSIG error BADSIG: its secret of key {key} is another than ours",
     "Copy the key from the server again into tsig-file: of the publisher: name, algorithm and secret belong "
     "together."},
    {TSIG_OF_SERVER, TSIG_BADKEY, UPDATE_SPLIT, UPDATE_OF_ZONE, ERROR_REFUSED, false,
     "{rcode} with TSIG error BADKEY: it does not know key {key} with this name and algorithm, or (Knot) no acl of "
     "zone {zone} "
     "lets this key change the TXT record {name}",
     "It must be the primary; compare name and algorithm of the key in tsig-file: with its own. Knot: {knot}; name "
     "that acl in the zone, and let an address: in it take in this host. "
     "BIND: a key clause of that name, and {bind}"},
    {TSIG_OF_SERVER, TSIG_BADTIME, UPDATE_FINAL, UPDATE_OF_SERVER, ERROR_REFUSED, true,
     "{rcode} with TSIG error BADTIME: the clocks differ{difference}; allowed are {fudge} seconds",
     "Set the clock that is wrong (timedatectl; chronyc tracking) and keep NTP running on both hosts."},
    {TSIG_OF_SERVER, TSIG_BADTRUNC, UPDATE_FINAL, UPDATE_OF_SERVER, ERROR_REFUSED, false,
     "{rcode} with TSIG error BADTRUNC: it wants another length of the signature for key {key}",
     "Take away the truncation (such as hmac-sha256-128) from the key's algorithm on the server."},
    {TSIG_OF_SERVER, ANY, UPDATE_FINAL, UPDATE_OF_ZONE, ERROR_REFUSED, false,
     "{rcode} with the unknown TSIG error {tsig} for key {key}",
     "The server's log may have the reason. Compare the key in tsig-file: with the server's."},

    {TSIG_OF_REPLY, TSIG_BADTIME, UPDATE_RETRY, UPDATE_OF_RECORD, ERROR_REFUSED, true,
     "{rcode}, but the signature of the reply is of another time{difference}; allowed are {fudge} seconds: not "
     "believed",
     "Set the clock that is wrong (timedatectl; chronyc tracking) and keep NTP running on both hosts."},
    {TSIG_OF_REPLY, TSIG_BADKEY, UPDATE_RETRY, UPDATE_OF_RECORD, ERROR_REFUSED, true,
     "{rcode}, but the reply is signed with another key than {key}: not believed",
     "Something between here and the server may answer in its place. Compare the key in tsig-file: with the server's."},
    {TSIG_OF_REPLY, ANY, UPDATE_RETRY, UPDATE_OF_RECORD, ERROR_REFUSED, true,
     "{rcode}, but the signature of the reply is wrong for key {key}: not believed",
     "Something between here and the server may change DNS messages. Compare the key in tsig-file: with the server's."},

    {TSIG_MISSING, DNS_NOTAUTH, UPDATE_SPLIT, UPDATE_OF_ZONE, ERROR_REFUSED, false,
     "NOTAUTH, unsigned: it does not know key {key}, does not allow it in zone {zone}, or is not authoritative for it",
     "Give the primary of {zone} as server: of the publisher, and compare the key in tsig-file: with the server's. "
     "Knot: {knot}; and name that acl in "
     "the zone. BIND: {bind}"},
    {TSIG_MISSING, DNS_REFUSED, UPDATE_SPLIT, UPDATE_OF_ZONE, ERROR_REFUSED, false,
     "REFUSED, unsigned: it does not serve zone {zone}, or does not answer this host or key {key}",
     "Give the primary of {zone} as server: of the publisher, and let this host pass its address lists (BIND: "
     "blackhole, allow-query; views)."},
    {TSIG_MISSING, ANY, UPDATE_RETRY, UPDATE_OF_RECORD, ERROR_REFUSED, true,
     "{rcode}, unsigned though we signed with key {key}: not believed",
     "The server does not know TSIG, or something in between answers in its place. Give the primary itself as server: "
     "of the publisher."},
};

/* Rows above that name a key read strangely without one; then this is the likely reason. */
static const char REMEDY_WITHOUT_KEY[] = "The publisher has no tsig-file:, so its updates are unsigned, which servers "
                                         "rarely allow. Make a key (tsig-keygen dkimroll, or keymgr -t "
                                         "dkimroll), add it to the server and name its file as tsig-file:. BIND, in "
                                         "the zone: {bind} Knot: {knot}; and name that acl in the zone.";

static void classify(const struct update_answer *answer, bool have_key, enum subject *ret_subject,
                     unsigned *ret_value) {
  const struct tsig_answer *tsig = &answer->tsig;
  *ret_subject = answer->update ? REPLY_TO_UPDATE : REPLY_TO_QUERY;
  *ret_value = answer->rcode;
  if (!have_key) return;
  if (!tsig->present) {
    *ret_subject = TSIG_MISSING;
  } else if (tsig->error != TSIG_NOERROR) {
    *ret_subject = TSIG_OF_SERVER;
    *ret_value = tsig->error;
  } else if (!tsig->verified) {
    *ret_subject = TSIG_OF_REPLY;
    *ret_value = tsig->verdict;
  }
}

static const struct meaning *find_meaning(enum subject subject, unsigned value) {
  const struct meaning *meaning = meanings;
  while (meaning->subject != subject || (meaning->value != ANY && (unsigned)meaning->value != value)) meaning++;
  return meaning;
}

/* Where the right begins that the key needs: "_domainkey.example.com", or what stands above a name behind an alias. */
static const char *granted_name(const char *name) {
  for (const char *at = name; *at; at = message_name_parent(at))
    if (text_starts(at, "_domainkey.")) return at;
  return message_name_parent(name);
}

static void write_knot(const struct update_place *place, char word[WORD_SIZE]) {
  const char *granted = granted_name(place->name);
  size_t granted_size = strlen(granted), zone_size = strlen(place->zone);
  int relative = granted_size > zone_size ? (int)(granted_size - zone_size) - (zone_size ? 1 : 0) : 0;
  const char *key = place->key ? place->key->name : "dkimroll";
  if (relative > 0)
    snprintf(word, WORD_SIZE,
             "acl with key: %s, action: update, update-type: [TXT], update-owner: name, update-owner-match: sub, "
             "update-owner-name: [%.*s]",
             key, relative, granted);
  else
    snprintf(word, WORD_SIZE,
             "acl with key: %s, action: update, update-type: [TXT], update-owner: zone, update-owner-match: sub", key);
}

static void write_difference(const struct update_answer *answer, const struct update_place *place,
                             char word[WORD_SIZE]) {
  char theirs_text[TIME_TEXT_SIZE], ours_text[TIME_TEXT_SIZE], duration[DURATION_TEXT_SIZE];
  int64_t theirs = answer->tsig.server_time ? answer->tsig.server_time : answer->tsig.time_signed;
  word[0] = '\0';
  /* A server that says BADTIME without its time repeats ours (RFC 8945 5.2.3). */
  if (theirs == 0 || theirs == place->now) return;
  int64_t ahead = place->now - theirs;
  snprintf(word, WORD_SIZE, ": the server has %s, this host %s, %s %s", time_format(theirs, theirs_text),
           time_format(place->now, ours_text), duration_format(ahead < 0 ? -ahead : ahead, duration),
           ahead < 0 ? "behind" : "ahead");
}

static void write_word(const char *name, const struct update_answer *answer, const struct update_place *place,
                       char word[WORD_SIZE]) {
  const char *key = place->key ? place->key->name : "(none)";
  word[0] = '\0';
  if (text_equal(name, "server")) text_copy(word, WORD_SIZE, place->server);
  if (text_equal(name, "zone")) text_copy(word, WORD_SIZE, place->zone);
  if (text_equal(name, "name")) text_copy(word, WORD_SIZE, place->name);
  if (text_equal(name, "key")) text_copy(word, WORD_SIZE, key);
  if (text_equal(name, "fudge")) snprintf(word, WORD_SIZE, "%d", TSIG_FUDGE);
  if (text_equal(name, "tsig")) snprintf(word, WORD_SIZE, "%u", answer->tsig.error);
  if (text_equal(name, "rcode") && answer->rcode <= DNS_NOTZONE)
    text_copy(word, WORD_SIZE, message_rcode_name(answer->rcode));
  if (text_equal(name, "rcode") && answer->rcode > DNS_NOTZONE)
    snprintf(word, WORD_SIZE, "the unknown RCODE %u", answer->rcode);
  if (text_equal(name, "bind"))
    snprintf(word, WORD_SIZE, "update-policy { grant %s. wildcard *.%s. TXT; };", place->key ? key : "dkimroll",
             granted_name(place->name));
  if (text_equal(name, "knot")) write_knot(place, word);
  if (text_equal(name, "difference")) write_difference(answer, place, word);
}

/* Replaces each {word}; caller frees. NULL only when out of memory. */
static char *fill_in(const char *text, const struct update_answer *answer, const struct update_place *place) {
  struct buffer buffer = BUFFER_WITH_MAXIMUM(FILLED_MAX);
  for (;;) {
    size_t literal = strcspn(text, "{");
    buffer_add(&buffer, text, literal);
    text += literal;
    if (!*text) return buffer_take_text(&buffer);
    size_t size = strcspn(++text, "}");
    char name[16], word[WORD_SIZE];
    snprintf(name, sizeof name, "%.*s", (int)size, text);
    write_word(name, answer, place, word);
    buffer_add_text(&buffer, word);
    text += size + 1;
  }
}

void update_error_explain(const struct update_answer *answer, const struct update_place *place,
                          struct update_verdict *ret_verdict) {
  enum subject subject;
  unsigned value;
  classify(answer, place->key, &subject, &value);
  const struct meaning *meaning = find_meaning(subject, value);
  bool keyless = !place->key && (answer->rcode == DNS_REFUSED || answer->rcode == DNS_NOTAUTH);
  CLEANUP_FREE char *message = fill_in(meaning->message, answer, place);
  CLEANUP_FREE char *remedy = fill_in(keyless ? REMEDY_WITHOUT_KEY : meaning->remedy, answer, place);
  ret_verdict->reaction = meaning->reaction;
  ret_verdict->scope = meaning->scope;
  error_set(&ret_verdict->error, meaning->code, "%s: %s", place->server, message ? message : "says no");
  error_remedy(&ret_verdict->error, "%s", remedy ? remedy : "");
  error_retryable(&ret_verdict->error, meaning->retryable);
}
