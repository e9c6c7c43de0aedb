/* What stands in for the functions that may fail: the real thing, or its failure when it is its turn. The Makefile makes the names of these functions, without
 * "fault_call_", the list by which the objects of dkimroll are relinked. Each fails as its manual page says, without having done anything.
 *
 * Not here: what cannot fail (free, clock_gettime), what ends the process if it fails (getrandom), what only tells (isatty), and output for people (fprintf). */
#include "fault_calls.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <ldns/ldns.h>
#include <libsmartcols/libsmartcols.h>
#include <poll.h>
#include <pwd.h>
#include <regex.h>
#include <search.h>
#include <signal.h>
#include <spawn.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <unistd.h>
#include <yaml.h>

#define HITS(name) fault_hits(name, __builtin_return_address(0))
/* CALL(type of the result, name, result of a failure, errno of a failure, parameters, arguments) */
#define CALL(result, name, failure, problem, parameters, arguments)                                                    \
  result fault_call_##name parameters;                                                                                 \
  result fault_call_##name parameters {                                                                                \
    if (!HITS(#name)) return name arguments;                                                                           \
    errno = (problem);                                                                                                 \
    return (failure);                                                                                                  \
  }

/* Memory. */
CALL(void *, malloc, NULL, ENOMEM, (size_t size), (size))
CALL(void *, calloc, NULL, ENOMEM, (size_t count, size_t size), (count, size))
CALL(void *, realloc, NULL, ENOMEM, (void *old, size_t size), (old, size))
CALL(void *, reallocarray, NULL, ENOMEM, (void *old, size_t count, size_t size), (old, count, size))
CALL(char *, strdup, NULL, ENOMEM, (const char *text), (text))
CALL(char *, strndup, NULL, ENOMEM, (const char *text, size_t size), (text, size))
CALL(void *, tsearch, NULL, ENOMEM, (const void *key, void **root, int (*compare)(const void *, const void *)), (key, root, compare))
CALL(int, regcomp, REG_ESPACE, ENOMEM, (regex_t * expression, const char *text, int flags), (expression, text, flags))
int fault_call_vasprintf(char **text, const char *format, va_list arguments) __attribute__((format(printf, 2, 0)));
int fault_call_vasprintf(char **text, const char *format, va_list arguments) {
  if (!HITS("vasprintf")) return vasprintf(text, format, arguments);
  *text = NULL;
  errno = ENOMEM;
  return -1;
}

/* Files. */
int fault_call_open(const char *path, int flags, ...);
int fault_call_open(const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & O_CREAT) ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  if (!HITS("open")) return open(path, flags, mode);
  errno = EMFILE;
  return -1;
}
int fault_call_openat(int directory, const char *path, int flags, ...);
int fault_call_openat(int directory, const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  if (!HITS("openat")) return openat(directory, path, flags, mode);
  errno = ENOSPC;
  return -1;
}
/* Closed it is all the same; what was written may be lost. */
int fault_call_close(int descriptor);
int fault_call_close(int descriptor) {
  const int result = close(descriptor);
  if (descriptor < 0 || !HITS("close")) return result;
  errno = EIO;
  return -1;
}
CALL(FILE *, fopen, NULL, EMFILE, (const char *path, const char *mode), (path, mode))
CALL(int, mkostemp, -1, ENOSPC, (char *name, int flags), (name, flags))
CALL(ssize_t, read, -1, EIO, (int descriptor, void *data, size_t size), (descriptor, data, size))
CALL(ssize_t, pread, -1, EIO, (int descriptor, void *data, size_t size, off_t offset), (descriptor, data, size, offset))
CALL(ssize_t, write, -1, ENOSPC, (int descriptor, const void *data, size_t size), (descriptor, data, size))
CALL(ssize_t, pwrite, -1, EIO, (int descriptor, const void *data, size_t size, off_t offset), (descriptor, data, size, offset))
CALL(int, fsync, -1, EIO, (int descriptor), (descriptor))
CALL(int, ftruncate, -1, EIO, (int descriptor, off_t size), (descriptor, size))
CALL(int, fchmod, -1, EPERM, (int descriptor, mode_t mode), (descriptor, mode))
CALL(int, fchown, -1, EPERM, (int descriptor, uid_t owner, gid_t group), (descriptor, owner, group))
CALL(int, fstat, -1, EIO, (int descriptor, struct stat *status), (descriptor, status))
CALL(int, fstatat, -1, EIO, (int directory, const char *path, struct stat *status, int flags), (directory, path, status, flags))
CALL(int, stat, -1, EIO, (const char *path, struct stat *status), (path, status))
CALL(int, lstat, -1, EIO, (const char *path, struct stat *status), (path, status))
CALL(int, statvfs, -1, EIO, (const char *path, struct statvfs *status), (path, status))
CALL(int, access, -1, EIO, (const char *path, int mode), (path, mode))
CALL(int, rename, -1, ENOSPC, (const char *from, const char *to), (from, to))
CALL(int, renameat, -1, ENOSPC, (int from, const char *old, int to, const char *new), (from, old, to, new))
CALL(int, renameat2, -1, ENOSPC, (int from, const char *old, int to, const char *new, unsigned flags), (from, old, to, new, flags))
CALL(int, linkat, -1, ENOSPC, (int from, const char *old, int to, const char *new, int flags), (from, old, to, new, flags))
CALL(int, unlink, -1, EIO, (const char *path), (path))
CALL(int, unlinkat, -1, EIO, (int directory, const char *path, int flags), (directory, path, flags))
CALL(int, mkdirat, -1, ENOSPC, (int directory, const char *path, mode_t mode), (directory, path, mode))
CALL(int, flock, -1, ENOLCK, (int descriptor, int operation), (descriptor, operation))
CALL(off_t, lseek, -1, EIO, (int descriptor, off_t offset, int whence), (descriptor, offset, whence))
CALL(struct dirent *, readdir, NULL, EIO, (DIR * listing), (listing))
CALL(char *, realpath, NULL, ENOMEM, (const char *path, char *buffer), (path, buffer))
CALL(ssize_t, readlink, -1, EIO, (const char *path, char *buffer, size_t size), (path, buffer, size))
CALL(struct passwd *, getpwnam, NULL, EIO, (const char *name), (name))
CALL(struct passwd *, getpwuid, NULL, EIO, (uid_t user), (user))
CALL(struct group *, getgrnam, NULL, EIO, (const char *name), (name))
CALL(struct group *, getgrgid, NULL, EIO, (gid_t group), (group))
CALL(DIR *, fdopendir, NULL, ENOMEM, (int descriptor), (descriptor))
CALL(DIR *, opendir, NULL, EMFILE, (const char *path), (path))
CALL(int, scandir, -1, ENOMEM,
     (const char *path, struct dirent ***entries, int (*filter)(const struct dirent *), int (*compare)(const struct dirent **, const struct dirent **)),
     (path, entries, filter, compare))
CALL(FILE *, open_memstream, NULL, ENOMEM, (char **text, size_t *size), (text, size))

/* Sockets, processes, signals. */
int fault_call_fcntl(int descriptor, int command, ...);
int fault_call_fcntl(int descriptor, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  const int value = command == F_SETFL ? va_arg(arguments, int) : 0;
  va_end(arguments);
  if (!HITS("fcntl")) return fcntl(descriptor, command, value);
  errno = ENOLCK;
  return -1;
}
CALL(int, socket, -1, EMFILE, (int family, int type, int protocol), (family, type, protocol))
CALL(int, socketpair, -1, EMFILE, (int family, int type, int protocol, int *pair), (family, type, protocol, pair))
CALL(int, pipe2, -1, EMFILE, (int *pair, int flags), (pair, flags))
CALL(int, memfd_create, -1, EMFILE, (const char *name, unsigned flags), (name, flags))
CALL(int, connect, -1, ENOBUFS, (int descriptor, const struct sockaddr *address, socklen_t size), (descriptor, address, size))
CALL(int, bind, -1, ENOMEM, (int descriptor, const struct sockaddr *address, socklen_t size), (descriptor, address, size))
CALL(ssize_t, sendto, -1, ENOBUFS, (int descriptor, const void *data, size_t size, int flags, const struct sockaddr *address, socklen_t length),
     (descriptor, data, size, flags, address, length))
CALL(ssize_t, sendmsg, -1, ENOBUFS, (int descriptor, const struct msghdr *message, int flags), (descriptor, message, flags))
CALL(ssize_t, recvfrom, -1, ENOMEM, (int descriptor, void *data, size_t size, int flags, struct sockaddr *address, socklen_t *length),
     (descriptor, data, size, flags, address, length))
CALL(ssize_t, recvmsg, -1, ENOMEM, (int descriptor, struct msghdr *message, int flags), (descriptor, message, flags))
CALL(ssize_t, send, -1, ENOBUFS, (int descriptor, const void *data, size_t size, int flags), (descriptor, data, size, flags))
CALL(ssize_t, recv, -1, ECONNRESET, (int descriptor, void *data, size_t size, int flags), (descriptor, data, size, flags))
CALL(int, setsockopt, -1, ENOBUFS, (int descriptor, int level, int name, const void *value, socklen_t size), (descriptor, level, name, value, size))
CALL(int, getsockopt, -1, ENOBUFS, (int descriptor, int level, int name, void *value, socklen_t *size), (descriptor, level, name, value, size))
CALL(int, poll, -1, ENOMEM, (struct pollfd * polls, nfds_t count, int timeout), (polls, count, timeout))
CALL(int, signalfd, -1, EMFILE, (int descriptor, const sigset_t *signals, int flags), (descriptor, signals, flags))
CALL(int, pidfd_open, -1, EMFILE, (pid_t pid, unsigned flags), (pid, flags))
CALL(int, pidfd_send_signal, -1, EPERM, (int descriptor, int number, siginfo_t *information, unsigned flags), (descriptor, number, information, flags))
CALL(int, posix_spawn_file_actions_init, ENOMEM, ENOMEM, (posix_spawn_file_actions_t * actions), (actions))
CALL(int, posix_spawn_file_actions_adddup2, ENOMEM, ENOMEM, (posix_spawn_file_actions_t * actions, int from, int to), (actions, from, to))
CALL(int, posix_spawn_file_actions_addclosefrom_np, ENOMEM, ENOMEM, (posix_spawn_file_actions_t * actions, int from), (actions, from))
CALL(int, posix_spawnattr_init, ENOMEM, ENOMEM, (posix_spawnattr_t * attributes), (attributes))
CALL(pid_t, fork, -1, EAGAIN, (void), ())
CALL(int, posix_spawn, EAGAIN, EAGAIN,
     (pid_t * pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes, char *const *arguments, char *const *environment),
     (pid, path, actions, attributes, arguments, environment))

/* The store. ROLLBACK is left out: SQLite's own cannot fail but for want of a transaction. */
CALL(int, sqlite3_open_v2, SQLITE_CANTOPEN, EMFILE, (const char *path, sqlite3 **database, int flags, const char *vfs), (path, database, flags, vfs))
CALL(int, sqlite3_prepare_v3, SQLITE_NOMEM, ENOMEM,
     (sqlite3 * database, const char *sql, int size, unsigned flags, sqlite3_stmt **statement, const char **tail),
     (database, sql, size, flags, statement, tail))
CALL(int, sqlite3_exec, SQLITE_FULL, ENOSPC,
     (sqlite3 * database, const char *sql, int (*row)(void *, int, char **, char **), void *context, char **message),
     (database, sql, row, context, message))
CALL(int, sqlite3_bind_int64, SQLITE_NOMEM, ENOMEM, (sqlite3_stmt * statement, int column, sqlite3_int64 value), (statement, column, value))
CALL(int, sqlite3_bind_null, SQLITE_NOMEM, ENOMEM, (sqlite3_stmt * statement, int column), (statement, column))
CALL(int, sqlite3_bind_text, SQLITE_NOMEM, ENOMEM, (sqlite3_stmt * statement, int column, const char *text, int size, void (*release)(void *)),
     (statement, column, text, size, release))
CALL(const unsigned char *, sqlite3_column_text, NULL, ENOMEM, (sqlite3_stmt * statement, int column), (statement, column))
CALL(int, sqlite3_db_config, SQLITE_ERROR, EIO, (sqlite3 * database, int option, int value, int *result), (database, option, value, result))
int fault_call_sqlite3_step(sqlite3_stmt *statement);
int fault_call_sqlite3_step(sqlite3_stmt *statement) {
  const char *sql = sqlite3_sql(statement);
  if (!sql || strcmp(sql, "ROLLBACK") == 0 || !HITS("sqlite3_step")) return sqlite3_step(statement);
  return SQLITE_IOERR;
}

/* The loop. */
CALL(int, sd_event_new, -ENOMEM, ENOMEM, (sd_event * *event), (event))
CALL(int, sd_event_add_time, -ENOMEM, ENOMEM,
     (sd_event * event, sd_event_source **source, clockid_t clock, uint64_t at, uint64_t accuracy, sd_event_time_handler_t handler, void *context),
     (event, source, clock, at, accuracy, handler, context))
CALL(int, sd_event_add_io, -ENOMEM, ENOMEM,
     (sd_event * event, sd_event_source **source, int descriptor, uint32_t events, sd_event_io_handler_t handler, void *context),
     (event, source, descriptor, events, handler, context))
CALL(int, sd_event_source_set_time, -ENOMEM, ENOMEM, (sd_event_source * source, uint64_t at), (source, at))
CALL(int, sd_event_source_set_enabled, -ENOMEM, ENOMEM, (sd_event_source * source, int enabled), (source, enabled))
CALL(int, sd_event_run, -ENOMEM, ENOMEM, (sd_event * event, uint64_t timeout), (event, timeout))

/* The system bus. Methods and messages have arguments of any kind, which are handed on as they are. */
CALL(int, sd_bus_open_system, -ENOMEM, ENOMEM, (sd_bus * *bus), (bus))
CALL(int, sd_bus_set_method_call_timeout, -ENOMEM, ENOMEM, (sd_bus * bus, uint64_t timeout), (bus, timeout))
CALL(int, sd_bus_message_new_method_call, -ENOMEM, ENOMEM,
     (sd_bus * bus, sd_bus_message **message, const char *service, const char *path, const char *interface, const char *member), (bus, message, service, path, interface, member))
CALL(int, sd_bus_call, -ENOBUFS, ENOBUFS, (sd_bus * bus, sd_bus_message *message, uint64_t timeout, sd_bus_error *reason, sd_bus_message **answer),
     (bus, message, timeout, reason, answer))
CALL(int, sd_bus_get_property_string, -ENOMEM, ENOMEM,
     (sd_bus * bus, const char *service, const char *path, const char *interface, const char *member, sd_bus_error *reason, char **value),
     (bus, service, path, interface, member, reason, value))
CALL(int, sd_bus_match_signal, -ENOMEM, ENOMEM,
     (sd_bus * bus, sd_bus_slot **slot, const char *sender, const char *path, const char *interface, const char *member, sd_bus_message_handler_t handler, void *context),
     (bus, slot, sender, path, interface, member, handler, context))
CALL(int, sd_bus_process, -ENOMEM, ENOMEM, (sd_bus * bus, sd_bus_message **message), (bus, message))
CALL(int, sd_bus_wait, -ENOMEM, ENOMEM, (sd_bus * bus, uint64_t timeout), (bus, timeout))
int fault_call_sd_bus_message_append(sd_bus_message *message, const char *types, ...);
int fault_call_sd_bus_message_append(sd_bus_message *message, const char *types, ...) {
  va_list arguments;
  if (HITS("sd_bus_message_append")) return -ENOMEM;
  va_start(arguments, types);
  const int result = sd_bus_message_appendv(message, types, arguments);
  va_end(arguments);
  return result;
}
int fault_call_sd_bus_call_method(sd_bus *bus, const char *service, const char *path, const char *interface, const char *member, sd_bus_error *reason, sd_bus_message **answer,
                                  const char *types, ...);
int fault_call_sd_bus_call_method(sd_bus *bus, const char *service, const char *path, const char *interface, const char *member, sd_bus_error *reason, sd_bus_message **answer,
                                  const char *types, ...) {
  va_list arguments;
  if (HITS("sd_bus_call_method")) return -ENOBUFS;
  va_start(arguments, types);
  const int result = sd_bus_call_methodv(bus, service, path, interface, member, reason, answer, types, arguments);
  va_end(arguments);
  return result;
}

/* OpenSSL. */
EVP_PKEY *fault_call_EVP_PKEY_Q_keygen(OSSL_LIB_CTX *library, const char *query, const char *type, ...);
EVP_PKEY *fault_call_EVP_PKEY_Q_keygen(OSSL_LIB_CTX *library, const char *query, const char *type, ...) {
  va_list arguments;
  va_start(arguments, type);
  const size_t bits = strcmp(type, "RSA") == 0 ? va_arg(arguments, size_t) : 0;
  va_end(arguments);
  return HITS("EVP_PKEY_Q_keygen") ? NULL : EVP_PKEY_Q_keygen(library, query, type, bits);
}
CALL(EVP_MD_CTX *, EVP_MD_CTX_new, NULL, ENOMEM, (void), ())
CALL(int, EVP_Digest, 0, ENOMEM, (const void *data, size_t size, unsigned char *digest, unsigned *digest_size, const EVP_MD *type, ENGINE *engine),
     (data, size, digest, digest_size, type, engine))
CALL(int, EVP_DigestInit_ex, 0, ENOMEM, (EVP_MD_CTX * context, const EVP_MD *type, ENGINE *engine), (context, type, engine))
CALL(int, EVP_DigestUpdate, 0, ENOMEM, (EVP_MD_CTX * context, const void *data, size_t size), (context, data, size))
CALL(int, EVP_DigestFinal_ex, 0, ENOMEM, (EVP_MD_CTX * context, unsigned char *digest, unsigned *size), (context, digest, size))
CALL(int, EVP_DigestVerifyInit, 0, ENOMEM, (EVP_MD_CTX * context, EVP_PKEY_CTX **key_context, const EVP_MD *type, ENGINE *engine, EVP_PKEY *key),
     (context, key_context, type, engine, key))
CALL(EVP_MAC *, EVP_MAC_fetch, NULL, ENOMEM, (OSSL_LIB_CTX * library, const char *algorithm, const char *properties), (library, algorithm, properties))
CALL(EVP_MAC_CTX *, EVP_MAC_CTX_new, NULL, ENOMEM, (EVP_MAC * mac), (mac))
CALL(int, EVP_MAC_init, 0, ENOMEM, (EVP_MAC_CTX * context, const unsigned char *key, size_t size, const OSSL_PARAM *parameters), (context, key, size, parameters))
CALL(int, EVP_MAC_update, 0, ENOMEM, (EVP_MAC_CTX * context, const unsigned char *data, size_t size), (context, data, size))
CALL(int, EVP_MAC_final, 0, ENOMEM, (EVP_MAC_CTX * context, unsigned char *mac, size_t *size, size_t room), (context, mac, size, room))
CALL(EVP_PKEY_CTX *, EVP_PKEY_CTX_new, NULL, ENOMEM, (EVP_PKEY * key, ENGINE *engine), (key, engine))
CALL(int, EVP_PKEY_get_raw_public_key, 0, ENOMEM, (const EVP_PKEY *key, unsigned char *octets, size_t *size), (key, octets, size))
CALL(EVP_PKEY *, EVP_PKEY_new_raw_public_key, NULL, ENOMEM, (int type, ENGINE *engine, const unsigned char *octets, size_t size), (type, engine, octets, size))
CALL(int, i2d_PUBKEY, -1, ENOMEM, (const EVP_PKEY *key, unsigned char **octets), (key, octets))
CALL(EVP_PKEY *, d2i_PUBKEY, NULL, ENOMEM, (EVP_PKEY * *key, const unsigned char **octets, long size), (key, octets, size))
CALL(EVP_PKEY *, PEM_read_bio_PrivateKey, NULL, ENOMEM, (BIO * in, EVP_PKEY **key, pem_password_cb *callback, void *context), (in, key, callback, context))
CALL(int, EVP_PKEY_verify_recover_init, 0, ENOMEM, (EVP_PKEY_CTX * context), (context))
CALL(BIO *, BIO_new, NULL, ENOMEM, (const BIO_METHOD *method), (method))
CALL(BIO *, BIO_new_mem_buf, NULL, ENOMEM, (const void *data, int size), (data, size))
CALL(int, PEM_write_bio_PKCS8PrivateKey, 0, ENOMEM,
     (BIO * out, const EVP_PKEY *key, const EVP_CIPHER *cipher, const char *passphrase, int size, pem_password_cb *callback, void *context),
     (out, key, cipher, passphrase, size, callback, context))

/* libyaml, ldns, libsmartcols. */
CALL(int, yaml_parser_initialize, 0, ENOMEM, (yaml_parser_t * parser), (parser))
int fault_call_yaml_parser_parse(yaml_parser_t *parser, yaml_event_t *event);
int fault_call_yaml_parser_parse(yaml_parser_t *parser, yaml_event_t *event) {
  if (!HITS("yaml_parser_parse")) return yaml_parser_parse(parser, event);
  memset(event, 0, sizeof *event);
  parser->error = YAML_MEMORY_ERROR;
  return 0;
}
CALL(ldns_buffer *, ldns_buffer_new, NULL, ENOMEM, (size_t size), (size))
CALL(ldns_status, ldns_wire2rr, LDNS_STATUS_MEM_ERR, ENOMEM, (ldns_rr * *record, const uint8_t *octets, size_t size, size_t *position, ldns_pkt_section section),
     (record, octets, size, position, section))
CALL(ldns_status, ldns_wire2dname, LDNS_STATUS_MEM_ERR, ENOMEM, (ldns_rdf * *name, const uint8_t *octets, size_t size, size_t *position),
     (name, octets, size, position))
CALL(ldns_status, ldns_rr_rdata2buffer_wire, LDNS_STATUS_MEM_ERR, ENOMEM, (ldns_buffer * buffer, const ldns_rr *record), (buffer, record))
CALL(ldns_status, ldns_str2rdf_dname, LDNS_STATUS_MEM_ERR, ENOMEM, (ldns_rdf * *name, const char *text), (name, text))
CALL(char *, ldns_rdf2str, NULL, ENOMEM, (const ldns_rdf *data), (data))
CALL(struct libscols_table *, scols_new_table, NULL, ENOMEM, (void), ())
CALL(struct libscols_column *, scols_table_new_column, NULL, ENOMEM, (struct libscols_table * table, const char *name, double width, int flags),
     (table, name, width, flags))
CALL(struct libscols_line *, scols_table_new_line, NULL, ENOMEM, (struct libscols_table * table, struct libscols_line *parent), (table, parent))
CALL(int, scols_line_set_data, -ENOMEM, ENOMEM, (struct libscols_line * line, size_t column, const char *data), (line, column, data))
CALL(int, scols_print_table, -ENOMEM, ENOMEM, (struct libscols_table * table), (table))
