/* Memory that runs out while a DNS message is read, in ldns too: the message is whole, or it is said that it could not be read. A record that lost its data there
 * would be that of another key. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "dkimroll/buffer.h"
#include "dkimroll/message.h"
#include "own_allocator.h"

enum { CLASS_IN = 1, ATTEMPTS_MAX = 1000 };
enum { IS_WHOLE, IS_REFUSED, NONE_FAILED, IS_WRONG };

static void add_record(struct buffer *buffer, uint16_t type, const void *rdata, uint16_t size) {
  buffer_add_u16(buffer, 0xc00c); /* the question's name */
  buffer_add_u16(buffer, type);
  buffer_add_u16(buffer, CLASS_IN);
  buffer_add_u32(buffer, 300);
  buffer_add_u16(buffer, size);
  buffer_add(buffer, rdata, size);
}

/* A TXT of two strings, names that are compressed, and numbers behind such names. */
static struct buffer answer(void) {
  static const uint8_t question[] = "\2s1\7example", soa[] = "\3ns1\xc0\x0c\3who\xc0\x0c\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\5";
  struct buffer buffer = BUFFER_WITH_MAXIMUM(512);
  const uint16_t header[] = {0x1234, 0x8400, 1, 4, 0, 0};
  for (size_t i = 0; i < sizeof header / sizeof *header; i++) buffer_add_u16(&buffer, header[i]);
  buffer_add(&buffer, question, sizeof question);
  buffer_add_u16(&buffer, DNS_TYPE_TXT);
  buffer_add_u16(&buffer, CLASS_IN);
  add_record(&buffer, DNS_TYPE_TXT, "\3abc\3def", 8);
  add_record(&buffer, DNS_TYPE_NS, "\3ns1\xc0\x0c", 6);
  add_record(&buffer, DNS_TYPE_SOA, soa, sizeof soa - 1);
  add_record(&buffer, DNS_TYPE_A, "\300\0\2\1", 4);
  assert_false(buffer.failed);
  return buffer;
}

static bool is_equal(const struct message *a, const struct message *b) {
  bool equal = a->record_count == b->record_count;
  for (size_t i = 0; equal && i < a->record_count; i++)
    equal = a->records[i].rdata_size == b->records[i].rdata_size && memcmp(a->records[i].rdata, b->records[i].rdata, a->records[i].rdata_size) == 0;
  return equal;
}

/* In a process of its own: ldns itself ends where it has no memory for a record. */
static int read_with_failure(const struct buffer *buffer, const struct message *whole, unsigned long nth) {
  const pid_t child = fork();
  int status = 0;
  assert_true(child >= 0);
  if (child == 0) {
    struct message *message = NULL;
    struct error error = {0};
    signal(SIGSEGV, SIG_DFL); /* cmocka's own would go on with the tests */
    allocator_begin(nth);
    const int result = message_parse(buffer->data, buffer->size, &message, &error);
    const bool failed = allocations >= nth;
    allocator_begin(0);
    if (result) _exit(error.code == ERROR_NO_MEMORY ? IS_REFUSED : IS_WRONG);
    _exit(!is_equal(message, whole) ? IS_WRONG : failed ? IS_WHOLE : NONE_FAILED);
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status) == SIGSEGV ? IS_REFUSED : IS_WRONG;
}

static void test_message_memory__no_record_loses_its_data(void **state) {
  (void)state;
  struct buffer buffer = answer();
  struct message *whole = NULL;
  struct error error = {0};
  unsigned counts[IS_WRONG + 1] = {0};
  assert_int_equal(message_parse(buffer.data, buffer.size, &whole, &error), 0);
  assert_int_equal(whole->record_count, 4);
  for (unsigned long nth = 1; nth < ATTEMPTS_MAX && counts[NONE_FAILED] == 0; nth++) {
    const int outcome = read_with_failure(&buffer, whole, nth);
    if (outcome == IS_WRONG) print_error("allocation %lu\n", nth);
    counts[outcome]++;
  }
  assert_int_equal(counts[NONE_FAILED], 1);
  assert_int_equal(counts[IS_WRONG], 0);
  assert_true(counts[IS_WHOLE] > 0 && counts[IS_REFUSED] > 0);
  message_free(whole);
  buffer_release(&buffer);
}

static int ask_with_failure(unsigned long nth) {
  const struct message_query query = {.id = 1, .name = "s1._domainkey.example.com", .type = DNS_TYPE_TXT};
  uint8_t octets[MESSAGE_QUERY_MAX];
  size_t size = 0;
  const pid_t child = fork();
  int status = 0;
  assert_true(child >= 0);
  if (child == 0) {
    struct error error = {0};
    signal(SIGSEGV, SIG_DFL);
    allocator_begin(nth);
    const int result = message_build_query(&query, octets, sizeof octets, &size, &error);
    const bool failed = allocations >= nth;
    allocator_begin(0);
    _exit(result ? (error.code == ERROR_NO_MEMORY ? IS_REFUSED : IS_WRONG) : failed ? IS_WHOLE : NONE_FAILED);
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status) == SIGSEGV ? IS_REFUSED : IS_WRONG;
}

/* ldns said that all is well with a name for which it had no memory, and the server that was not asked counted as one that has lost the record. */
static void test_message_memory__a_name_is_not_called_wrong_for_want_of_memory(void **state) {
  (void)state;
  unsigned counts[IS_WRONG + 1] = {0};
  for (unsigned long nth = 1; nth < ATTEMPTS_MAX && counts[NONE_FAILED] == 0; nth++) {
    const int outcome = ask_with_failure(nth);
    if (outcome == IS_WRONG) print_error("allocation %lu\n", nth);
    counts[outcome]++;
  }
  assert_int_equal(counts[NONE_FAILED], 1);
  assert_int_equal(counts[IS_WRONG], 0);
  assert_true(counts[IS_REFUSED] > 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_message_memory__no_record_loses_its_data),
      cmocka_unit_test(test_message_memory__a_name_is_not_called_wrong_for_want_of_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
