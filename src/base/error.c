#define ERROR_WITHOUT_MACRO /* the function itself is defined here */
#include "dkimroll/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "dkimroll/text.h"

enum { ERROR_SYSTEM_TEXT_MAX = 128 };

static bool error_code_is_retryable(int code) {
  return code == ERROR_TIMEOUT || code == ERROR_UNREACHABLE || code == ERROR_BUSY || code == ERROR_SYSTEM ||
         code == ERROR_NO_MEMORY;
}

/* The text is built aside first, since an argument of the format may point into the error itself. */
static void error_fill(struct error *error, int code, const char *format, va_list arguments) {
  char message[ERROR_MESSAGE_MAX];
  if (vsnprintf(message, sizeof(message), format, arguments) < 0) message[0] = '\0';
  error->code = code;
  error->retryable = error_code_is_retryable(code);
  error->remedy[0] = '\0';
  text_copy(error->message, sizeof(error->message), message);
}

int error_set(struct error *error, int code, const char *format, ...) {
  if (!error) return code;
  va_list arguments;
  va_start(arguments, format);
  error_fill(error, code, format, arguments);
  va_end(arguments);
  return code;
}

static int error_code_of_errno(int error_number) {
  switch (error_number) {
  case EACCES:
  case EPERM:
  case EROFS: return ERROR_PERMISSION;
  case ENOENT: return ERROR_NOT_FOUND;
  case EEXIST: return ERROR_EXISTS;
  case ENETUNREACH:
  case EAFNOSUPPORT: return ERROR_NO_ROUTE;
  case ECONNREFUSED:
  case EHOSTUNREACH:
  case ECONNRESET:
  case EPIPE: return ERROR_UNREACHABLE;
  case ETIMEDOUT: return ERROR_TIMEOUT;
  case ENOMEM: return ERROR_NO_MEMORY;
  default: return ERROR_SYSTEM;
  }
}

static const char *error_remedy_of_errno(int error_number) {
  switch (error_number) {
  case ENOSPC: return "free space on that file system (df -h, df -i); dkimroll tries again";
  case EDQUOT: return "raise the quota of the user that dkimroll runs as, or remove files of that user";
  case EMFILE: return "raise LimitNOFILE= of the unit, or `ulimit -n`";
  case EROFS:
    return "the file system is mounted read-only: remount it, or name the directory in ReadWritePaths= of dkimroll-keeper@.service";
  default: return "";
  }
}

int error_set_errno(struct error *error, int error_number, const char *format, ...) {
  int code = error_code_of_errno(error_number);
  if (!error) return code;
  va_list arguments;
  va_start(arguments, format);
  error_fill(error, code, format, arguments);
  va_end(arguments);

  char system_text[ERROR_SYSTEM_TEXT_MAX];
  const char *reason = strerror_r(error_number, system_text, sizeof(system_text));
  size_t used = strlen(error->message);
  /* The reason is worth more than the end of an overlong context, so that is what gives way. */
  size_t needed = strlen(reason) + 2;
  if (used + needed >= sizeof(error->message)) used = sizeof(error->message) - needed - 1;
  snprintf(error->message + used, sizeof(error->message) - used, ": %s", reason);
  text_copy(error->remedy, sizeof(error->remedy), error_remedy_of_errno(error_number));
  return code;
}

int error_context(struct error *error, const char *format, ...) {
  if (!error) return ERROR_INTERNAL;
  char context[ERROR_MESSAGE_MAX];
  va_list arguments;
  va_start(arguments, format);
  if (vsnprintf(context, sizeof(context), format, arguments) < 0) context[0] = '\0';
  va_end(arguments);

  char inner[ERROR_MESSAGE_MAX];
  text_copy(inner, sizeof(inner), error->message);
  text_copy(error->message, sizeof(error->message), context);
  size_t used = strlen(error->message);
  /* A context that fills the message leaves no room for more, and is then all that the reader sees. */
  snprintf(error->message + used, sizeof(error->message) - used, ": %s", inner);
  return error->code;
}

int error_remedy(struct error *error, const char *format, ...) {
  if (!error) return ERROR_INTERNAL;
  char remedy[ERROR_REMEDY_MAX];
  va_list arguments;
  va_start(arguments, format);
  if (vsnprintf(remedy, sizeof(remedy), format, arguments) < 0) remedy[0] = '\0';
  va_end(arguments);
  text_copy(error->remedy, sizeof(error->remedy), remedy);
  return error->code;
}

int error_retryable(struct error *error, bool retryable) {
  if (!error) return ERROR_INTERNAL;
  error->retryable = retryable;
  return error->code;
}

const char *error_code_name(int code) {
  switch (code) {
  case ERROR_NONE: return "none";
  case ERROR_NO_MEMORY: return "no-memory";
  case ERROR_SYSTEM: return "system";
  case ERROR_INVALID: return "invalid";
  case ERROR_NOT_FOUND: return "not-found";
  case ERROR_EXISTS: return "exists";
  case ERROR_CONFLICT: return "conflict";
  case ERROR_BUSY: return "busy";
  case ERROR_TIMEOUT: return "timeout";
  case ERROR_UNREACHABLE: return "unreachable";
  case ERROR_REFUSED: return "refused";
  case ERROR_PERMISSION: return "permission";
  case ERROR_LIMIT: return "limit";
  case ERROR_PROTOCOL: return "protocol";
  case ERROR_CONFIG: return "config";
  case ERROR_CANCELLED: return "cancelled";
  case ERROR_PROOF: return "proof";
  case ERROR_NO_ROUTE: return "no-route";
  case ERROR_INTERNAL: return "internal";
  default: return "unknown";
  }
}
