/* Giving up rights for good: what root starts goes on as an ordinary user. */
#ifndef DKIMROLL_PRIVILEGE_H
#define DKIMROLL_PRIVILEGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "dkimroll/error.h"

/* The user that systemd/dkimroll.sysusers makes: owner of the state, and beside root the only one who may ask the keeper. */
#define PRIVILEGE_USER "dkimroll"

/* Becomes user (not root) with group and the groups that the host's database gives him, without any capability, and such that no program that is
 * started can gain any (PR_SET_NO_NEW_PRIVS), nor type into the terminal of who started us, if the kernel takes the filter for that. It cannot be undone. ERROR_INVALID: user is root; ERROR_PERMISSION: the process may not
 * change its user, and is as it was or has lost a part of its rights, so the caller must end. */
int privilege_drop(uid_t user, gid_t group, struct error *error) ERROR_USE_RESULT;

/* The effective capabilities, as a set of bits (capabilities(7)); all bits if they cannot be read. */
uint64_t privilege_capabilities(void);

/* Where does PRIVILEGE_USER stand in the host's database? false: there is no such user. */
bool privilege_find_user(uid_t *ret_user, gid_t *ret_group);

#endif
