#!/usr/bin/env bash
# The commands as a person meets them: progress on a terminal and plain lines elsewhere, --no-wait, the budget of a run, hold and release, and each exit status of the
# manual for the reason that is told there.
. "$(dirname "$0")/world.sh"
scenario commands

# on_terminal COMMAND...: the same with a terminal of its own.
on_terminal() {
  "$python" - "$@" <<'PY'
import os, pty, sys
os.environ["TERM"] = "xterm"
os.environ.pop("NO_COLOR", None)
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:], lambda terminal: os.read(terminal, 4096))))
PY
}
escape=$'\033'
said() { "$@" >"$world/run.log" 2>&1; }

echo "- a run without a budget does what is due, and waits for nothing"
begin=$SECONDS
expect runs 0s
((SECONDS - begin < 20)) || fail "it waited"
expect_log 'generated -> published'
expect_not grep -q 'ready -> active' "$world/run.log"
echo "- a budget is enough for the sightings"
expect runs 10s
expect_log 'ready -> active'
first=$(signing_selector)

echo "- rotate on a terminal: one line that is written over says what is waited for"
said on_terminal "$DKIMROLL" rotate "$zone" -p "$world/policy.yaml" --budget 8s || fail "rotate on a terminal"
grep -q $'\r'"$escape\[K" "$world/run.log" || fail "no line is written over"
grep -q "\.\.\. $zone server-.*: ready at " "$world/run.log" || fail "the line does not say what is waited for"
expect_log 'ready -> active'
second=$(signing_selector)
[[ $first != "$second" ]] || fail "the selector did not change"
echo "- and plain lines elsewhere"
said dkimroll rotate "$zone" --budget 8s || fail rotate
expect_not grep -q "$escape\|^\.\.\." "$world/run.log"
expect_log "^....-..-.. ..:..:.. UTC  $zone server-[0-9]+-3: ready -> active"
expect_log "^What is left happens by itself at its time: .dkimroll run. does it"

echo "- status has colours on a terminal, and none elsewhere or with NO_COLOR"
said on_terminal "$DKIMROLL" status -p "$world/policy.yaml" || fail "status"
grep -q "$escape\[" "$world/run.log" || fail "no colours on a terminal"
said dkimroll status || fail status
expect_not grep -q "$escape" "$world/run.log"
said on_terminal env NO_COLOR=1 "$DKIMROLL" status -p "$world/policy.yaml" || fail "status"
expect_not grep -q "$escape\[[0-9;]*m" "$world/run.log"

echo "- --no-wait: the record is published, and the rest is for the timer"
begin=$SECONDS
said dkimroll rotate "$zone" --no-wait || fail "rotate --no-wait"
((SECONDS - begin < 20)) || fail "it waited"
expect_log 'server-[0-9]+-4: generated -> published'
expect_log 'server-[0-9]+-4 is published; next: '
expect_log 'dkimroll-run.timer'

echo "- hold: nothing new, until release"
said dkimroll hold "$zone" --reason "frozen" || fail hold
expect runs 4s
expect_not grep -q 'ready -> active' "$world/run.log"
said dkimroll status "$zone"
expect_log 'held: frozen'
said dkimroll release "$zone" || fail release
expect runs 8s
expect_log 'server-[0-9]+-4 ready -> active'
said dkimroll history "$zone" || fail history
expect_log 'held \(.*frozen'
expect_log 'released'

echo "- exit status"
expect_status 64 said dkimroll rotat "$zone"
expect_status 64 said dkimroll rotate
expect_status 64 said dkimroll run --budget soon
expect_log 'duration'
expect_status 65 said dkimroll plan --until 2001-01-01
expect_status 66 said dkimroll rotate nobody.test
expect_status 66 said "$DKIMROLL" run -p "$world/none.yaml"
expect_status 66 said dkimroll forget nobody.test
said dkimroll hold "$zone"
expect_status 69 said dkimroll rotate "$zone"
said dkimroll release "$zone"
"$DKIMROLL" status -p "$world/policy.yaml" >/dev/full 2>"$world/run.log"
[[ $? == 74 ]] || fail "status to a full device"
chmod 644 "$tsig_file"
expect_status 77 said dkimroll check
expect_log 'chmod'
chmod 600 "$tsig_file"
sed 's/rotate-every: 1h/rotate-every: 1s/' "$world/policy.yaml" >"$world/short.yaml"
expect_status 78 said "$DKIMROLL" run -p "$world/short.yaml"
expect_log 'short.yaml:[0-9]+:[0-9]+: .*a life of 1s is too short'
echo garbage >"$world/tsig.bad"
chmod 600 "$world/tsig.bad"
sed "s|tsig-file: .*|tsig-file: $world/tsig.bad|" "$world/policy.yaml" >"$world/badkey.yaml"
expect_status 65 said "$DKIMROLL" check -p "$world/badkey.yaml"
exit 0
