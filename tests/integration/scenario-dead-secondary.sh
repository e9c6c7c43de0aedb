#!/usr/bin/env bash
# One dead secondary holds the key back, and status says which server; when it is back, the key goes on by itself.
. "$(dirname "$0")/world.sh"
scenario dead-secondary
kill -STOP "$knotd_pid"
runs 12s
expect_not grep -q 'ready -> active' "$world/run.log"
expect test ! -s "$world/opendkim/SigningTable"
dkimroll status >"$world/status" 2>&1
grep -q "$secondary" "$world/status" || { cat "$world/status"; kill -CONT "$knotd_pid"; fail "status does not name the server that is missing"; }
head -n 1 "$world/status" | grep -q '^Under way\|^NOT all right' || fail "the first line of status answers nothing"
kill -CONT "$knotd_pid"
expect runs 25s
signing_selector
