/* A filter that behaves in every way a filter can: a child process plays it by a script. Its signatures are real, with
 * dkim_signer_key(true, 0). Needs nothing of the signer. */
#ifndef DKIMROLL_TESTS_FAKE_FILTER_H
#define DKIMROLL_TESTS_FAKE_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { FAKE_FILTER_CONNECTIONS = 8 };

/* How the filter behaves. Letters are commands of the protocol, 0: never. */
struct fake_script {
  uint32_t steps; /* negotiated */
  bool bad_options;
  /* s= on the nth connection, the last for all later ones; NULL: no signature. d= is the sender's domain, or domain. */
  const char *selectors[FAKE_FILTER_CONNECTIONS];
  const char *domain;
  const char *more_signatures; /* a second one with this selector, */
  unsigned more_times;         /* or so many; 0: one */
  bool other_key;              /* signs with dkim_signer_key(true, 1) */
  bool other_body;             /* signs another body than it was given */
  bool add_header;             /* instead of inserting it */
  char at;                     /* at this command: */
  char reply;                  /*   another reply instead of continue, */
  const char *text;            /*   with this text, */
  bool hang, quit, garbage;    /*   no answer, end of connection, an impossible packet */
  unsigned until_connection;   /* all of that only before the nth connection; 0: always */
  unsigned progress;           /* packets before the verdict at the end of the message */
  const char *old_for;         /* sender that is always signed for with s=old */
  unsigned delay_ms;           /* before the verdict at the end of each message */
  const char *only_sender;     /* at, reply: only for this sender */
};

struct fake_filter {
  pid_t pid;
  char address[64]; /* as in the policy */
};

void fake_filter_start(struct fake_filter *filter, const struct fake_script *script);
void fake_filter_stop(struct fake_filter *filter);
/* An address at which nobody listens. */
void fake_filter_free_address(char *address, size_t size);

#endif
