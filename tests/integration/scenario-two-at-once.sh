#!/usr/bin/env bash
# A second dkimroll on the same store says who holds it; a request made meanwhile is carried out by the first.
. "$(dirname "$0")/world.sh"
scenario two-at-once
"$DKIMROLL" run -p "$world/policy.yaml" --budget 12s >"$world/first.log" 2>&1 &
first_pid=$!
deadline 10 grep -q 'reserved -> generated' "$world/first.log"
expect_status 75 runs 1s
expect_log "in use by dkimroll run, pid $first_pid"
dkimroll rotate "$zone" --budget 6s >"$world/run.log" 2>&1 || fail "rotate beside another"
expect_log "pid $first_pid"
expect_log 'ready -> active'
wait "$first_pid" || fail "the first one failed"
expect grep -q 'requested' "$world/first.log"

echo "- a run of the timer waits for a command that is at work, and fails for no such thing"
dkimroll rotate "$zone" --budget 3s >"$world/first.log" 2>&1 &
first_pid=$!
deadline 10 grep -q 'reserved -> generated' "$world/first.log"
expect runs 20s
wait "$first_pid" || fail "the rotation failed"
