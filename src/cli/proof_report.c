#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/proof.h"
#include "dkimroll/status.h"
#include "dkimroll/text.h"

static const char *const NAMES[] = {"DOMAIN", "SELECTOR", "SIGNER", "SENDER", "PROOF"};
enum { COLUMN_PROOF = 4 };

/* ---- what is wrong ---- */

static void say(struct proof *proof, const struct finding *finding) {
  struct finding copy = *finding;
  copy.level = FINDING_FAILED;
  if (!copy.remedy) copy.remedy = (char *)"";
  findings_add(&proof->findings, &copy);
}

static bool host_is_right(const struct proof_key *key, const char *host) {
  for (size_t i = 0; i < key->server_count; i++)
    if (key->servers[i].verdict == OBSERVE_RIGHT && text_equal_nocase(key->servers[i].host, host)) return true;
  return false;
}

/* One family without a route does no harm where the other shows that the server is right. */
static bool server_is_good(const struct proof_key *key, const struct observe_server *server) {
  return server->verdict == OBSERVE_RIGHT || (server->verdict == OBSERVE_NO_ROUTE && host_is_right(key, server->host));
}

static void judge_server(struct proof *proof, const struct proof_key *key, const struct observe_server *server) {
  char name[STATUS_SERVER_MAX];
  if (server_is_good(key, server)) return;
  status_server_name(server->host, server->address, name);
  const bool wrong = server->verdict == OBSERVE_WRONG;
  CLEANUP_FREE char *text =
      wrong ? text_format("%s does not serve the record of %s: %s", name, key->key->selector, server->answer)
            : text_format("%s gives no usable answer: %s", name, server->answer);
  const char *remedy = wrong ? "see who changed it, or why this server does not follow the primary; `dkimroll status "
                               "DOMAIN` shows the record that should be there"
                             : "repair the server, or take it out of the zone's NS records; if nobody asks it, name it "
                               "under ignore-servers of the publisher";
  say(proof, &(struct finding){.code = wrong ? ERROR_CONFLICT : ERROR_UNREACHABLE,
                               .subject = (char *)"name servers",
                               .who = (char *)key->lineage.domain,
                               .text = text ? text : (char *)"out of memory",
                               .remedy = (char *)remedy});
}

/* What verifies says nothing any more: somebody else may have signed it. */
static void judge_compromise(struct proof *proof, const struct proof_key *key) {
  char moment[TIME_TEXT_SIZE];
  if (key->key->compromised_at == TIME_UNSET) return;
  CLEANUP_FREE char *text = text_format("the key that signs, %s, is compromised since %s", key->key->selector, time_format(key->key->compromised_at, moment));
  say(proof, &(struct finding){.code = ERROR_CONFLICT,
                               .subject = (char *)"keys",
                               .who = (char *)key->lineage.domain,
                               .text = text ? text : (char *)"out of memory",
                               .remedy = (char *)"another one takes over as soon as it may: `dkimroll status DOMAIN` says when; `dkimroll revoke --now` does not wait"});
}

static void judge_key(struct proof *proof, const struct proof_key *key) {
  judge_compromise(proof, key);
  if (key->error.code)
    findings_add_error(&proof->findings, FINDING_FAILED, "name servers", key->lineage.domain, &key->error);
  else if (key->server_count == 0)
    say(proof, &(struct finding){.code = ERROR_NOT_FOUND,
                                 .subject = (char *)"name servers",
                                 .who = (char *)key->lineage.domain,
                                 .text = (char *)"no authoritative server is left to ask",
                                 .remedy = (char *)"see servers and ignore-servers of the publisher"});
  for (size_t i = 0; i < key->server_count; i++) judge_server(proof, key, &key->servers[i]);
}

static void judge_item(struct proof *proof, const struct proof_signer *signer, const struct proof_item *item) {
  proof->good += item->code == 0;
  proof->failed += item->code != 0;
  if (!item->code) return;
  const bool other = item->version->server && !text_equal(item->version->record, item->key->key->record);
  CLEANUP_FREE char *subject = text_format("signer %s", signer->policy->name);
  CLEANUP_FREE char *text = text_format("%s%s%s", item->text ? item->text : "out of memory",
                                        other ? ", with what is served by " : "", other ? item->version->server : "");
  CLEANUP_FREE char *first =
      other ? text_format("what is served there is not the record of this key: put that right, and prove again; if it fails then: %s", item->remedy ? item->remedy : "")
            : NULL;
  say(proof, &(struct finding){.code = item->code,
                               .subject = subject ? subject : signer->policy->name,
                               .who = (char *)item->key->lineage.domain,
                               .text = text ? text : (char *)"out of memory",
                               .remedy = first ? first : item->remedy});
}

static void judge(struct proof *proof) {
  for (size_t i = 0; i < proof->key_count; i++) judge_key(proof, &proof->keys[i]);
  for (size_t i = 0; i < proof->signer_count; i++)
    for (size_t j = 0; j < proof->signers[i].count; j++)
      judge_item(proof, &proof->signers[i], &proof->signers[i].items[j]);
}

/* ---- rows ---- */

/* Messages that differ only in the version of the record stand together, and are one row: the first that failed. */
static const struct proof_item *row_of(const struct proof_signer *signer, size_t *index) {
  const struct proof_item *first = &signer->items[*index], *shown = first;
  for (; *index < signer->count; ++*index) {
    const struct proof_item *item = &signer->items[*index];
    if (item->key != first->key || item->sender != first->sender) break;
    if (!shown->code && item->code) shown = item;
  }
  return shown;
}

static const char *item_verdict(const struct proof_item *item) {
  if (item->code) return "FAILED";
  return item->version->server ? "signed and verified" : "signed, but no server has the record";
}

static int each_row(struct proof *proof, struct columns *columns, bool measure, struct error *error) {
  int result = 0;
  for (size_t i = 0; i < proof->signer_count; i++)
    for (size_t j = 0; j < proof->signers[i].count && !result;) {
      const struct proof_item *item = row_of(&proof->signers[i], &j);
      const struct columns_row row = {.cells = {item->key->lineage.domain, item->key->key->selector,
                                                proof->signers[i].policy->name, item->sender, item_verdict(item)},
                                      .coloured = COLUMN_PROOF,
                                      .colour = item->code || !item->version->server ? "red" : "green"};
      if (measure)
        columns_measure(columns, &row);
      else
        result = columns_add(columns, &row, error);
    }
  return result;
}

static void cleanup_columns(struct columns **columns) {
  columns_free(*columns);
}

static int print_rows(struct proof *proof, struct error *error) {
  CLEANUP(cleanup_columns) struct columns *columns = NULL;
  int result = columns_new(proof->cli->out, NAMES, ARRAY_SIZE(NAMES), &columns, error);
  if (!result) result = each_row(proof, columns, true, error);
  if (!result) result = each_row(proof, columns, false, error);
  return result ? result : columns_end(columns, error);
}

/* ---- for programs ---- */

static void write_servers(struct json *json, const struct proof_key *key) {
  json_open(json, "servers", '[');
  for (size_t i = 0; i < key->server_count; i++) {
    const struct observe_server *server = &key->servers[i];
    json_open(json, NULL, '{');
    json_text(json, "host", server->host);
    json_text(json, "address", server->address);
    json_bool(json, "right", server->verdict == OBSERVE_RIGHT);
    json_bool(json, "no_route", server->verdict == OBSERVE_NO_ROUTE);
    json_moment(json, "asked", server->at);
    json_text(json, "answer", server->answer);
    json_close(json, '}');
  }
  json_close(json, ']');
}

static void write_item(struct json *json, const struct proof_signer *signer, const struct proof_item *item) {
  json_open(json, NULL, '{');
  json_text(json, "signer", signer->policy->name);
  json_text(json, "sender", item->sender);
  json_text(json, "served_by", item->version->server);
  json_bool(json, "verified", item->code == 0);
  json_text(json, "error", item->text);
  json_text(json, "remedy", item->remedy && item->remedy[0] ? item->remedy : NULL);
  json_close(json, '}');
}

static void write_key(struct proof *proof, const struct proof_key *key) {
  struct json *json = &proof->json;
  json_break(json);
  json_open(json, NULL, '{');
  json_text(json, "domain", key->lineage.domain);
  json_text(json, "key", key->lineage.slot);
  json_text(json, "selector", key->key->selector);
  json_text(json, "record_name", key->key->owner_name);
  json_text(json, "record", key->key->record);
  json_text(json, "error", key->error.code ? key->error.message : NULL);
  write_servers(json, key);
  json_open(json, "messages", '[');
  for (size_t i = 0; i < proof->signer_count; i++)
    for (size_t j = 0; j < proof->signers[i].count; j++)
      if (proof->signers[i].items[j].key == key) write_item(json, &proof->signers[i], &proof->signers[i].items[j]);
  json_close(json, ']');
  json_close(json, '}');
}

/* ---- the parts ---- */

void proof_report_begin(struct proof *proof) {
  if (!proof->cli->arguments->json) return;
  proof->json = (struct json){.out = proof->cli->out};
  json_open(&proof->json, NULL, '{');
  json_open(&proof->json, "keys", '[');
}

int proof_report_batch(struct proof *proof, struct error *error) {
  judge(proof);
  if (!proof->cli->arguments->json) return print_rows(proof, error);
  for (size_t i = 0; i < proof->key_count; i++) write_key(proof, &proof->keys[i]);
  return 0;
}

static void end_json(struct proof *proof) {
  struct json *json = &proof->json;
  json_break(json);
  json_close(json, ']');
  json_bool(json, "ok", proof->findings.failed == 0);
  json_number(json, "verified", (int64_t)proof->good);
  json_number(json, "failed", (int64_t)proof->failed);
  json_close(json, '}');
  fputc('\n', proof->cli->out);
}

static const char *plural(size_t count) {
  return count == 1 ? "" : "s";
}

static void end_text(struct proof *proof) {
  FILE *out = proof->cli->out;
  findings_print(&proof->findings, out);
  if (proof->findings.failed > 0)
    fprintf(out, "NOT all right: %zu of %zu message%s failed.\n", proof->failed, proof->good + proof->failed,
            plural(proof->good + proof->failed));
  else if (proof->good == 0)
    fprintf(out, "Nothing was proved: no key signs yet.\n");
  else
    fprintf(out, "All right: %zu message%s signed, and verified with what every name server serves.\n", proof->good,
            plural(proof->good));
}

int proof_report_end(struct proof *proof) {
  const int code = proof->findings.first_code;
  if (proof->cli->arguments->json)
    end_json(proof);
  else
    end_text(proof);
  /* EX_NOINPUT is for a domain that nobody knows; a part of the world that is not there is unavailable. */
  return cli_exit_status(code == ERROR_NOT_FOUND ? ERROR_UNREACHABLE : code);
}
