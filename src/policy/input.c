#include "dkimroll/policy_input.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"

static void start(struct policy_input *input, struct policy_report *report, unsigned file) {
  *input = (struct policy_input){.descriptor = -1, .report = report, .place = {.line = 1, .column = 1, .file = file}};
}

int policy_input_open(struct policy_input *input, const char *path, struct policy_report *report, unsigned file,
                      struct error *error) {
  /* O_NONBLOCK: a FIFO by that name must not hold us up; regular files do not care. */
  CLEANUP_CLOSE int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (descriptor < 0) return error_set_errno(error, errno, "cannot open %s", path);
  struct stat status;
  if (fstat(descriptor, &status) < 0) return error_set_errno(error, errno, "cannot read %s", path);
  if (!S_ISREG(status.st_mode)) return error_set(error, ERROR_INVALID, "%s is not a regular file", path);
  if (status.st_size > POLICY_FILE_MAX) {
    error_set(error, ERROR_LIMIT, "%s is larger than %d MiB", path, POLICY_FILE_MAX / 1024 / 1024);
    error_remedy(error, "spread its domains over several domains-from files, or over several policies and stores");
    return ERROR_LIMIT;
  }
  start(input, report, file);
  input->descriptor = TAKE_FD(descriptor);
  return 0;
}

void policy_input_text(struct policy_input *input, const char *text, size_t size, struct policy_report *report,
                       unsigned file) {
  start(input, report, file);
  input->text = (const uint8_t *)text;
  input->text_size = size;
}

void policy_input_close(struct policy_input *input) {
  if (input->descriptor >= 0) close(input->descriptor);
  input->descriptor = -1;
}

static void refuse(struct policy_input *input, const char *what) {
  policy_report_add(input->report, input->place, "%s; the file must be plain UTF-8 text", what);
  input->broken = true;
}

/* The characters that YAML 1.1 section 5.1 allows; libyaml would refuse the others without telling the line. */
static bool is_printable(uint32_t character) {
  if (character < 0x20) return character == '\t' || character == '\n' || character == '\r';
  if (character < 0xa0) return character < 0x7f || character == 0x85;
  if (character >= 0xd800 && character < 0xe000) return false;
  return character != 0xfffe && character != 0xffff && character <= 0x10ffff;
}

static void end_character(struct policy_input *input, uint32_t character) {
  if (character < input->smallest || !is_printable(character)) {
    if (character == 0) {
      refuse(input, "there is a NUL octet here");
    } else {
      refuse(input, "there is a control character or one that Unicode does not have here");
    }
  } else if (character == '\n') {
    input->place.line++;
    input->place.column = 1;
  } else if (character != 0xfeff) { /* the byte order mark has no width */
    input->place.column++;
  }
}

static void begin_character(struct policy_input *input, uint8_t octet) {
  input->missing = octet >= 0xf0 ? 3 : octet >= 0xe0 ? 2 : 1;
  input->smallest = octet >= 0xf0 ? 0x10000 : octet >= 0xe0 ? 0x800 : 0x80;
  input->character = octet & (octet >= 0xf0 ? 0x07 : octet >= 0xe0 ? 0x0f : 0x1f);
  if (octet < 0xc2 || octet > 0xf4) refuse(input, "there is an octet here that UTF-8 does not have");
}

static void check_octet(struct policy_input *input, uint8_t octet) {
  if (input->missing > 0) {
    if ((octet & 0xc0) != 0x80) {
      refuse(input, "there is a character here whose UTF-8 is cut short");
      return;
    }
    input->character = input->character << 6 | (octet & 0x3f);
    if (--input->missing == 0) {
      end_character(input, input->character);
      input->smallest = 0;
    }
  } else if (octet < 0x80) {
    end_character(input, octet);
  } else {
    begin_character(input, octet);
  }
}

static bool fetch(struct policy_input *input, uint8_t *buffer, size_t size, size_t *ret_size) {
  if (input->descriptor < 0) {
    *ret_size = size < input->text_size ? size : input->text_size;
    if (*ret_size > 0) memcpy(buffer, input->text, *ret_size);
    input->text += *ret_size;
    input->text_size -= *ret_size;
    return true;
  }
  ssize_t got;
  do got = read(input->descriptor, buffer, size);
  while (got < 0 && errno == EINTR);
  if (got < 0) {
    error_set_errno(&input->failure, errno, "cannot read %s", input->report->files[input->place.file]);
    return false;
  }
  *ret_size = (size_t)got;
  return true;
}

/* A byte order mark is no text; libyaml would take it for an indentation before "---". */
static size_t without_mark(uint8_t *buffer, size_t size) {
  static const uint8_t mark[] = {0xef, 0xbb, 0xbf};
  if (size < sizeof(mark) || memcmp(buffer, mark, sizeof(mark)) != 0) return size;
  memmove(buffer, buffer + sizeof(mark), size - sizeof(mark));
  return size - sizeof(mark);
}

bool policy_input_read(struct policy_input *input, uint8_t *buffer, size_t size, size_t *ret_size) {
  size_t got = 0;
  if (input->broken || !fetch(input, buffer, size, &got)) {
    input->broken = true;
    return false;
  }
  input->total += got;
  if (input->total > POLICY_FILE_MAX) {
    /* A file may grow while it is read, and text in memory was never measured. */
    policy_report_add(input->report, input->place,
                      "the file is larger than %d MiB; spread its domains over several "
                      "domains-from files",
                      POLICY_FILE_MAX / 1024 / 1024);
    input->broken = true;
    return false;
  }
  if (got == 0 && input->missing > 0) refuse(input, "the last character is cut short");
  for (size_t i = 0; i < got && !input->broken; i++) {
    /* Nearly all octets are plain ASCII, and there may be 100 MiB of them. */
    if (input->missing == 0 && buffer[i] >= 0x20 && buffer[i] < 0x7f) {
      input->place.column++;
    } else {
      check_octet(input, buffer[i]);
    }
  }
  if (input->broken) return false;
  if (input->digest && EVP_DigestUpdate(input->digest, buffer, got) != 1) {
    error_set(&input->failure, ERROR_SYSTEM, "OpenSSL cannot continue the SHA-256 of the policy");
    input->broken = true;
    return false;
  }
  *ret_size = input->total == got ? without_mark(buffer, got) : got;
  return true;
}
