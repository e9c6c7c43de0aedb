/* The daemon: a head that stays, and lives that come and go. The head is the process that the service manager knows: it reads no policy, opens no store, talks to nobody
 * but the manager, and forks a life for each policy. A life is what `dkimroll run` would be, without an end: it reads the policy, comes to its keeper, gives up its
 * rights, puts up its walls and works. For a reload the next life reads the policy while the present one works; only when it is found good the present one ends in order,
 * and the next takes the lease. So rights and walls are those of the policy in force, and nothing that a life gathers outlives its policy. */
#ifndef DKIMROLL_DAEMON_H
#define DKIMROLL_DAEMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "dkimroll/cli.h"
#include "dkimroll/wake.h"

enum {
  DAEMON_STOP_SECONDS = 150, /* for operations that are open when a life is to end: a switch may take 120 s; what is left is parked. TimeoutStopSec= is 3 min */
  DAEMON_END_SECONDS = 20,   /* more, until a life that was told to end is killed: its runner and its keeper have 10 s each to come to their end */
  DAEMON_ASKERS_MAX = 16,    /* who wait for the same reload; others see it in the log */
  DAEMON_MESSAGE_MAX = WAKE_ANSWER_MAX + 256,
  DAEMON_KEEPER_MS = 60000,  /* for the first word of a keeper, which the service manager may have to start */
  DAEMON_LEASE_MS = 100,     /* how often a lease that a run has is tried */
  DAEMON_RIVAL_MS = 2000,    /* a daemon that still has it after that time is another one, and not the rest of one that was killed */
  DAEMON_STATUS_MS = 500,    /* between two words about what comes next */
  DAEMON_POLICY_LOOK_MS = 60000, /* between two looks whether the policy was changed: its files are only stat(2)ed */
  DAEMON_SENTENCE_MAX = 512,
};

/* What head and life say to each other, over a socket pair that keeps messages apart. */
enum daemon_word {
  /* The life says: */
  DAEMON_VALID = 'V',  /* the policy is good, and everything is ready but the lease */
  DAEMON_READY = 'R',  /* it works; text: what came of the policy */
  DAEMON_STATUS = 'S', /* text: what it does, and what comes next */
  DAEMON_ALIVE = 'W',  /* its loop makes turns */
  DAEMON_RELOAD = 'L', /* somebody asks for a reload; struct wake_asker */
  DAEMON_FAILED = 'F', /* it ends; an octet that is the exit status, and a text for people, of one or more lines */
  /* The head says: */
  DAEMON_STOP = 'T',   /* end: finish what is open */
  DAEMON_LEAVE = 'N',  /* the same, for the next life */
  DAEMON_PARK = 'P',   /* end at once: what is open stays written down */
  DAEMON_ANSWER = 'A', /* answer an asker: struct wake_asker, an octet that is the exit status, text */
};

/* One message; octets may be NULL with size 0. false: not sent, since the other side does not take it just now, or is gone: nothing that matters is said while its queue is
 * full. (daemon_words.c) */
bool daemon_send(int descriptor, enum daemon_word word, const void *octets, size_t size);
/* Takes one message: its word, and its octets, which are terminated, into buffer of DAEMON_MESSAGE_MAX + 1. 0: there is none; -1: the other side is gone. (daemon_words.c) */
int daemon_receive(int descriptor, enum daemon_word *ret_word, char *buffer, size_t *ret_size);

struct daemon_start {
  int channel;       /* to the head; owned by the life */
  bool successor;    /* a life is at work that will make room */
  int64_t alive_ms;  /* say so often that the loop makes turns; 0: nobody wants to know */
};
/* A life, in a process of its own: returns its exit status. (daemon_life.c) */
int daemon_live(const struct cli *cli, const struct daemon_start *start);

/* "next: example.com at 2026-01-24 15:04:05 UTC (server-20260124 becomes ready), 3 domains in work". lineage NULL: nothing is waited for. (daemon_words.c) */
struct lineage;
struct plan_clock;
void daemon_describe(const struct lineage *lineage, const struct plan_clock *clock, size_t in_hand, char buffer[DAEMON_SENTENCE_MAX]);

/* For status: a line that a daemon is at work, and one that it does not know the policy of now; nothing without one. (daemon_status.c) */
struct session;
struct json;
void daemon_print_status(struct session *session);
void daemon_json_status(struct session *session, struct json *json);

#endif
