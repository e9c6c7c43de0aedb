#include "dkimroll/wake.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dkimroll/cleanup.h"
#include "dkimroll/clock.h"
#include "dkimroll/file.h"
#include "dkimroll/text.h"

static const char *const words[] = {[WAKE_TURN] = "dkimroll turn 1", [WAKE_RELOAD] = "dkimroll reload 1"};

char *wake_path(const char *state) { return text_format("%s.wake", state); }

/* A path that does not fit into an address is reached by its directory. The caller closes *directory after the use of the address. */
static int make_address(const char *state, struct sockaddr_un *address, int *directory, struct error *error) {
  CLEANUP_FREE char *path = wake_path(state);
  *address = (struct sockaddr_un){.sun_family = AF_UNIX};
  if (!path) return error_set(error, ERROR_NO_MEMORY, "out of memory for a path");
  if (text_copy(address->sun_path, sizeof address->sun_path, path)) return 0;
  char *slash = strrchr(path, '/');
  if (!slash) return error_set(error, ERROR_LIMIT, "the path %s is too long for a socket", path);
  *slash = '\0';
  *directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (*directory < 0) return error_set_errno(error, errno, "%s: cannot open", path);
  const int length = snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s", *directory, slash + 1);
  if (length > 0 && (size_t)length < sizeof address->sun_path) return 0;
  return error_set(error, ERROR_LIMIT, "the name %s is too long for a socket", slash + 1);
}

int wake_listen(const char *state, int *ret_descriptor, struct error *error) {
  struct sockaddr_un address;
  CLEANUP_CLOSE int directory = -1;
  int result = make_address(state, &address, &directory, error);
  if (result) return result;
  CLEANUP_CLOSE int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) return error_set_errno(error, errno, "cannot make a socket for requests");
  /* The lease is ours, so whose it was is gone. */
  if (unlink(address.sun_path) < 0 && errno != ENOENT) return error_set_errno(error, errno, "cannot remove the old socket %s.wake", state);
  const mode_t mask = umask(S_IXUSR | S_IRWXG | S_IRWXO);
  const int bound = bind(descriptor, (const struct sockaddr *)&address, sizeof address);
  const int failure = errno;
  umask(mask);
  if (bound < 0) return error_set_errno(error, failure, "cannot make the socket %s.wake", state);
  *ret_descriptor = TAKE_FD(descriptor);
  return 0;
}

bool wake_receive(int descriptor, enum wake_word *ret_word, struct wake_asker *ret_asker) {
  char text[WAKE_WORD_MAX + 1];
  *ret_word = WAKE_NONE;
  *ret_asker = (struct wake_asker){.size = sizeof ret_asker->address};
  const ssize_t size = recvfrom(descriptor, text, sizeof text, MSG_DONTWAIT | MSG_TRUNC, (struct sockaddr *)&ret_asker->address, &ret_asker->size);
  if (size < 0) return false;
  for (size_t i = WAKE_TURN; i < ARRAY_SIZE(words); i++)
    if ((size_t)size == strlen(words[i]) && memcmp(text, words[i], (size_t)size) == 0) *ret_word = (enum wake_word)i;
  /* Answers go to addresses that the kernel gave, which are no paths. */
  if (ret_asker->size <= offsetof(struct sockaddr_un, sun_path) || ret_asker->size > sizeof ret_asker->address || ret_asker->address.sun_path[0])
    ret_asker->size = 0;
  return true;
}

void wake_answer(int descriptor, const struct wake_asker *asker, int status, const char *text) {
  char head[16];
  if (asker->size == 0) return;
  const int length = snprintf(head, sizeof head, "%d\n", status);
  struct iovec parts[] = {{.iov_base = head, .iov_len = (size_t)length}, {.iov_base = (char *)text, .iov_len = strnlen(text, WAKE_ANSWER_MAX)}};
  struct sockaddr_un address = asker->address;
  const struct msghdr message = {.msg_name = &address, .msg_namelen = asker->size, .msg_iov = parts, .msg_iovlen = ARRAY_SIZE(parts)};
  if (sendmsg(descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) errno = 0;
}

/* A socket that is connected to the daemon's; -1: nobody listens, or only others may. */
static int connect_to(const char *state) {
  struct sockaddr_un address;
  CLEANUP_CLOSE int directory = -1;
  if (make_address(state, &address, &directory, NULL)) return -1;
  CLEANUP_CLOSE int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0 || connect(descriptor, (const struct sockaddr *)&address, sizeof address) < 0) return -1;
  return TAKE_FD(descriptor);
}

bool wake_is_heard(const char *state) {
  CLEANUP_CLOSE int descriptor = connect_to(state);
  return descriptor >= 0;
}

bool wake_send(const char *state) {
  const char *text = words[WAKE_TURN];
  CLEANUP_CLOSE int descriptor = connect_to(state);
  /* A queue that is full wakes anyway. */
  return descriptor >= 0 && (send(descriptor, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno == EAGAIN || errno == EWOULDBLOCK);
}

/* ---- asking for a reload ---- */

/* Only root, this user and the store's owner are believed: an abstract address can be written to by everybody. */
static bool is_from_daemon(struct msghdr *message, uid_t owner) {
  for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
    struct ucred sender;
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_CREDENTIALS) continue;
    memcpy(&sender, CMSG_DATA(part), sizeof sender);
    return sender.uid == 0 || sender.uid == geteuid() || sender.uid == owner;
  }
  return false;
}

/* What an answer says, in text of WAKE_ANSWER_MAX + 32 octets, behind its status; NULL: something else came. Nothing of it can be lost for want of memory, since it comes
 * once. */
static const char *take_answer(int descriptor, uid_t owner, char *text, int *ret_status) {
  union {
    char octets[CMSG_SPACE(sizeof(struct ucred))];
    struct cmsghdr align;
  } control;
  struct iovec part = {.iov_base = text, .iov_len = WAKE_ANSWER_MAX + 31};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  const ssize_t size = recvmsg(descriptor, &message, MSG_DONTWAIT);
  if (size <= 0 || !is_from_daemon(&message, owner)) return NULL;
  text[size] = '\0';
  char *rest = strchr(text, '\n');
  long long status = 0;
  if (!rest) return NULL;
  *rest++ = '\0';
  if (!text_parse_number(text, 0, 255, &status)) return NULL;
  *ret_status = (int)status;
  return rest;
}

static int no_daemon(const char *state, struct error *error) {
  error_set(error, ERROR_NOT_FOUND, "no daemon is at work on %s", state);
  error_remedy(error, "`systemctl start dkimroll` starts it; a run of the timer reads a policy that was changed by itself");
  return ERROR_NOT_FOUND;
}

/* Again, while a socket is there that nobody listens to. false: errno says why. */
static bool ask(int descriptor, const char *text, const struct sockaddr_un *address) {
  const int64_t until = clock_boottime() + WAKE_GAP_MS;
  while (sendto(descriptor, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)address, sizeof *address) < 0) {
    if (errno != ECONNREFUSED || clock_boottime() >= until) return false;
    poll(NULL, 0, WAKE_GAP_EVERY_MS);
  }
  return true;
}

/* Not connected: answers come from other sockets too, those of the next policy. The kernel chooses the address that they go to. */
static int open_asking(const char *state, int *ret_descriptor, uid_t *ret_owner, struct error *error) {
  static const int on = 1;
  static const struct sockaddr_un any = {.sun_family = AF_UNIX};
  struct stat status;
  struct sockaddr_un address;
  CLEANUP_CLOSE int directory = -1;
  const char *text = words[WAKE_RELOAD];
  int result = make_address(state, &address, &directory, error);
  if (result == ERROR_NOT_FOUND) return no_daemon(state, error);
  if (result) return result;
  CLEANUP_CLOSE int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0 || setsockopt(descriptor, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0 ||
      bind(descriptor, (const struct sockaddr *)&any, sizeof any.sun_family) < 0)
    return error_set_errno(error, errno, "cannot make a socket for the answer");
  *ret_owner = stat(address.sun_path, &status) == 0 ? status.st_uid : 0;
  if (!ask(descriptor, text, &address))
    return errno == ENOENT || errno == ECONNREFUSED ? no_daemon(state, error) : error_set_errno(error, errno, "cannot ask the daemon at %s.wake", state);
  *ret_descriptor = TAKE_FD(descriptor);
  return 0;
}

int wake_reload(const char *state, int *ret_status, char **ret_text, struct error *error) {
  CLEANUP_CLOSE int descriptor = -1;
  CLEANUP_FREE char *text = malloc(WAKE_ANSWER_MAX + 32);
  uid_t owner = 0;
  if (!text) return error_set(error, ERROR_NO_MEMORY, "out of memory for what the daemon answers");
  int result = open_asking(state, &descriptor, &owner, error);
  if (result) return result;
  const int64_t until = clock_boottime() + WAKE_RELOAD_SECONDS * INT64_C(1000);
  for (int64_t left; (left = until - clock_boottime()) > 0;) {
    struct pollfd polled = {.fd = descriptor, .events = POLLIN};
    const char *answer = poll(&polled, 1, (int)left) > 0 ? take_answer(descriptor, owner, text, ret_status) : NULL;
    if (!answer) continue;
    memmove(text, answer, strlen(answer) + 1);
    *ret_text = TAKE_PTR(text);
    return 0;
  }
  error_set(error, ERROR_TIMEOUT, "the daemon did not say within %d s what came of the reload", WAKE_RELOAD_SECONDS);
  error_remedy(error, "its log tells: journalctl -u dkimroll");
  return ERROR_TIMEOUT;
}

bool wake_read_holder(const char *state, char *buffer, size_t size) {
  enum { HOLDER_MAX = 512 };
  CLEANUP_FREE char *path = text_format("%s.lock", state);
  CLEANUP_FREE char *text = NULL;
  size_t length = 0;
  if (!path || file_read(path, HOLDER_MAX, &text, &length, NULL, NULL)) return false;
  length = strcspn(text, "\n");
  if (length == 0) return false;
  text_printable(text, length, buffer, size);
  return true;
}
