/* DNS messages as they come: any octets are read, or refused. What was read has bounds, and its records can be asked for what they hold. */
#include <string.h>

#include "dkimroll/message.h"
#include "dkimroll/record.h"
#include "dkimroll/zone_read.h"
#include "fuzz.h"

#include <stdlib.h>

#include "dkimroll/cleanup.h"

static void expect_name(const char *name) {
  const size_t size = strnlen(name, DNS_NAME_TEXT_SIZE);
  FUZZ_HOLDS(size < DNS_NAME_TEXT_SIZE, "a name without an end");
  for (size_t i = 0; i < size; i++) {
    FUZZ_HOLDS(name[i] > ' ' && name[i] < 0x7f, "octet %d in %s", name[i], name);
    FUZZ_HOLDS(name[i] < 'A' || name[i] > 'Z', "upper case in %s", name);
  }
  /* To walk up ends. */
  unsigned labels = 0;
  for (const char *at = name; *at; at = message_name_parent(at)) labels++;
  FUZZ_HOLDS(labels <= 128, "%u labels in %s", labels, name);
}

static void read_record(const struct message_record *record) {
  char name[DNS_NAME_TEXT_SIZE];
  uint32_t serial = 0, minimum = 0;
  struct error error = {0};
  FUZZ_HOLDS(record->section >= MESSAGE_ANSWER && record->section <= MESSAGE_ADDITIONAL, "section %d", record->section);
  FUZZ_HOLDS(record->ttl <= INT32_MAX, "TTL %u", record->ttl);
  expect_name(record->name);
  int result = message_rdata_name(record, name, &error);
  if (result < 0)
    fuzz_expect_error(result, &error);
  else
    expect_name(name);
  result = message_rdata_soa(record, &serial, &minimum, &error);
  if (result < 0) fuzz_expect_error(result, &error);
  CLEANUP_FREE char *text = NULL;
  size_t size = 0;
  result = record_from_rdata(record->rdata, record->rdata_size, &text, &size, &error);
  if (result < 0) fuzz_expect_error(result, &error);
}

static void read_zone(const struct message *message) {
  struct zone_hosts hosts = {0};
  char target[DNS_NAME_TEXT_SIZE];
  int64_t ttl = 0;
  (void)zone_read_soa(message, "s1._domainkey.example.com");
  (void)zone_read_referral(message, "", "s1._domainkey.example.com");
  if (zone_read_alias(message, "s1._domainkey.example.com", target, &ttl)) expect_name(target);
  zone_hosts_take(&hosts, message, "example.com");
  FUZZ_HOLDS(hosts.count <= ZONE_HOSTS_MAX, "%zu hosts", hosts.count);
  for (size_t i = 0; i < hosts.count; i++) {
    expect_name(hosts.items[i].name);
    FUZZ_HOLDS(hosts.items[i].address_count <= ZONE_HOST_ADDRESSES_MAX, "%zu addresses", hosts.items[i].address_count);
  }
  zone_hosts_release(&hosts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  CLEANUP_FREE uint8_t *octets = malloc(size > 0 ? size : 1);
  struct message *message = NULL;
  struct error error = {0};
  if (!octets) return 0;
  if (size > 0) memcpy(octets, data, size);
  const int result = message_parse(octets, size, &message, &error);
  if (result < 0) {
    fuzz_expect_error(result, &error);
    FUZZ_HOLDS(result == ERROR_PROTOCOL && !message, "%s", error.message);
    return 0;
  }
  FUZZ_HOLDS(message->record_count <= MESSAGE_RECORDS_MAX, "%zu records", message->record_count);
  expect_name(message->question_name);
  for (size_t i = 0; i < message->record_count; i++) read_record(&message->records[i]);
  read_zone(message);
  message_free(message);
  return 0;
}
