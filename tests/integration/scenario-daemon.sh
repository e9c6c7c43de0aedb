#!/usr/bin/env bash
# The daemon beside its commands: what it tells the service manager, requests that wake it, policies that are taken over or refused, and every way to end it.
. "$(dirname "$0")/world.sh"
scenario daemon
# Its ticks are turns, too, and shall not be the ones that carry out requests.
export WATCHDOG_USEC=120000000
world_spawn "$world" "$python" "$here/notify.py" "$world/notify.sock" "$world/notify.log"
deadline 10 test -S "$world/notify.sock"
said() { "$@" >"$world/run.log" 2>&1; }
noted() { grep -qE -- "$1" "$world/notify.log"; }
count() { grep -cE -- "$1" "$world/$2" || :; }
more_than() { (($(count "$2" "$3") > $1)); } # NUMBER PATTERN LOG
start() {
  ready=$(count '^READY=1' notify.log)
  NOTIFY_SOCKET=$world/notify.sock "$DKIMROLL" daemon -p "$world/policy.yaml" >>"$world/daemon.log" 2>&1 &
  daemon_pid=$!
  world_pids+=("$daemon_pid")
  deadline 20 more_than "$ready" '^READY=1' notify.log || fail "the daemon is not ready"
}
gone() { # STATUS
  wait "$daemon_pid"
  local got=$?
  ((got == $1)) || fail "the daemon ended with $got instead of $1"
}
life_of() { pgrep -P "$daemon_pid" | head -n 1; }

echo "- it says when it is ready, and what comes next"
start
deadline 20 noted "^STATUS=next: $zone at ....-..-.. ..:..:.. UTC"
deadline 30 grep -q 'ready -> active' "$world/daemon.log"
first=$(signing_selector)
expect_log() { grep -qE -- "$1" "$world/run.log" || fail "the output does not say: $1"; }
said dkimroll status || fail "status"
expect_log "At work: dkimroll daemon, pid [0-9]+, since ....-..-.. ..:..:.. UTC"
dkimroll status --json | grep -q '"daemon": *"dkimroll daemon' || fail "status --json does not know it"
[[ $(stat -c %a "$world/state/state.db.wake") == 600 ]] || fail "others may wake it"

life=$(life_of)
descriptors() { ls "/proc/$life/fd" | wc -l; }
memory() { awk '/^RssAnon/ {print $2}' "/proc/$life/status"; }
young=$(descriptors)

echo "- check and prove beside it"
said dkimroll check || fail check
expect_log 'a daemon is at work'
said dkimroll prove || fail prove

echo "- a request wakes it while it rests: by itself it would look again after minutes"
at_rest() { (($(date -ud "$(sed -n 's/^STATUS=next: [^ ]* at \(.* UTC\).*/\1/p' "$world/notify.log" | tail -n 1 | cut -c 1-23)" +%s) > $(date +%s) + 60)); }
deadline 20 at_rest || fail "it does not come to rest"
said dkimroll hold "$zone" --reason "frozen" || fail hold
expect_log "^$zone: held"
said dkimroll status "$zone"
expect_log 'frozen'
expect_status 69 said dkimroll rotate "$zone"
expect_log "is held: frozen"
said dkimroll release "$zone" || fail release
expect_log "^$zone: released"

echo "- rotate beside it is as quick as alone"
said dkimroll rotate "$zone" --budget 6s || fail rotate
expect_log 'in use by dkimroll daemon, pid .*asked it to rotate'
expect_log 'rotation requested'
expect_log 'ready -> active'
expect_log 'the daemon does it'
second=$(signing_selector)
[[ $first != "$second" ]] || fail "the selector did not change"

echo "- a run beside it has nothing to do, a second daemon nor an import"
said dkimroll rotate "$zone" --no-wait || fail "rotate --no-wait"
deadline 10 runs 30s
expect_log 'The daemon does it: store .* is in use by dkimroll daemon'
expect_status 75 said dkimroll daemon
expect_log "in use by dkimroll daemon, pid"
expect_log 'one daemon is enough'
expect_status 75 said dkimroll import --apply
expect_log 'systemctl stop dkimroll'

echo "- rotations, checks and refusals leave no descriptor behind"
deadline 20 eval '(($(descriptors) <= young + 1))' || fail "it had $young descriptors, and has $(descriptors)"

echo "- a policy with a mistake is refused, and the old one stays"
cp "$world/policy.yaml" "$world/good.yaml"
life=$(life_of)
sed -i 's/tombstone: 2s/tombstone: soon/' "$world/policy.yaml"
said dkimroll status
expect_log 'The policy was changed since then'
expect_status 78 said dkimroll reload
expect_log "$world/policy.yaml:[0-9]+:[0-9]+: "
expect_log 'nothing was changed'
expect grep -q 'the policy is not taken over, the one before stays in force' "$world/daemon.log"
[[ $(life_of) == "$life" ]] || fail "the daemon did not go on as it was"
expect noted '^RELOADING=1 \| MONOTONIC_USEC=[0-9]+'

echo "- a good one is taken over, with keys in another place"
cp "$world/good.yaml" "$world/policy.yaml"
sed -i "s|key-directory: .*|key-directory: $world/opendkim/keys/new/%d|; s/^domains:/domains:\n  second.test: {policy: standard, publisher: primary, signers: [local]}/" "$world/policy.yaml"
said dkimroll reload || fail reload
expect_log 'policy compiled: 2 domains, 1 key added'
[[ $(life_of) != "$life" ]] || fail "the old life goes on"
said dkimroll rotate "$zone" --budget 6s || fail "rotate after the reload"
third=$(signing_selector)
[[ -e $world/opendkim/keys/new/$zone/$third.private ]] || fail "the new key is not where the new policy says"
echo "- two that ask at once are both answered"
dkimroll reload >"$world/other.log" 2>&1 &
other=$!
said dkimroll reload || fail reload
wait "$other" || fail "the other reload: $(cat "$world/other.log")"
settled() { (($(count '^RELOADING=1' notify.log) < $(count '^READY=1' notify.log))); }
deadline 20 settled
echo "- also by SIGHUP"
cp "$world/good.yaml" "$world/policy.yaml"
ready=$(count '^READY=1' notify.log)
kill -HUP "$daemon_pid"
deadline 20 more_than "$ready" '^READY=1' notify.log
deadline 20 settled
ready=$(count '^READY=1' notify.log)
kill -HUP "$(dkimroll status | sed -n 's/.*At work: dkimroll daemon, pid \([0-9]*\),.*/\1/p')"
deadline 20 more_than "$ready" '^READY=1' notify.log
deadline 20 settled
expect grep -q 'the policy was read again' "$world/daemon.log"
said dkimroll forget second.test || fail forget

echo "- a run that gets the lease between two lives is waited for, who waits says so, and the reload is answered when it is over"
"$python" - "$world/state/state.db.lock" <<'PY' &
import fcntl, os, sys, time
lock = os.open(sys.argv[1], os.O_RDWR)
end = time.monotonic() + 20
while time.monotonic() < end:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(0.0005)
        continue
    os.ftruncate(lock, 0)
    os.pwrite(lock, b"dkimroll run, pid 4711, since 2026-11-24 17:11:33 UTC\n", 0)
    time.sleep(4)
    sys.exit(0)
sys.exit(1)
PY
beside=$!
world_pids+=("$beside")
waits() { grep -q 'waits until dkimroll run, pid 4711, since .* has ended' "$world/daemon.log"; }
for i in 1 2 3; do # The next life tries every tenth of a second, and may be quicker.
  said dkimroll reload || fail reload
  waits && break
done
expect waits
expect noted '^STATUS=waits until dkimroll run, pid 4711, since .* has ended'
wait "$beside" || fail "nobody got the lease"
said dkimroll reload || fail reload

echo "- what is no request is ignored, and thousands of requests cost nothing"
life=$(life_of)
"$python" - "$world/state/state.db.wake" <<'PY'
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for i in range(2000):
    s.sendto([b"", b"x" * 5000, b"dkimroll turn 2", os.urandom(15), b"dkimroll turn 1"][i % 5], sys.argv[1])
PY
said dkimroll hold "$zone" || fail hold
said dkimroll release "$zone" || fail release
descriptors=$(descriptors) memory=$(memory)
"$python" - "$world/state/state.db.wake" <<'PY'
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for i in range(20000):
    s.sendto(b"dkimroll turn 1", sys.argv[1])
PY
said dkimroll hold "$zone" || fail hold
said dkimroll release "$zone" || fail release
deadline 5 eval '(($(descriptors) <= descriptors))' || fail "descriptors grow: $descriptors, $(descriptors)"
(($(memory) <= memory + 1024)) || fail "memory grows: $memory, $(memory) KiB"
[[ $(life_of) == "$life" ]] || fail "it did not survive"

echo "- killed and started again"
said dkimroll rotate "$zone" --no-wait || fail "rotate --no-wait"
life=$(life_of)
kill -KILL "$daemon_pid"
gone 137
ended() { ! kill -0 "$1" 2>/dev/null; }
deadline 5 ended "$life" || fail "a life goes on without its head"
ticks=$(count '^WATCHDOG=1' notify.log)
WATCHDOG_USEC=1000000 start
echo "- the watchdog hears of turns"
deadline 10 more_than "$((ticks + 4))" '^WATCHDOG=1' notify.log
deadline 30 grep -q "$(dkimroll status --json | sed -n 's/.*"selector": *"\([^"]*\)".*/\1/p' | tail -n 1)" "$world/daemon.log"
newest_signs() { [[ $(signing_selector) != "$third" ]]; }
deadline 30 newest_signs || fail "what was begun is not finished"

echo "- a process of it that is killed ends it, for the service manager to start it again"
kill -KILL "$(life_of)"
gone 70
expect grep -q "the daemon's process was ended by signal 9" "$world/daemon.log"
start

echo "- SIGTERM in the middle of an operation: it is finished, and the end is a success"
said dkimroll rotate "$zone" --no-wait || fail "rotate --no-wait"
kill -TERM "$daemon_pid"
gone 0
expect noted '^STOPPING=1'
[[ ! -e $world/state/state.db.wake ]] || fail "the socket is still there"
[[ $(sqlite_query "SELECT count(*) FROM key WHERE intent_open") == 0 ]] || fail "something is open"
expect_status 66 said dkimroll reload
expect_log 'no daemon is at work'

echo "- a policy with a mistake is no start"
sed -i 's/tombstone: 2s/tombstone: soon/' "$world/policy.yaml"
expect_status 78 said dkimroll daemon
expect_log "$world/policy.yaml:[0-9]+:[0-9]+: "
cp "$world/good.yaml" "$world/policy.yaml"

echo "- while a run is at work the daemon waits for it"
"$DKIMROLL" run -p "$world/policy.yaml" --budget 4s >"$world/beside.log" 2>&1 &
beside=$!
deadline 10 test -s "$world/state/state.db.lock"
start
wait "$beside"
said dkimroll status
kill -INT "$daemon_pid"
gone 0
exit 0
