/* Errors: one enum of codes, one struct that carries place, reason and remedy to the edge that reports it. */
#ifndef DKIMROLL_ERROR_H
#define DKIMROLL_ERROR_H

#include <stdbool.h>

/* Every fallible function returns 0 or one of these. Callers branch on a code only where its header names it. */
enum error_code {
  ERROR_NONE = 0,
  ERROR_NO_MEMORY = -1,
  ERROR_SYSTEM = -2,      /* a system call failed: full disk, too many files, ... */
  ERROR_INVALID = -3,     /* input that breaks the rules of its format */
  ERROR_NOT_FOUND = -4,   /* the named thing does not exist */
  ERROR_EXISTS = -5,      /* the thing to be made is there already, and is not ours */
  ERROR_CONFLICT = -6,    /* the world is not as expected: a foreign record, a changed table */
  ERROR_BUSY = -7,        /* somebody else holds it */
  ERROR_TIMEOUT = -8,     /* the deadline passed without an answer */
  ERROR_UNREACHABLE = -9, /* connection refused, no route, connection lost */
  ERROR_REFUSED = -10,    /* the other side answered and said no */
  ERROR_PERMISSION = -11, /* file rights do not allow it, or allow too much */
  ERROR_LIMIT = -12,      /* a named limit of ours was exceeded */
  ERROR_PROTOCOL = -13,   /* the other side broke the protocol */
  ERROR_CONFIG = -14,     /* the policy is wrong */
  ERROR_CANCELLED = -15,  /* the operation was ended before it was complete */
  ERROR_PROOF = -16,      /* the signer does not sign as it should */
  ERROR_NO_ROUTE = -17,   /* no route to that address family from here (ENETUNREACH, EAFNOSUPPORT) */
  ERROR_INTERNAL = -18,   /* a contradiction that only a defect of dkimroll explains */
};

enum { ERROR_MESSAGE_MAX = 1024, ERROR_REMEDY_MAX = 512 };

/* message: what happened, outermost context first, "context: context: reason". remedy: what the reader can do; may be
 * empty. retryable: the same step may succeed later without a person. Both strings are always terminated. */
struct error {
  int code;
  bool retryable;
  char message[ERROR_MESSAGE_MAX];
  char remedy[ERROR_REMEDY_MAX];
};

/* Fills *error (NULL: nothing is recorded) and returns code, so that `return error_set(error, ERROR_..., "...")` works.
 * retryable starts as true for TIMEOUT, UNREACHABLE, BUSY, SYSTEM and NO_MEMORY, else false. Text that does not fit is cut. */
int error_set(struct error *error, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
#if defined(__clang_analyzer__) && !defined(ERROR_WITHOUT_MACRO)
/* The analyser does not look into error.c: this tells it what the function returns, so that it knows that a failure is one. */
#define error_set(error, code, ...) __extension__({ int error_set_code = (code); error_set((error), error_set_code, __VA_ARGS__); error_set_code; })
#endif

/* As error_set with ERROR_SYSTEM (EACCES, EPERM and EROFS: ERROR_PERMISSION; ENOENT: ERROR_NOT_FOUND; EEXIST: ERROR_EXISTS;
 * ENETUNREACH, EAFNOSUPPORT: ERROR_NO_ROUTE; ECONNREFUSED, EHOSTUNREACH, ECONNRESET, EPIPE: ERROR_UNREACHABLE; ETIMEDOUT:
 * ERROR_TIMEOUT; ENOMEM: ERROR_NO_MEMORY), appending ": " and the text of error_number, with a remedy for ENOSPC, EDQUOT, EMFILE, EROFS. */
int error_set_errno(struct error *error, int error_number, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "context: " before the message and returns the code that is in *error. This function and the two below return
 * ERROR_INTERNAL for NULL, since the code is then unknown and must not read as success: keep the code where error may be NULL. */
int error_context(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Sets the remedy, replacing what was there, and returns the code that is in *error. */
int error_remedy(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Marks *error as retryable or not and returns its code. */
int error_retryable(struct error *error, bool retryable);

/* The code's name for logs and the store: "timeout", "refused". Never NULL. */
const char *error_code_name(int code);

#define ERROR_USE_RESULT __attribute__((warn_unused_result))

#endif
