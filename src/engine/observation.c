/* What the stages do with a round of observation. */
#include <stdlib.h>

#include "dkimroll/text.h"
#include "engine_internal.h"

void outcome_take_sightings(struct outcome *outcome, const struct observe_result *result, struct sighting_report *reports) {
  for (size_t i = 0; i < result->server_count; i++) {
    const struct observe_server *server = &result->servers[i];
    reports[i] = (struct sighting_report){
        .host = server->host,
        .address = server->address,
        .right = server->verdict == OBSERVE_RIGHT,
        .no_route = server->verdict == OBSERVE_NO_ROUTE,
        .at = server->at,
        .ttl = server->ttl,
        .ttl_negative = server->ttl_negative,
        .answer = server->answer,
    };
  }
  outcome->sightings = reports;
  outcome->sighting_count = result->server_count;
}

int outcome_take_observation(struct outcome *outcome, const struct observe_result *result, struct sighting_report **ret_reports,
                             struct error *error) {
  if (result->error.code) {
    *error = result->error;
    return error->code;
  }
  if (result->server_count == 0) {
    error_set(error, ERROR_NOT_FOUND, "no authoritative server of zone %s is left to ask", result->zone);
    return error_remedy(error, "check servers and ignore-servers of the publisher in the policy");
  }
  struct sighting_report *reports = calloc(result->server_count, sizeof *reports);
  if (!reports) return error_set(error, ERROR_NO_MEMORY, "out of memory for sightings");
  outcome_take_sightings(outcome, result, reports);
  *ret_reports = reports;
  return 0;
}

/* The observer's result ends with its callback, the outcome is applied later. */
static int keep_sightings(const struct observe_result *result, struct sighting_report *sightings, char **ret_strings) {
  enum { ROW = DNS_NAME_TEXT_SIZE + ADDRESS_TEXT_SIZE + OBSERVE_ANSWER_TEXT_MAX };
  char *strings = calloc(result->server_count, ROW);
  if (!strings) return ERROR_NO_MEMORY;
  for (size_t i = 0; i < result->server_count; i++) {
    char *row = strings + i * ROW;
    const struct observe_server *server = &result->servers[i];
    text_copy(row, DNS_NAME_TEXT_SIZE, server->host);
    text_copy(row + DNS_NAME_TEXT_SIZE, ADDRESS_TEXT_SIZE, server->address);
    text_copy(row + DNS_NAME_TEXT_SIZE + ADDRESS_TEXT_SIZE, OBSERVE_ANSWER_TEXT_MAX, server->answer);
    sightings[i].host = row;
    sightings[i].address = row + DNS_NAME_TEXT_SIZE;
    sightings[i].answer = row + DNS_NAME_TEXT_SIZE + ADDRESS_TEXT_SIZE;
  }
  *ret_strings = strings;
  return 0;
}

/* Every server right, or excused because the same host is right at another address. */
static bool every_server_right(const struct observe_result *result, const struct observe_server **ret_wrong) {
  bool any = false;
  for (size_t i = 0; i < result->server_count; i++) {
    const struct observe_server *server = &result->servers[i];
    bool counts = server->verdict == OBSERVE_RIGHT;
    for (size_t j = 0; server->verdict == OBSERVE_NO_ROUTE && j < result->server_count; j++)
      counts |= result->servers[j].verdict == OBSERVE_RIGHT && text_equal_nocase(result->servers[j].host, server->host);
    *ret_wrong = server;
    if (!counts) return false;
    any = true;
  }
  return any;
}

int outcome_take_presence(struct outcome *outcome, const struct observe_result *result, const char *selector, struct kept_sightings *ret_kept,
                          struct error *error) {
  const struct observe_server *wrong = NULL;
  int result_code = outcome_take_observation(outcome, result, &ret_kept->reports, error);
  if (result_code) return result_code;
  if (keep_sightings(result, ret_kept->reports, &ret_kept->strings)) {
    outcome->sighting_count = 0; /* its texts are about to go */
    return error_set(error, ERROR_NO_MEMORY, "out of memory for sightings");
  }
  if (every_server_right(result, &wrong)) return 0;
  error_set(error, ERROR_CONFLICT, "%s (%s) does not serve the record of %s any more: %s", wrong->host, wrong->address, selector, wrong->answer);
  return error_retryable(error, true);
}

void kept_sightings_release(struct kept_sightings *kept) {
  free(kept->reports);
  free(kept->strings);
}
