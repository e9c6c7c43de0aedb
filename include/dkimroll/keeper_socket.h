/* The keeper as a service of its own: the loop side reaches it by a Unix socket, and systemd starts it for each connection (dkimroll-keeper.socket). */
#ifndef DKIMROLL_KEEPER_SOCKET_H
#define DKIMROLL_KEEPER_SOCKET_H

#include "dkimroll/error.h"

#define KEEPER_SOCKET_DEFAULT "/run/dkimroll/keeper.sock"

/* Loop side: connects to path; the descriptor is for keeper_connect with pid 0. ERROR_NOT_FOUND, ERROR_UNREACHABLE (nobody listens), ERROR_PERMISSION,
 * ERROR_LIMIT (the path is too long for a socket). */
int keeper_socket_connect(const char *path, int *ret_descriptor, struct error *error) ERROR_USE_RESULT;

/* Keeper side: the accepted connection that systemd handed over (sd_listen_fds(3), Accept=yes), not blocking. ERROR_INVALID: none, more than one,
 * or something else than a connected stream socket of AF_UNIX. */
int keeper_socket_take(int *ret_descriptor, struct error *error) ERROR_USE_RESULT;

/* Who is at the other end (SO_PEERCRED of unix(7), which the kernel filled in when it connected): root, the user of this process, or user
 * (a name of the host; NULL or unknown: nobody). ERROR_PERMISSION: somebody else. */
int keeper_socket_check_peer(int descriptor, const char *user, struct error *error) ERROR_USE_RESULT;

#endif
