#include "dkimroll/keeper_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/text.h"

int keeper_socket_connect(const char *path, int *ret_descriptor, struct error *error) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (!text_copy(address.sun_path, sizeof(address.sun_path), path))
    return error_set(error, ERROR_LIMIT, "the path %s is too long for a socket", path);
  CLEANUP_CLOSE int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return error_set_errno(error, errno, "cannot make a socket for the keeper");
  /* Blocking, but only until there is room in the queue of a service manager. */
  int connected = -1;
  while ((connected = connect(descriptor, (const struct sockaddr *)&address, sizeof(address))) < 0 && errno == EINTR) continue;
  if (connected == 0) {
    *ret_descriptor = TAKE_FD(descriptor);
    return 0;
  }
  const int failure = errno;
  const int result = error_set_errno(error, failure, "cannot reach the keeper at %s", path);
  if (failure == EACCES)
    error_remedy(error, "only root and the user dkimroll may: use sudo");
  else
    error_remedy(error, "systemctl enable --now dkimroll-keeper.socket");
  return result;
}

int keeper_socket_take(int *ret_descriptor, struct error *error) {
  const int count = sd_listen_fds(1);
  if (count == 1 && sd_is_socket_unix(SD_LISTEN_FDS_START, SOCK_STREAM, 0, NULL, 0) > 0) {
    const int flags = fcntl(SD_LISTEN_FDS_START, F_GETFL);
    if (flags < 0 || fcntl(SD_LISTEN_FDS_START, F_SETFL, flags | O_NONBLOCK) < 0)
      return error_set_errno(error, errno, "cannot set up the connection of the keeper");
    *ret_descriptor = SD_LISTEN_FDS_START;
    return 0;
  }
  if (count <= 0)
    error_set(error, ERROR_INVALID, "the keeper was given no connection");
  else
    error_set(error, ERROR_INVALID, "the keeper was given %d descriptors, or something else than one connection", count);
  error_remedy(error, "it is started by dkimroll-keeper.socket, which has Accept=yes, and not by hand");
  return ERROR_INVALID;
}

int keeper_socket_check_peer(int descriptor, const char *user, struct error *error) {
  struct ucred peer = {.pid = 0};
  socklen_t size = sizeof(peer);
  if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
    return error_set_errno(error, errno, "cannot find out who is connected to the keeper");
  const struct passwd *account = user ? getpwnam(user) : NULL;
  if (peer.uid == 0 || peer.uid == geteuid() || (account && peer.uid == account->pw_uid)) return 0;
  error_set(error, ERROR_PERMISSION, "process %d of user %u is connected to the keeper, which only root and %s may be", (int)peer.pid,
            (unsigned)peer.uid, account ? user : "its own user");
  error_remedy(error, "see SocketUser=, SocketGroup= and SocketMode= of dkimroll-keeper.socket");
  return ERROR_PERMISSION;
}
