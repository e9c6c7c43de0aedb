#!/bin/sh
# A publisher's command for dkimroll (dkimroll-policy(5), PUBLISHER COMMANDS), by nsupdate(1). For zones that take updates, `type: rfc2136` is the better way, with prerequisites; this is a whole
# and tested model for tools of DNS providers.
#
#   publishers:
#     provider: {type: command, command: [/usr/local/lib/dkimroll/publisher-nsupdate.sh, KEY-FILE, SERVER, PORT]}
set -eu
key=$1 server=$2 port=${3:-53}

# All of it goes in one message, so that no moment is without a record. Each line does nothing where it is so already.
commands() {
  echo "server $server $port"
  echo "zone $DKIMROLL_ZONE."
  case $DKIMROLL_ACTION in
    add) ;;
    replace) echo "update delete $DKIMROLL_NAME. TXT $DKIMROLL_OLD_RDATA" ;;
    delete)
      echo "update delete $DKIMROLL_NAME. TXT $DKIMROLL_RDATA"
      [ -z "${DKIMROLL_OLD_RDATA:-}" ] || echo "update delete $DKIMROLL_NAME. TXT $DKIMROLL_OLD_RDATA" ;;
    *) echo "action $DKIMROLL_ACTION is not known" >&2; exit 64 ;;
  esac
  [ "$DKIMROLL_ACTION" = delete ] || echo "update add $DKIMROLL_NAME. $DKIMROLL_TTL TXT $DKIMROLL_RDATA"
  echo send
}

# What nsupdate says on stderr is the reason that `dkimroll status` shows. 2: the server refused; 1: it could not be reached, which is worth another try.
commands | nsupdate -t 20 -k "$key" || { status=$?; [ "$status" = 1 ] && exit 75; exit "$status"; }
