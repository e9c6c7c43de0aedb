#!/usr/bin/env bash
# docs/cookbook.md, 9: the database is lost, is made again, and a copy of it that is older than the last rotation does no harm. All of it is run; the timer is played.
. "$(dirname "$0")/cookbook.sh"
cookbook_world lost
# The first key is still there when the database is lost.
COOKBOOK_RULES=${COOKBOOK_RULES/queue-lifetime: 1s/queue-lifetime: 1m}
COOKBOOK_RULES=${COOKBOOK_RULES/rotate-every: 1h/rotate-every: 90d}
bind_world
servers="\"$primary\""
policy_of bind-policy
statuses() { dkimroll status >"$world/run.log" 2>&1; }
complains() { runs 1s; ! statuses; }

echo "- 9. a backup while a run is at work"
expect runs 5s
BUDGET=3s dkimroll run >"$world/beside.log" 2>&1 &
expect recipe lost-backup
shows lost-backup
wait $!
dkimroll rotate example.com >"$world/run.log" 2>&1 || fail rotate
second=$(signed_by anna@example.com "$primary")

echo "  a copy that is too old: mail is signed, dkimroll complains and touches nothing"
cp "$host/opendkim/SigningTable" "$world/SigningTable"
cp "$host/state/state.db" "$world/newest.db"
rm -f "$host/state"/state.db*
cp "$host/backups/dkimroll/state.db" "$host/state/state.db"
deadline 40 complains
shows lost-old
cmp "$world/SigningTable" "$host/opendkim/SigningTable" || fail "a table was touched"
[[ $(signed_by anna@example.com "$primary") == "$second" ]] || fail "another key signs"
expect recipe lost-move
expect_log '2 keys found: 1 active, 1 retired'
[[ $(signed_by anna@example.com "$primary") == "$second" ]] || fail "another key signs"

echo "  it is lost"
rm -r "$host/state"
expect recipe lost-import
shows lost-import
expect recipe lost-apply
shows lost-apply
statuses || fail "status finds fault"
[[ $(signed_by anna@example.com "$primary") == "$second" ]] || fail "another key signs"
exit 0
