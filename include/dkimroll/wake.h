/* The wake socket: how a command tells a daemon that something was written down, and asks it to read the policy again. A datagram socket beside the store, made by
 * the daemon with the owner and mode of the store, so that who may write the store may wake. What is asked for stands in the store; a datagram that is lost, or that
 * nobody hears, loses nothing. */
#ifndef DKIMROLL_WAKE_H
#define DKIMROLL_WAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "dkimroll/error.h"

enum {
  WAKE_WORD_MAX = 64,       /* octets of a datagram; longer ones and all that is no word are ignored */
  WAKE_WORDS_OF_CALLBACK = 32, /* taken at once, so that a flood leaves the loop its turn */
  WAKE_ANSWER_MAX = 64 * 1024, /* of a reload: the findings of a policy (POLICY_ERRORS_MAX) */
  WAKE_GAP_MS = 5000,   /* between two lives of a daemon nobody listens: one keeper ends, and the next life takes the lease */
  WAKE_GAP_EVERY_MS = 100,
  WAKE_RELOAD_SECONDS = 240, /* for an answer: a stop of the open operations (DAEMON_STOP_SECONDS), the reading of the policy, the sync */
};

enum wake_word { WAKE_NONE = 0, WAKE_TURN = 1, WAKE_RELOAD = 2 };

/* Who asked, where the answer goes: an address that the kernel chose. */
struct wake_asker {
  struct sockaddr_un address;
  socklen_t size;
};

/* Path of the socket of that store. Caller frees; NULL: out of memory. */
char *wake_path(const char *state);
/* The daemon's end: non-blocking, bound to the path, in the place of one that a killed daemon left. The caller closes it, and leaves the path: a later one replaces
 * it, and without a listener it refuses. */
int wake_listen(const char *state, int *ret_descriptor, struct error *error) ERROR_USE_RESULT;
/* Takes one datagram. false: there is none. *ret_word is WAKE_NONE for what is no word. asker->size is 0 where no answer is wanted. */
bool wake_receive(int descriptor, enum wake_word *ret_word, struct wake_asker *ret_asker);
/* Answers an asker with the exit status for its command and a text, by the daemon's end. An asker that is gone is nobody's loss. */
void wake_answer(int descriptor, const struct wake_asker *asker, int status, const char *text);

/* Does a daemon listen? Nothing is sent. */
bool wake_is_heard(const char *state);
/* A turn, please. false: no daemon listens. */
bool wake_send(const char *state);
/* Asks for a reload and waits for its end, at most WAKE_RELOAD_SECONDS. *ret_text: what came of it; caller frees. ERROR_NOT_FOUND: no daemon listens; ERROR_TIMEOUT. Blocks. */
int wake_reload(const char *state, int *ret_status, char **ret_text, struct error *error) ERROR_USE_RESULT;

/* Who works on the store, by its lock file: "dkimroll daemon, pid 4711, since 2026-01-24 15:04:05 UTC". false: nobody wrote it. */
bool wake_read_holder(const char *state, char *buffer, size_t size);

#endif
