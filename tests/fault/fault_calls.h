/* Between fault.c, which counts, and fault_calls.c, which stands in for the functions. */
#ifndef DKIMROLL_TESTS_FAULT_CALLS_H
#define DKIMROLL_TESTS_FAULT_CALLS_H

#include <stdbool.h>

/* Counts a call of the function name from the address caller; true: it is its turn to fail. */
bool fault_hits(const char *name, const void *caller);

#endif
