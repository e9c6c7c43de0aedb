/* Reading and writing DNS messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "dkimroll/buffer.h"
#include "dkimroll/cleanup.h"
#include "dkimroll/entropy.h"
#include "dkimroll/message.h"
#include "dkimroll/record.h"

enum { MESSAGE_ROOM = 65535, CLASS_IN = 1, CLASS_NONE = 254 };

static void message_cleanup(struct message **message) {
  message_free(*message);
}
static void update_cleanup(struct message_update **update) {
  message_update_free(*update);
}

static void add_name(struct buffer *buffer, const char *name) {
  while (*name) {
    size_t length = strcspn(name, ".");
    buffer_add_u8(buffer, (uint8_t)length);
    buffer_add(buffer, name, length);
    name += length + (name[length] == '.');
  }
  buffer_add_u8(buffer, 0);
}

static void add_header(struct buffer *buffer, uint16_t flags, uint16_t answers, uint16_t authority,
                       uint16_t additional) {
  buffer_add_u16(buffer, 0x1234);
  buffer_add_u16(buffer, flags);
  buffer_add_u16(buffer, 1);
  buffer_add_u16(buffer, answers);
  buffer_add_u16(buffer, authority);
  buffer_add_u16(buffer, additional);
}

static void add_record_head(struct buffer *buffer, uint16_t type, uint16_t rr_class, uint32_t ttl, uint16_t size) {
  buffer_add_u16(buffer, type);
  buffer_add_u16(buffer, rr_class);
  buffer_add_u32(buffer, ttl);
  buffer_add_u16(buffer, size);
}

/* A TXT answer with an alias before it, an SOA, an OPT and a TSIG; the names are compressed against the question at octet 12. */
static struct buffer full_answer(void) {
  struct buffer buffer = BUFFER_WITH_MAXIMUM(MESSAGE_ROOM);
  add_header(&buffer, 0x8500, 2, 1, 2);
  add_name(&buffer, "S1._DomainKey.Example.Com");
  buffer_add_u16(&buffer, DNS_TYPE_TXT);
  buffer_add_u16(&buffer, CLASS_IN);
  buffer_add_u16(&buffer, 0xc00c);
  add_record_head(&buffer, DNS_TYPE_CNAME, CLASS_IN, 300, 5);
  buffer_add(&buffer, "\2k1\xc0\x1a", 5); /* "k1" and a pointer to "Example.Com" at 26 */
  buffer_add_u16(&buffer, 0xc00c);
  add_record_head(&buffer, DNS_TYPE_TXT, CLASS_IN, 3600, 8);
  buffer_add(&buffer, "\3abc\3def", 8);
  buffer_add_u16(&buffer, 0xc01a);
  add_record_head(&buffer, DNS_TYPE_SOA, CLASS_IN, 0x80000001, 32);
  buffer_add(&buffer, "\3ns1\xc0\x1a\3who\xc0\x1a", 12);
  for (uint32_t i = 1; i <= 5; i++) buffer_add_u32(&buffer, i * 100);
  buffer_add_u8(&buffer, 0);
  add_record_head(&buffer, 41, 1232, 0x01000000, 0); /* extended rcode 1: 16 in all */
  add_name(&buffer, "key");
  add_record_head(&buffer, DNS_TYPE_TSIG, 255, 0, 29);
  add_name(&buffer, "hmac-sha256");
  for (int i = 0; i < 16; i++) buffer_add_u8(&buffer, 0);
  assert_false(buffer.failed);
  return buffer;
}

static void assert_record(const struct message_record *record, enum message_section section, const char *name,
                          uint16_t type, uint32_t ttl) {
  assert_int_equal(record->section, section);
  assert_string_equal(record->name, name);
  assert_int_equal(record->type, type);
  assert_int_equal(record->rr_class, CLASS_IN);
  assert_int_equal(record->ttl, ttl);
}

static void test_message__reads_records_without_opt_and_tsig(void **state) {
  (void)state;
  struct buffer buffer = full_answer();
  CLEANUP(message_cleanup) struct message *message = NULL;
  struct error error = {0};
  assert_int_equal(message_parse(buffer.data, buffer.size, &message, &error), 0);
  assert_int_equal(message->id, 0x1234);
  assert_true(message->response && message->authoritative && !message->truncated && !message->recursion_available);
  assert_int_equal(message->opcode, 0);
  assert_int_equal(message->rcode, 16);
  assert_string_equal(message->question_name, "s1._domainkey.example.com");
  assert_int_equal(message->question_type, DNS_TYPE_TXT);
  assert_int_equal(message->record_count, 3);
  assert_record(&message->records[0], MESSAGE_ANSWER, "s1._domainkey.example.com", DNS_TYPE_CNAME, 300);
  assert_record(&message->records[1], MESSAGE_ANSWER, "s1._domainkey.example.com", DNS_TYPE_TXT, 3600);
  assert_record(&message->records[2], MESSAGE_AUTHORITY, "example.com", DNS_TYPE_SOA, 0); /* RFC 2181 8 */
  assert_int_equal(message->records[1].rdata_size, 8);
  assert_memory_equal(message->records[1].rdata, "\3abc\3def", 8);
  buffer_release(&buffer);
}

static void test_message__names_in_rdata_are_uncompressed(void **state) {
  (void)state;
  struct buffer buffer = full_answer();
  CLEANUP(message_cleanup) struct message *message = NULL;
  struct error error = {0};
  char name[DNS_NAME_TEXT_SIZE];
  uint32_t serial = 0, minimum = 0;
  assert_int_equal(message_parse(buffer.data, buffer.size, &message, &error), 0);
  assert_int_equal(message_rdata_name(&message->records[0], name, &error), 0);
  assert_string_equal(name, "k1.example.com");
  assert_int_equal(message_rdata_name(&message->records[2], name, &error), 0);
  assert_string_equal(name, "ns1.example.com");
  assert_int_equal(message_rdata_soa(&message->records[2], &serial, &minimum, &error), 0);
  assert_int_equal(serial, 100);
  assert_int_equal(minimum, 500);
  assert_int_equal(message_rdata_soa(&message->records[1], &serial, &minimum, &error), ERROR_PROTOCOL);
  assert_int_equal(message_rdata_name(&message->records[1], name, &error), ERROR_PROTOCOL);
  buffer_release(&buffer);
}

static void test_message__cut_anywhere_is_a_protocol_error(void **state) {
  (void)state;
  struct buffer buffer = full_answer();
  for (size_t size = 0; size < buffer.size; size++) {
    struct message *message = NULL;
    struct error error = {0};
    assert_int_equal(message_parse(buffer.data, size, &message, &error), ERROR_PROTOCOL);
    assert_null(message);
    assert_true(error.message[0]);
  }
  buffer_release(&buffer);
}

/* One record with such data; true: the message is read. */
static bool data_is_read(uint16_t type, const void *data, size_t size) {
  struct buffer buffer = BUFFER_WITH_MAXIMUM(MESSAGE_ROOM);
  CLEANUP(message_cleanup) struct message *message = NULL;
  struct error error = {0};
  add_header(&buffer, 0x8400, 1, 0, 0);
  add_name(&buffer, "s1.example");
  buffer_add_u16(&buffer, type);
  buffer_add_u16(&buffer, CLASS_IN);
  buffer_add_u16(&buffer, 0xc00c);
  add_record_head(&buffer, type, CLASS_IN, 300, (uint16_t)size);
  buffer_add(&buffer, data, size);
  assert_false(buffer.failed);
  const int result = message_parse(buffer.data, buffer.size, &message, &error);
  assert_true(result == 0 || result == ERROR_PROTOCOL);
  buffer_release(&buffer);
  return result == 0;
}

static void test_message__data_that_its_type_does_not_have_is_refused(void **state) {
  (void)state;
  static const uint8_t soa[] = "\3ns1\xc0\x0c\3who\xc0\x0c\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\5";
  assert_true(data_is_read(DNS_TYPE_TXT, "\3abc\3def", 8));
  assert_false(data_is_read(DNS_TYPE_TXT, "\3abc\3de", 7));
  assert_true(data_is_read(DNS_TYPE_A, "\300\0\2\1", 4));
  assert_false(data_is_read(DNS_TYPE_A, "\300\0\2\1\0", 5));
  assert_true(data_is_read(DNS_TYPE_SOA, soa, sizeof soa - 1));
  assert_false(data_is_read(DNS_TYPE_SOA, soa, sizeof soa - 5));
  assert_true(data_is_read(DNS_TYPE_NS, "\3ns1\xc0\x0c", 6));
  assert_false(data_is_read(DNS_TYPE_NS, "\3ns1\xc0\x0c\0", 7));
}

static void test_message__truncated_reply_keeps_what_is_whole(void **state) {
  (void)state;
  struct buffer buffer = full_answer();
  buffer.data[2] |= 0x02; /* TC */
  CLEANUP(message_cleanup) struct message *message = NULL;
  struct error error = {0};
  assert_int_equal(message_parse(buffer.data, 80, &message, &error), 0);
  assert_true(message->truncated);
  assert_int_equal(message->record_count, 2);
  buffer_release(&buffer);
}

static void test_message__pointer_to_itself_is_refused(void **state) {
  (void)state;
  struct buffer buffer = BUFFER_WITH_MAXIMUM(MESSAGE_ROOM);
  add_header(&buffer, 0x8000, 0, 0, 0);
  buffer_add_u16(&buffer, 0xc00c);
  buffer_add_u32(&buffer, 0x00100001);
  struct message *message = NULL;
  struct error error = {0};
  assert_int_equal(message_parse(buffer.data, buffer.size, &message, &error), ERROR_PROTOCOL);
  buffer_release(&buffer);
}

static void test_message__more_than_one_question_is_refused(void **state) {
  (void)state;
  struct buffer buffer = full_answer();
  buffer.data[5] = 2;
  struct message *message = NULL;
  struct error error = {0};
  assert_int_equal(message_parse(buffer.data, buffer.size, &message, &error), ERROR_PROTOCOL);
  assert_non_null(strstr(error.message, "2 questions"));
  buffer_release(&buffer);
}

static void test_message__more_records_than_the_limit_are_refused(void **state) {
  (void)state;
  struct buffer buffer = BUFFER_WITH_MAXIMUM(MESSAGE_ROOM);
  add_header(&buffer, 0x8000, MESSAGE_RECORDS_MAX + 1, 0, 0);
  add_name(&buffer, "");
  buffer_add_u32(&buffer, 0x00100001);
  for (int i = 0; i <= MESSAGE_RECORDS_MAX; i++) {
    buffer_add_u8(&buffer, 0);
    add_record_head(&buffer, DNS_TYPE_TXT, CLASS_IN, 0, 1);
    buffer_add_u8(&buffer, 0);
  }
  assert_false(buffer.failed);
  struct message *message = NULL;
  struct error error = {0};
  assert_int_equal(message_parse(buffer.data, buffer.size, &message, &error), ERROR_PROTOCOL);
  assert_non_null(strstr(error.message, "4096"));
  buffer.data[6] = MESSAGE_RECORDS_MAX >> 8; /* one less is read */
  buffer.data[7] = 0;
  assert_int_equal(message_parse(buffer.data, buffer.size, &message, &error), 0);
  assert_int_equal(message->record_count, MESSAGE_RECORDS_MAX);
  message_free(message);
  buffer_release(&buffer);
}

/* Whatever comes from the net is an error or a message; the sanitizers judge the rest. */
static void test_message__octets_changed_at_random_never_crash(void **state) {
  (void)state;
  struct buffer buffer = full_answer();
  struct entropy_seeded seeded;
  entropy_seed(&seeded, 20260124);
  uint8_t copy[512];
  assert_true(buffer.size <= sizeof copy);
  size_t read = 0;
  for (int round = 0; round < 20000; round++) {
    memcpy(copy, buffer.data, buffer.size);
    uint32_t changes = 1 + entropy_below(&seeded.entropy, 4);
    for (uint32_t i = 0; i < changes; i++)
      copy[entropy_below(&seeded.entropy, (uint32_t)buffer.size)] = (uint8_t)entropy_u16(&seeded.entropy);
    struct message *message = NULL;
    if (message_parse(copy, buffer.size, &message, NULL) == 0) {
      char name[DNS_NAME_TEXT_SIZE];
      for (size_t i = 0; i < message->record_count; i++)
        if (message_rdata_name(&message->records[i], name, NULL) == 0) read++;
    }
    message_free(message);
  }
  assert_true(read > 0);
  buffer_release(&buffer);
}

static void test_message__query_on_the_wire(void **state) {
  (void)state;
  static const uint8_t expected[] = "\x43\x21\0\0\0\1\0\0\0\0\0\1"
                                    "\2s1\12_domainkey\7example\3com\0\0\20\0\1"
                                    "\0\0\51\4\xd0\0\0\x80\0\0\0";
  const struct message_query query = {
      .name = "S1._domainkey.Example.com.", .type = DNS_TYPE_TXT, .id = 0x4321, .dnssec_ok = true};
  uint8_t octets[MESSAGE_QUERY_MAX];
  size_t size = 0;
  struct error error = {0};
  assert_int_equal(message_build_query(&query, octets, sizeof octets, &size, &error), 0);
  assert_int_equal(size, sizeof expected - 1);
  assert_memory_equal(octets, expected, size);
}

static void test_message__query_asks_for_recursion_only_when_told(void **state) {
  (void)state;
  const struct message_query query = {.name = "", .type = DNS_TYPE_NS, .id = 1, .recursion_desired = true};
  uint8_t octets[MESSAGE_QUERY_MAX];
  size_t size = 0;
  struct error error = {0};
  assert_int_equal(message_build_query(&query, octets, sizeof octets, &size, &error), 0);
  assert_int_equal(octets[2], 1);
  assert_memory_equal(octets + 12, "\0\0\2\0\1", 5); /* the root's NS */
  assert_int_equal(octets[size - 4], 0);             /* DO clear */
}

static void test_message__what_is_no_name_is_invalid(void **state) {
  (void)state;
  char label[80];
  memset(label, 'a', sizeof label - 1);
  label[sizeof label - 1] = '\0';
  const char *const names[] = {"a..b", label, ".a"};
  for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
    const struct message_query query = {.name = names[i], .type = DNS_TYPE_TXT};
    uint8_t octets[MESSAGE_QUERY_MAX];
    size_t size = 0;
    struct error error = {0};
    assert_int_equal(message_build_query(&query, octets, sizeof octets, &size, &error), ERROR_INVALID);
    assert_non_null(strstr(error.message, names[i]));
  }
}

static void test_message__answers_only_its_query(void **state) {
  (void)state;
  struct buffer buffer = full_answer();
  CLEANUP(message_cleanup) struct message *message = NULL;
  struct error error = {0};
  assert_int_equal(message_parse(buffer.data, buffer.size, &message, &error), 0);
  struct message_query query = {.name = "S1._domainkey.example.COM.", .type = DNS_TYPE_TXT, .id = 0x1234};
  assert_true(message_answers(message, &query));
  query.id++;
  assert_false(message_answers(message, &query));
  query.id--;
  query.type = DNS_TYPE_CNAME;
  assert_false(message_answers(message, &query));
  query.type = DNS_TYPE_TXT;
  query.name = "s2._domainkey.example.com";
  assert_false(message_answers(message, &query));
  query.name = "s1._domainkey.example.com";
  message->response = false;
  assert_false(message_answers(message, &query));
  message->response = true;
  message->opcode = 5;
  assert_false(message_answers(message, &query));
  buffer_release(&buffer);
}

static void test_message__names_below_each_other(void **state) {
  (void)state;
  assert_true(message_name_below("a.example.com", "example.com"));
  assert_true(message_name_below("example.com", "example.com"));
  assert_true(message_name_below("example.com", ""));
  assert_true(message_name_below("", ""));
  assert_false(message_name_below("badexample.com", "example.com"));
  assert_false(message_name_below("com", "example.com"));
  assert_false(message_name_below("a\\.example.com", "example.com"));
  assert_string_equal(message_name_parent("a.example.com"), "example.com");
  assert_string_equal(message_name_parent("a\\.b.com"), "com");
  assert_string_equal(message_name_parent("com"), "");
  assert_string_equal(message_name_parent(""), "");
}

static void test_message__rcodes_have_names(void **state) {
  (void)state;
  assert_string_equal(message_rcode_name(DNS_REFUSED), "REFUSED");
  assert_string_equal(message_rcode_name(DNS_NOTZONE), "NOTZONE");
  assert_string_equal(message_rcode_name(11), "an unknown RCODE");
}

static const char NAME[] = "s1._domainkey.mail.example.com";

static void test_message__update_on_the_wire(void **state) {
  (void)state;
  static const uint8_t expected[] = "\x0a\x0b\x28\0\0\1\0\2\0\2\0\0"
                                    "\7example\3com\0\0\6\0\1"
                                    "\2s1\12_domainkey\4mail\xc0\x0c\0\5\0\xfe\0\0\0\0\0\0"
                                    "\2s1\12_domainkey\4mail\xc0\x0c\0\20\0\1\0\0\0\0\0\4\3old"
                                    "\2s1\12_domainkey\4mail\xc0\x0c\0\20\0\xfe\0\0\0\0\0\4\3old"
                                    "\2s1\12_domainkey\4mail\xc0\x0c\0\20\0\1\0\0\x0e\x10\0\4\3new";
  CLEANUP(update_cleanup) struct message_update *update = NULL;
  struct error error = {0};
  assert_int_equal(message_update_new("Example.com", 0x0a0b, &update, &error), 0);
  assert_int_equal(message_update_require_absent(update, NAME, DNS_TYPE_CNAME, &error), 0);
  assert_int_equal(message_update_require_text(update, NAME, "old", &error), 0);
  assert_int_equal(message_update_delete_text(update, NAME, "old", &error), 0);
  assert_int_equal(message_update_add_text(update, NAME, 3600, "new", &error), 0);
  uint8_t octets[512];
  size_t size = 0;
  assert_int_equal(message_update_write(update, octets, sizeof octets, &size, &error), 0);
  assert_int_equal(size, sizeof expected - 1);
  assert_memory_equal(octets, expected, size);
  assert_int_equal(message_update_size(update), size);
  assert_int_equal(message_update_write(update, octets, size - 1, &size, &error), ERROR_LIMIT);
}

static void test_message__update_reads_back_as_it_was_meant(void **state) {
  (void)state;
  char text[700];
  memset(text, 'p', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  CLEANUP(update_cleanup) struct message_update *update = NULL;
  CLEANUP(message_cleanup) struct message *message = NULL;
  struct error error = {0};
  uint8_t octets[2048];
  size_t size = 0;
  assert_int_equal(message_update_new("example.com", 7, &update, &error), 0);
  assert_int_equal(message_update_require_absent(update, NAME, DNS_TYPE_TXT, &error), 0);
  assert_int_equal(message_update_add_text(update, NAME, 60, text, &error), 0);
  assert_int_equal(message_update_write(update, octets, sizeof octets, &size, &error), 0);
  assert_int_equal(message_parse(octets, size, &message, &error), 0);
  assert_int_equal(message->opcode, 5);
  assert_string_equal(message->question_name, "example.com");
  assert_int_equal(message->question_type, DNS_TYPE_SOA);
  assert_int_equal(message->record_count, 2);
  assert_int_equal(message->records[0].section, MESSAGE_ANSWER);
  assert_int_equal(message->records[0].rr_class, CLASS_NONE);
  assert_int_equal(message->records[0].rdata_size, 0);
  assert_record(&message->records[1], MESSAGE_AUTHORITY, NAME, DNS_TYPE_TXT, 60);
  CLEANUP_FREE char *read = NULL;
  assert_int_equal(record_from_rdata(message->records[1].rdata, message->records[1].rdata_size, &read, &size, &error),
                   0);
  assert_string_equal(read, text);
}

static void test_message__update_refuses_names_outside_its_zone(void **state) {
  (void)state;
  CLEANUP(update_cleanup) struct message_update *update = NULL;
  struct error error = {0};
  assert_int_equal(message_update_new("example.com", 7, &update, &error), 0);
  size_t before = message_update_size(update);
  assert_int_equal(message_update_add_text(update, "s1._domainkey.example.org", 60, "x", &error), ERROR_INVALID);
  assert_non_null(strstr(error.message, "does not lie in the zone example.com"));
  assert_int_equal(message_update_size(update), before);
}

static void test_message__update_in_the_root_zone_has_whole_names(void **state) {
  (void)state;
  CLEANUP(update_cleanup) struct message_update *update = NULL;
  CLEANUP(message_cleanup) struct message *message = NULL;
  struct error error = {0};
  uint8_t octets[512];
  size_t size = 0;
  assert_int_equal(message_update_new("", 7, &update, &error), 0);
  assert_int_equal(message_update_delete_text(update, NAME, "x", &error), 0);
  assert_int_equal(message_update_write(update, octets, sizeof octets, &size, &error), 0);
  assert_int_equal(message_parse(octets, size, &message, &error), 0);
  assert_string_equal(message->records[0].name, NAME);
  assert_string_equal(message->question_name, "");
}

static void test_message__update_never_exceeds_a_message(void **state) {
  (void)state;
  char text[4001];
  memset(text, 'p', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  CLEANUP(update_cleanup) struct message_update *update = NULL;
  struct error error = {0};
  assert_int_equal(message_update_new("example.com", 7, &update, &error), 0);
  int code = 0;
  int records = 0;
  for (; code == 0 && records < 100; records++) code = message_update_add_text(update, NAME, 60, text, &error);
  assert_int_equal(code, ERROR_LIMIT);
  assert_int_equal(records, 17);
  CLEANUP_FREE uint8_t *octets = malloc(2UL * MESSAGE_ROOM);
  size_t size = 0;
  assert_int_equal(message_update_write(update, octets, 2UL * MESSAGE_ROOM, &size, &error), ERROR_LIMIT);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_message__reads_records_without_opt_and_tsig),
      cmocka_unit_test(test_message__names_in_rdata_are_uncompressed),
      cmocka_unit_test(test_message__cut_anywhere_is_a_protocol_error),
      cmocka_unit_test(test_message__data_that_its_type_does_not_have_is_refused),
      cmocka_unit_test(test_message__truncated_reply_keeps_what_is_whole),
      cmocka_unit_test(test_message__pointer_to_itself_is_refused),
      cmocka_unit_test(test_message__more_than_one_question_is_refused),
      cmocka_unit_test(test_message__more_records_than_the_limit_are_refused),
      cmocka_unit_test(test_message__octets_changed_at_random_never_crash),
      cmocka_unit_test(test_message__query_on_the_wire),
      cmocka_unit_test(test_message__query_asks_for_recursion_only_when_told),
      cmocka_unit_test(test_message__what_is_no_name_is_invalid),
      cmocka_unit_test(test_message__answers_only_its_query),
      cmocka_unit_test(test_message__names_below_each_other),
      cmocka_unit_test(test_message__rcodes_have_names),
      cmocka_unit_test(test_message__update_on_the_wire),
      cmocka_unit_test(test_message__update_reads_back_as_it_was_meant),
      cmocka_unit_test(test_message__update_refuses_names_outside_its_zone),
      cmocka_unit_test(test_message__update_in_the_root_zone_has_whole_names),
      cmocka_unit_test(test_message__update_never_exceeds_a_message),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
