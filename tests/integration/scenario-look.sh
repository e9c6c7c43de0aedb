#!/usr/bin/env bash
# The commands that look: check tries everything and leaves nothing behind, and says what is wrong; status, plan and history tell of a real life of a key.
. "$(dirname "$0")/world.sh"
scenario look

looks() { dkimroll "$@" >"$world/run.log" 2>&1; }
serial() { dig +tcp +time=2 +tries=1 +short @127.0.0.1 -p "$primary_port" "$zone" SOA | cut -d ' ' -f 3; }
scratch_records() { dig +tcp +time=2 +tries=1 @127.0.0.1 -p "$primary_port" "$zone" AXFR | grep -c dkimroll-check; }

holds_lease() { grep -q "pid $spawned," "$world/state/state.db.lock"; }

# Before the first run.
expect_status 66 looks status
expect_log 'nothing has run yet: dkimroll run'
expect_status 0 looks plan --until "$(date -u -d '+30 days' +%F)"
expect_log 'Nothing has run yet'
before=$(serial)
expect_status 0 looks check
expect_log 'example.test: a scratch record was added, read back and deleted again'
expect_log '2 of 2 servers answer'
expect_log '^signer local'
expect_log 'All right: a rotation can run'
((before < $(serial))) || fail "no update reached the primary"
[[ $(scratch_records) == 0 ]] || fail "a scratch record was left behind"
[[ ! -e $world/state ]] || fail "check made the store"

# A life begins.
expect runs 8s
expect_status 0 looks status
expect_log '^All right: 1 domain signed, next step .* \(example.test: generate\)\.'
expect_log 'example.test +server-[0-9]+ +active'
expect_status 0 looks status example.test --json
"$python" - "$world/run.log" <<'PY' || fail "status --json"
import json, sys
document = json.load(open(sys.argv[1]))
key, = document["keys"]
assert document["ok"] and key["state"] == "active" and key["next"] == "generate", key
assert len(key["servers"]) == 2 and all(server["right"] for server in key["servers"]), key
assert key["signers"][0]["proved"] and key["record"].startswith("v=DKIM1; k=ed25519; p="), key
PY
expect_status 0 looks check
expect_log 'example.test: a message of each sender was signed by the active key'
expect_log 'example.test: the private key belongs to the record'
expect_status 0 looks history example.test
expect_log 'ready -> active'
expect_status 0 looks plan --json
"$python" -c 'import json, sys; steps = json.load(open(sys.argv[1]))["steps"]; assert steps[0]["step"] == "generate" and steps == sorted(steps, key=lambda step: step["when"])' \
  "$world/run.log" || fail "plan --json"
expect_status 66 looks status example.tset
expect_log 'did you mean example.test'

# A daemon or timer may be at work.
mkdir "$world/other"
world_spawn "$world/other" "$DKIMROLL" run -p "$world/policy.yaml" --budget 2h
deadline 10 holds_lease
expect_status 0 looks check
expect_status 0 looks status
world_stop "$spawned"

# What goes wrong is found, and named.
key=$(ls "$world/opendkim/keys/$zone"/*.private)
chmod 644 "$key"
expect_status 77 looks check
expect_log "every user may read or write the private key $key"
chmod 600 "$key"

world_stop "$opendkim_pid"
expect_status 69 looks check
expect_log 'FAILED +.*there is no process'
expect_log 'example.test: a scratch record was added, read back and deleted again'
opendkim_start "$world/opendkim" "$milter_port" "SignatureAlgorithm ed25519-sha256" || exit 1

world_stop "$knotd_pid"
begin=$SECONDS
expect_status 69 looks check
((SECONDS - begin < 60)) || fail "check took $((SECONDS - begin)) s"
expect_log "127.0.0.2.*does not answer for the zone"
expect_log 'example.test: a scratch record was added, read back and deleted again'

sed -i 's/secret ".*"/secret "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="/' "$tsig_file"
expect_status 69 looks check
expect_log '^updates by publisher primary'
expect_log 'FAILED +example.test: .*(BADSIG|signature|secret)'

world_stop "$named_pid"
begin=$SECONDS
expect_status 69 looks check
((SECONDS - begin < 65)) || fail "check took $((SECONDS - begin)) s with dead servers"
expect_log 'NOT all right'

# The broken world shows in status once a run has met it.
dkimroll rotate "$zone" --budget 2s >"$world/run.log" 2>&1
expect_status 75 looks status
expect_log '^NOT all right: 1 of 1 domain needs attention'
exit 0
