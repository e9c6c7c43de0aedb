#!/usr/bin/env bash
# The keeper as a service, as its socket unit starts it: the command that root starts goes on as the owner of its state, without any right on private keys, and
# the keeper answers as root, by the policy that it reads itself.
. "$(dirname "$0")/world.sh"
scenario keeper-socket
[[ $(id -u) == 0 ]] || { echo "skipped: needs root"; exit 0; }

# The state, and the TSIG key, belong to a user who can do nothing else.
user=nobody uid=$(id -u nobody)
mkdir -m 0700 "$world/state"
chown "$user" "$world/state" "$tsig_file"
socket=$world/keeper.sock
world_spawn "$world" systemd-socket-activate --accept --listen "$socket" --setenv=STATE_DIRECTORY="$world/keeper" "$DKIMROLL" keeper --policy "$world/policy.yaml"
deadline 10 test -S "$socket"
by_socket() { dkimroll "$@" --keeper "$socket" >"$world/run.log" 2>&1; }
owned() { [[ -z $(find "$world/state" ! -user "$user") ]]; }
lives() { dkimroll run --keeper "$socket" --budget 20s >"$world/run.log" 2>&1; }

expect by_socket check
expect_log "what talks to the network runs as user $uid, without capabilities"
expect_log "the keeper is reached by $socket, as root"
expect_log 'the keeper has no network'
expect lives
expect_log 'ready -> active'
first=$(signing_selector)
expect owned
expect by_socket prove
expect grep -q "^signer .*$world/opendkim/keys/%d" "$world/keeper/grants"
[[ $(stat -c %U:%a "$world/keeper/grants") == root:600 ]] || fail "the grants are not root's alone"

# In the middle of a rotation the two sides are who they should be.
"$DKIMROLL" rotate -p "$world/policy.yaml" --keeper "$socket" "$zone" --budget 20s >"$world/rotate.log" 2>&1 &
rotate_pid=$!
dropped() { grep -qE "^Uid:\s$uid\s$uid\s$uid\s$uid$" "/proc/$rotate_pid/status" && grep -qE '^CapEff:\s0+$' "/proc/$rotate_pid/status" && grep -qE '^NoNewPrivs:\s1$' "/proc/$rotate_pid/status"; }
deadline 10 dropped || fail "rotate did not give up its rights"
wait "$rotate_pid" || fail "rotate"
second=$(signing_selector)
[[ $first != "$second" ]] || fail "the selector did not change"

# The directory of keys changes: what the first policy granted is still granted, and the old key can be destroyed.
sed -i "s|key-directory: $world/opendkim/keys/%d|key-directory: $world/opendkim/keys/new/%d|" "$world/policy.yaml"
expect by_socket rotate "$zone" --budget 20s
third=$(signing_selector)
[[ -e $world/opendkim/keys/new/$zone/$third.private ]] || fail "the new key is not where the policy says"
gone() { lives; [[ ! -e $world/opendkim/keys/$zone/$second.private ]]; }
deadline 60 gone || fail "the old key is still there"
(($(grep -c '^signer ' "$world/keeper/grants") == 2)) || fail "the keeper remembers $(grep -c '^signer ' "$world/keeper/grants") signers"

# A policy that the keeper must not or cannot obey is told to who asked.
chown "$user" "$world/policy.yaml"
expect_not by_socket check
expect_log "the policy that the keeper obeys must be root's alone to write"
chown root "$world/policy.yaml"
chmod 0666 "$world/keeper/grants"
expect_not by_socket check
expect_log 'others could grant the keeper what the policy does not'
chmod 0600 "$world/keeper/grants"
expect by_socket check

# A keeper that is not there; and one that was started by hand.
not_there() { dkimroll rotate "$zone" --keeper "$world/none.sock" >"$world/run.log" 2>&1; }
expect_status 66 not_there
expect_log 'systemctl enable --now dkimroll-keeper.socket'
by_hand() { dkimroll keeper >"$world/run.log" 2>&1; }
expect_status 65 by_hand
expect_log 'it is started by dkimroll-keeper.socket'
