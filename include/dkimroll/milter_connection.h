/* The inside of one milter connection, shared by milter_connection.c (opening, failing, closing), milter_write.c
 * (commands) and milter_read.c (replies). */
#ifndef DKIMROLL_MILTER_CONNECTION_H
#define DKIMROLL_MILTER_CONNECTION_H

#include "dkimroll/milter.h"
#include "dkimroll/milter_protocol.h"

enum {
  MILTER_READ_SIZE = 16 * 1024,
  MILTER_INPUT_MAX = MILTER_PACKET_MAX + MILTER_READ_SIZE, /* a packet that is not whole yet, and what one read adds */
};

/* Commands of a connection in the order in which they go out. */
enum milter_step {
  MILTER_STEP_NEGOTIATE,
  MILTER_STEP_CONNECT,
  MILTER_STEP_HELO,
  MILTER_STEP_READY, /* between messages: nothing is sent */
  MILTER_STEP_MAIL,
  MILTER_STEP_RCPT,
  MILTER_STEP_DATA,
  MILTER_STEP_HEADERS,
  MILTER_STEP_END_OF_HEADERS,
  MILTER_STEP_BODY,
  MILTER_STEP_END_OF_MESSAGE,
};

struct milter {
  struct loop *loop;
  char *address; /* for messages */
  milter_event *event;
  void *context;
  struct stream *stream;
  bool connected;
  struct loop_source *timer;
  struct loop_source *failing; /* reports failure, since that must not happen from inside a call */
  struct error failure;        /* code 0: none */
  struct buffer input;
  struct buffer output;
  uint32_t steps;        /* negotiated MILTER_NO_ and MILTER_NR_ bits */
  enum milter_step step; /* the command that waits for its reply */
  size_t header;         /* next one to send */
  unsigned replies;      /* to the present command */
  bool abort_due;        /* the filter decided before the end of the last message */
  bool ready;            /* to be reported: the connection takes messages now */
  bool answered;         /* to be reported: answer is complete */
  const struct milter_message *message;
  struct milter_answer answer;
  char *signatures[MILTER_SIGNATURES_MAX]; /* owned; the answer borrows them */
};

/* "MAIL", "end of message". */
const char *milter_step_stage(enum milter_step step);
/* Sends commands from the present step on, up to one that has a reply. */
void milter_send_steps(struct milter *milter);
/* The present command was answered: goes on to the next. */
void milter_go_on(struct milter *milter);

/* Begins, or goes on, to write: connecting comes to its end here too. */
void milter_can_write(struct milter *milter);

/* milter_read.c. The owner may free the connection in the call. */
void milter_can_read(struct milter *milter);
void milter_forget_answer(struct milter *milter);

/* milter_connection.c: sees to it that these events are watched. */
void milter_watch(struct milter *milter, unsigned events);
/* The connection has failed; failure is reported from the loop. */
void milter_fail_later(struct milter *milter);
void milter_fail_errno(struct milter *milter, int failure, const char *what);
void milter_fail_protocol(struct milter *milter, const char *what);
void milter_fail_memory(struct milter *milter);

#endif
