#!/usr/bin/env bash
# What a person does to hold rotations back, and what she is told: a hold of activation alone, a freeze, a window that is closed, and a wave that stops because the
# signer fails.
. "$(dirname "$0")/world.sh"
scenario control
said() { "$@" >"$world/run.log" 2>&1; }
# policy TOP RULES: lines at the top, and of the rules.
policy() {
  { [[ -z $1 ]] || echo "$1"; usual_policy "${SHORT_RULES/rotate-every: 1h/rotate-every: 90d}${2:+
    $2}" "  example.test: {policy: standard, publisher: primary, signers: [local]}"; } >"$world/policy.yaml"
}

expect runs 10s
expect_log 'ready -> active'
first=$(signing_selector)

echo "- a hold of activation alone: an end that is over is refused, and the end of a hold is told"
expect_status 65 said dkimroll hold "$zone" --only-activation --until 2020-01-01
expect_log 'is over: nothing was held'
said dkimroll hold "$zone" --only-activation --until "$(date -u -d '+3 seconds' +%Y-%m-%dT%H:%M:%SZ)" --reason "the boss is away" || fail hold
expect_log 'held from taking over \(the next key is made and waits\) until '
said dkimroll hold "$zone" --reason "her deputy, too" || fail "a second hold"
expect_log "$zone: held until .dkimroll release.; this takes the place of the hold before: held from taking over until .*: the boss is away"
expect_status 69 said dkimroll rotate "$zone"
said dkimroll hold "$zone" --only-activation --until "$(date -u -d '+3 seconds' +%Y-%m-%dT%H:%M:%SZ)" --reason "the boss is away" || fail "a third hold"
said dkimroll status "$zone"
expect_log 'held from taking over until .*the boss is away'
expect runs 8s
expect_log 'the hold has come to its end: the boss is away'

echo "- a release of what is not held says so, and is nothing that happened"
events=$(dkimroll history "$zone" | wc -l)
expect_status 0 said dkimroll release "$zone"
expect_log "^$zone: was not held: nothing to release"
expect_status 0 said dkimroll release --wave
expect_log '^No wave of rotations is stopped: nothing to release'
[[ $(dkimroll history "$zone" | wc -l) == "$events" ]] || fail "the history tells of a release that was none"

echo "- a freeze: nobody rotates, and status says until when"
policy "freeze: \"2020-01-01..2098-12-31\"" ""
expect runs 0s
expect_status 69 said dkimroll rotate "$zone"
expect_log 'example.test is frozen \(2020-01-01..2098-12-31 in the policy\) until 2099-01-01 00:00:00 UTC'
said dkimroll status "$zone"
[[ $(signing_selector) == "$first" ]] || fail "it rotated"

echo "- a window that is closed is no matter to who asks for a rotation"
now=$(date -u +%H)
policy "" "window: {hours: \"$(printf %02d $(((10#$now + 3) % 24))):00-$(printf %02d $(((10#$now + 4) % 24))):30\"}"
said dkimroll rotate "$zone" --budget 10s || fail rotate
expect_log 'ready -> active'
second=$(signing_selector)
[[ $second != "$first" ]] || fail "it did not rotate"

echo "- a wave: the signer is gone, the budget is spent, nothing begins, and status and run say so"
policy "failure-budget: 0" ""
expect runs 0s
world_stop "$opendkim_pid"
said dkimroll rotate "$zone" --budget 10s
said dkimroll history "$zone"
expect_log 'failed .*activate'
expect_status 75 said dkimroll run --budget 0s
expect_log 'the wave of rotations is stopped: 1 of [0-9] failed, the first: example.test: activate of '
expect_status 75 said dkimroll status
[[ $(head -n 1 "$world/run.log") == "NOT all right: the wave of rotations is stopped, 1 of "* ]] || fail "the first line of status"
echo "- and goes on when a person says so"
opendkim_start "$world/opendkim" "$milter_port" "SignatureAlgorithm ed25519-sha256" || exit 1
said dkimroll release --wave --reason "the signer is back" || fail "release --wave"
expect_log 'The wave of rotations goes on'
expect_status 64 said dkimroll release --wave "$zone"
said dkimroll release "$zone" || fail "release of the domain"
expect runs 10s
expect_log 'ready -> active'
expect_status 0 said dkimroll status
[[ $(signing_selector) != "$second" ]] || fail "it did not rotate in the end"
said dkimroll history
expect_log 'the wave of rotations goes on: released by .*the signer is back'
exit 0
