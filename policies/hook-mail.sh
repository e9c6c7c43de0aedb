#!/bin/sh
# A hook of dkimroll(8) that mails what needs a person:
#   hooks: {needs-person: [/usr/local/lib/dkimroll/hook-mail.sh, postmaster@example.com]}
# The last argument and the environment tell what happened, stdin has it in words. Whatever happens here, keys go on.
#
# Copy it to a place of your own and make it executable. With Postfix, sendmail hands mail to postdrop, which gets its rights by being set-group-id; dkimroll's units forbid that.
# dkimroll(8), HOOKS, says what to give them instead.
set -u
to=$1
# The second argument may name another sendmail.
sendmail=/usr/sbin/sendmail
[ $# -ne 3 ] || sendmail=$2

case ${DKIMROLL_EVENT:-} in
begins) subject="needs you: ${DKIMROLL_DOMAIN:-dkimroll}" ;;
lasts) subject="still needs you: ${DKIMROLL_DOMAIN:-dkimroll}" ;;
over) subject="is well again: ${DKIMROLL_DOMAIN:-dkimroll}" ;;
transition) subject="${DKIMROLL_DOMAIN:-?} ${DKIMROLL_SELECTOR:-?} is ${DKIMROLL_TO:-?}" ;;
*) subject="${DKIMROLL_EVENT:-something happened}" ;;
esac
[ "${DKIMROLL_OTHERS:-0}" = 0 ] || subject="$subject and $DKIMROLL_OTHERS more"

{
  echo "To: $to"
  echo "Subject: [dkimroll] $subject"
  echo "Auto-Submitted: auto-generated"
  echo "Content-Type: text/plain; charset=UTF-8"
  echo
  cat
} | "$sendmail" -i -- "$to"
