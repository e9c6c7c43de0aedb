/* Checks of single texts in the policy: each says what is wrong and, as remedy, what would be right. ERROR_INVALID. */
#ifndef DKIMROLL_POLICY_CHECKS_H
#define DKIMROLL_POLICY_CHECKS_H

#include <stdbool.h>

#include "dkimroll/error.h"

/* A name that people give: letters, digits, hyphens, underscores, dots; at most POLICY_NAME_MAX octets. */
int policy_check_name(const char *text, struct error *error) ERROR_USE_RESULT;
/* An absolute path without "." and ".." steps, at most PATH_MAX - 1 octets. */
int policy_check_path(const char *text, struct error *error) ERROR_USE_RESULT;
/* The same with %d in it, which stands for the domain, below at least one fixed directory. */
int policy_check_directory(const char *text, struct error *error) ERROR_USE_RESULT;
/* A path with %z or nothing of that kind in its last part, which stands for the zone. */
int policy_check_zone_file(const char *text, struct error *error) ERROR_USE_RESULT;
/* A path, or credential:NAME (systemd.exec(5)). */
int policy_check_tsig_file(const char *text, struct error *error) ERROR_USE_RESULT;
/* "192.0.2.53", "192.0.2.53:53", "2001:db8::53", "[2001:db8::53]:53". */
int policy_check_address(const char *text, struct error *error) ERROR_USE_RESULT;
/* An address without port, or a host name. */
int policy_check_host(const char *text, struct error *error) ERROR_USE_RESULT;
/* A zone: labels of letters, digits, hyphens and underscores. */
int policy_check_zone(const char *text, struct error *error) ERROR_USE_RESULT;
/* A path or address:port as in opendkim.conf(5), Socket: inet:PORT@ADDRESS, inet6:PORT@ADDRESS, unix:PATH, local:PATH. */
int policy_check_milter(const char *text, struct error *error) ERROR_USE_RESULT;
/* "user" or "user:group", names or numbers; whether they exist is seen when a file is made. */
int policy_check_owner(const char *text, struct error *error) ERROR_USE_RESULT;
/* The name of a KeyTable entry: a template with %d, and %s or not. */
int policy_check_key_name(const char *text, struct error *error) ERROR_USE_RESULT;
/* A systemd unit that can be reloaded: a service. */
int policy_check_unit(const char *text, struct error *error) ERROR_USE_RESULT;
/* A pattern that stands in a refile: SigningTable. */
int policy_check_sender(const char *text, struct error *error) ERROR_USE_RESULT;
/* Days, hours and dates of windows and freezes (schedule.h), and a time zone that this host knows. */
int policy_check_day(const char *text, struct error *error) ERROR_USE_RESULT;
int policy_check_hours(const char *text, struct error *error) ERROR_USE_RESULT;
int policy_check_dates(const char *text, struct error *error) ERROR_USE_RESULT;
int policy_check_time_zone(const char *text, struct error *error) ERROR_USE_RESULT;
/* Whether a file: SigningTable knows the pattern ("*@D" counts, because it is written as D there). */
bool policy_sender_fits_file(const char *pattern);
/* Whether a line of a refile: SigningTable with the pattern could match any address: not "D", ".D" and "user@.D", which are forms of a file: table. */
bool policy_sender_fits_refile(const char *pattern);

/* Canonical forms; the caller frees; NULL: out of memory. */
char *policy_canonical_name(const char *text);   /* DNS name: lower case, no final dot */
char *policy_canonical_sender(const char *text); /* "@D" is "*@D" */
char *policy_canonical_milter(const char *text); /* no brackets around the address */

#endif
