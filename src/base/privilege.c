#include "dkimroll/privilege.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dkimroll/call_filter.h"

enum { PRIVILEGE_SETS = 2 }; /* version 3 of capset(2) takes 64 capabilities in two halves */

bool privilege_find_user(uid_t *ret_user, gid_t *ret_group) {
  const struct passwd *account = getpwnam(PRIVILEGE_USER);
  if (!account) return false;
  *ret_user = account->pw_uid;
  *ret_group = account->pw_gid;
  return true;
}

uint64_t privilege_capabilities(void) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct sets[PRIVILEGE_SETS] = {{0}};
  if (syscall(SYS_capget, &header, sets) < 0) return UINT64_MAX;
  return (uint64_t)sets[1].effective << 32 | sets[0].effective;
}

/* The groups of the user, or none but his own if the host does not know him. */
static int privilege_set_groups(uid_t user, gid_t group) {
  const struct passwd *account = getpwuid(user);
  return account ? initgroups(account->pw_name, group) : setgroups(1, &group);
}

/* What the change of the user leaves: the inheritable set, and the bound of what programs may gain, which PR_SET_NO_NEW_PRIVS makes
 * meaningless for a process that is not allowed to lower it. */
static int privilege_clear_capabilities(void) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  const struct __user_cap_data_struct none[PRIVILEGE_SETS] = {{0}};
  return (int)syscall(SYS_capset, &header, none);
}

static void privilege_lower_bound(void) {
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++) prctl(PR_CAPBSET_DROP, capability);
}

int privilege_drop(uid_t user, gid_t group, struct error *error) {
  if (user == 0) return error_set(error, ERROR_INVALID, "root is no user to drop rights to");
  privilege_lower_bound();
  if (privilege_set_groups(user, group) < 0 || setresgid(group, group, group) < 0 || setresuid(user, user, user) < 0 ||
      privilege_clear_capabilities() < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
    error_set_errno(error, errno, "cannot go on as user %u of group %u", (unsigned)user, (unsigned)group);
    error_remedy(error, "start dkimroll as root with its usual rights, or as the owner of its state directory");
    return ERROR_PERMISSION;
  }
  /* Root's terminal stays ours. Where the kernel takes no filter the rest stands all the same, and a run is not to end for that. */
  struct error unfiltered = {0};
  (void)!call_filter_shut_terminal(&unfiltered);
  /* Trusting the calls above would be trusting that no rule of this kernel or container undoes them. */
  if (setresuid(0, 0, 0) == 0 || geteuid() != user || getegid() != group || privilege_capabilities() != 0)
    return error_set(error, ERROR_PERMISSION, "rights that were given up came back, or were never gone");
  return 0;
}
