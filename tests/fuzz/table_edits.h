/* Edits of OpenDKIM's tables from the fuzzer's octets, and what must hold of them: lines that no edit names stay octet for octet, an item that
 * fails changes nothing, and an edit that is done is done. */
#ifndef DKIMROLL_TESTS_TABLE_EDITS_H
#define DKIMROLL_TESTS_TABLE_EDITS_H

#include "dkimroll/table.h"
#include "fuzz.h"

enum { TABLE_EDITS_LINES_MAX = 8 };

/* What a case of the fuzzer is made of. */
struct table_case {
  struct fuzz_input
      edits; /* a line each: KIND SENDER NAME VALUE BEFORE BESIDE, separated by one space; "-": none. KIND has the letters
                              s (KEY_SET), d (KEY_REMOVE), p (SIGN_POINT), r (SIGN_REMOVE), e (existing), and j: of the item before. */
  struct fuzz_input keys;
  struct fuzz_input signing;
  enum table_kind kind; /* of the SigningTable */
  bool multiple_signatures;
};

void table_case_run(const struct table_case *input);

#endif
