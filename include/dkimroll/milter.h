/* The milter protocol, version 6, from the MTA's side: packets, and one connection that hands messages to a filter.
 * (There is no RFC; the protocol is that of Sendmail's libmilter, whose header mfdef.h names these values.) */
#ifndef DKIMROLL_MILTER_H
#define DKIMROLL_MILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "dkimroll/buffer.h"
#include "dkimroll/connector.h"
#include "dkimroll/error.h"

enum {
  MILTER_PACKET_MAX = 1024 * 1024 + 64, /* libmilter sends at most 1 MiB (MILTER_MDS_1M) */
  MILTER_OUTPUT_MAX = 256 * 1024,       /* one message of ours and its envelope */
  MILTER_REPLIES_MAX = 1000,            /* packets that answer one command: modifications, progress */
  MILTER_SIGNATURES_MAX = 16,           /* DKIM-Signature headers that one message can get: one for each matching line of SigningTable */
  MILTER_TEXT_MAX = 256,                /* shown of an SMTP reply of the filter */
};

/* What a filter decides on a message, and at which command. */
enum milter_verdict {
  MILTER_ACCEPTED = 1, /* to be delivered, with the changes so far */
  MILTER_REJECTED = 2,
  MILTER_TEMPFAILED = 3,
  MILTER_DISCARDED = 4,
};

/* The answer to one message; borrowed during the callback. */
struct milter_answer {
  enum milter_verdict verdict;
  const char *stage; /* "connection", "MAIL", "RCPT", "DATA", "header", "end of headers", "body", "end of message" */
  bool early;        /* accepted before the end of the message: the filter did not look at the rest */
  char text[MILTER_TEXT_MAX]; /* the filter's own SMTP reply, printable; empty: none */
  /* DKIM-Signature headers in the order in which the filter added them: whole fields as they would be sent,
   * "DKIM-Signature: ...", lines separated by CR LF, without the last. */
  const char *signatures[MILTER_SIGNATURES_MAX];
  size_t signature_count;
};

/* One header field; value without the space behind the colon, lines separated by CR LF. */
struct milter_header {
  const char *name;
  const char *value;
};

/* A message to hand over. All borrowed until its answer. */
struct milter_message {
  const char *queue_id; /* macro {i}, for the filter's log */
  const char *sender;   /* envelope, without <> */
  const char *recipient;
  const struct milter_header *headers;
  size_t header_count;
  const char *body;
};

/* Reads "inet:PORT@ADDRESS", "inet6:PORT@ADDRESS", "unix:PATH", "local:PATH" or a path as smtpd_milters and
 * opendkim.conf's Socket have them. Address: a literal or "localhost" (there is no resolver here); left out: loopback.
 * ERROR_CONFIG. */
int milter_parse_address(const char *text, struct sockaddr_storage *ret_address, socklen_t *ret_size,
                         struct error *error) ERROR_USE_RESULT;

/* Packets: u32 length of what follows, command octet, data. */
struct milter_packet {
  char command;
  const uint8_t *data; /* borrowed from the input */
  size_t size;
};
void milter_add_packet(struct buffer *output, char command, const void *data, size_t size);
/* The packet at the beginning of octets. Returns the octets that it takes, 0: there is no whole one yet,
 * ERROR_PROTOCOL: an impossible length. */
int milter_read_packet(const uint8_t *octets, size_t size, struct milter_packet *ret_packet) ERROR_USE_RESULT;

struct milter;

/* Everything that happens on a connection. Exactly one call answers the opening (answer NULL: ready for messages, or
 * error) and each message (answer, or error). After a call with an error there are no more. Never from inside
 * milter_open or milter_send; in the call milter_send and milter_close are allowed. */
typedef void milter_event(void *context, const struct milter_answer *answer, const struct error *error);

/* Opens a connection through connector as a client on 127.0.0.1 that has authenticated: OpenDKIM signs for its InternalHosts (by default
 * 127.0.0.1) and for what has a macro {auth_type}. deadline: boottime, milliseconds, for the whole connection. Errors
 * that come later: ERROR_UNREACHABLE (refused, closed), ERROR_NOT_FOUND (no such socket), ERROR_PERMISSION,
 * ERROR_TIMEOUT, ERROR_PROTOCOL, ERROR_REFUSED (the filter turns this client away). */
int milter_open(struct connector *connector, const char *address, int64_t deadline, milter_event *event, void *context,
                struct milter **ret_milter, struct error *error) ERROR_USE_RESULT;
/* Hands over a message; none must be under way. */
void milter_send(struct milter *milter, const struct milter_message *message);
/* Ends the connection (with a QUIT if it can be written at once) and frees it. NULL is fine. */
void milter_close(struct milter *milter);

#endif
