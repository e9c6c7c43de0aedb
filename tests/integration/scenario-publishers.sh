#!/usr/bin/env bash
# Zones that take no updates from dkimroll: a command (the examples, by nsupdate and by REST to a provider on loopback), a fragment that named includes (the example's reload by rndc), and one that knotd includes (knotc zone-reload). First keys
# and rotations of all of them with short times, killed in the middle, and refusals that heal.
. "$(dirname "$0")/world.sh"
world_begin publishers
mapfile -t ports < <(free_ports 127.0.0.1 127.0.0.1 127.0.0.1 127.0.0.2 127.0.0.1)
named_port=${ports[0]} rndc_port=${ports[1]} milter_port=${ports[2]} knot_port=${ports[3]} provider_port=${ports[4]}
milter=inet:$milter_port@127.0.0.1
mkdir -p "$world/named" "$world/knot" "$world/fragments" "$world/opendkim" "$world/provider"
tsig_file=$world/tsig.key
(umask 077 && tsig-keygen -a hmac-sha256 dkim-key >"$tsig_file" && tsig-keygen -a hmac-sha256 rndc-key >"$world/rndc.key")

# The zones of fragments, with an empty fragment as the manual says.
touch "$world/fragments/included.test.dkim" "$world/fragments/knot.test.dkim"
zone_file command.test 1 1 >"$world/named/command.test.zone"
zone_file rest.test 1 1 >"$world/named/rest.test.zone"
zone_file updates.test 1 1 >"$world/named/updates.test.zone"
{ zone_file included.test 1 1 | sed 's/ 1 60 30 86400/ @SERIAL@ 60 30 86400/'; echo "\$INCLUDE $world/fragments/included.test.dkim"; } >"$world/named/included.test.in"
sed 's/@SERIAL@/1/' "$world/named/included.test.in" >"$world/named/included.test.zone"
{ zone_file knot.test 1 1; echo "\$INCLUDE $world/fragments/knot.test.dkim"; } >"$world/knot/knot.test.zone"

named_start "$world/named" 127.0.0.1 "$named_port" "
include \"$tsig_file\"; include \"$world/rndc.key\";
controls { inet 127.0.0.1 port $rndc_port allow { 127.0.0.1; } keys { \"rndc-key\"; }; };
zone \"command.test\" { type primary; file \"command.test.zone\"; update-policy { grant dkim-key wildcard *._domainkey.command.test. TXT; }; };
zone \"rest.test\" { type primary; file \"rest.test.zone\"; update-policy { grant dkim-key zonesub TXT; }; };
zone \"updates.test\" { type primary; file \"updates.test.zone\"; update-policy { grant dkim-key wildcard *._domainkey.updates.test. TXT; }; };
zone \"included.test\" { type primary; file \"included.test.zone\"; };" || exit 1
knotd_start "$world/knot" 127.0.0.2 "$knot_port" "
control:
    listen: $world/knot/knot.sock
zone:
  - domain: knot.test
    storage: $world/knot
    file: knot.test.zone
    zonefile-sync: -1
    zonefile-load: difference-no-serial
    journal-content: all" knot.test || exit 1
opendkim_start "$world/opendkim" "$milter_port" "SignatureAlgorithm ed25519-sha256" || exit 1

(umask 077 && head -c 24 /dev/urandom | base64 >"$world/provider.token")
world_spawn "$world/provider" "$python" "$here/provider.py" "$provider_port" "$world/provider.token" "$tsig_file" 127.0.0.1 "$named_port" "$world/provider"
provider=http://127.0.0.1:$provider_port/v1
deadline 20 curl -s -o /dev/null "$provider" || fail "the provider does not answer"

publisher=$top/policies/publisher-nsupdate.sh
write_policy() {
  cat >"$world/policy.yaml" <<POLICY
state: $world/state/state.db
policies:
  standard:
$SHORT_RULES
publishers:
  updates: {server: "127.0.0.1:$named_port", tsig-file: $tsig_file, servers: ["127.0.0.1:$named_port"], zone: updates.test}
  tool: {type: command, command: [$publisher, $tsig_file, 127.0.0.1, "$named_port"], timeout: 10s, wait: 2s, servers: ["127.0.0.1:$named_port"], zone: command.test}
  rest: {type: command, command: [$top/policies/publisher-rest.sh, $world/provider.token, "$provider"], timeout: 10s, wait: 2s, servers: ["127.0.0.1:$named_port"], zone: rest.test}
  included:
    type: zonefile
    file: $world/fragments/%z.dkim
    wait: 2s
    servers: ["127.0.0.1:$named_port"]
    zone: included.test
    reload: {command: [$top/policies/reload-zone.sh, $world/named, $(command -v rndc), -s, 127.0.0.1, -p, "$rndc_port", -k, $world/rndc.key]}
  knot:
    type: zonefile
    file: $world/fragments/%z.dkim
    wait: 2s
    servers: ["127.0.0.2:$knot_port"]
    zone: knot.test
    reload: {command: [$(command -v knotc), -s, $world/knot/knot.sock, zone-reload, knot.test]}
signers:
  local:
    type: opendkim
    key-table: $world/opendkim/KeyTable
    signing-table: refile:$world/opendkim/SigningTable
    key-directory: $world/opendkim/keys/%d
    reload: {pid-file: $world/opendkim/opendkim.pid}
    milter: "$milter"
domains:
  command.test: {policy: standard, publisher: tool, signers: [local]}
  rest.test: {policy: standard, publisher: rest, signers: [local]}
  included.test: {policy: standard, publisher: included, signers: [local]}
  knot.test: {policy: standard, publisher: knot, signers: [local]}
  # Those above ask nobody who could attest the clock, and a container's kernel may not say that it is synchronised: a signed reply about this one does.
  updates.test: {policy: standard, publisher: updates, signers: [local]}
POLICY
}
server_of() { if [[ $1 == knot.test ]]; then echo "127.0.0.2:$knot_port"; else echo "127.0.0.1:$named_port"; fi; }
# selector_of DOMAIN: which selector signs, proved by a message that verifies.
selector_of() { zone=$1 secondary=$(server_of "$1") signing_selector; }
txt_of() { mail txt "$(server_of "$1")" "$2._domainkey.$1"; }

write_policy
expect dkimroll check >"$world/run.log" 2>&1
(($(grep -c "a scratch record was added, read back and deleted again" "$world/run.log") == 5)) || fail "check did not try all of them"
expect runs 9s
declare -A first=()
for domain in command.test rest.test included.test knot.test; do first[$domain]=$(selector_of "$domain"); done
grep -q "^${first[included.test]}._domainkey.included.test. 1 IN TXT \"v=DKIM1" "$world/fragments/included.test.dkim" || fail "the fragment has no record of ${first[included.test]}"

# Killed at any moment, then brought to its end.
for pause in 0.4 1.2; do
  setsid "$DKIMROLL" rotate -p "$world/policy.yaml" command.test rest.test included.test knot.test --no-wait >>"$world/rotate.log" 2>&1 || fail "rotate was not taken"
  setsid "$DKIMROLL" run -p "$world/policy.yaml" --budget 8s >>"$world/killed.log" 2>&1 &
  victim=$!
  read -rt "$pause" <> <(:) || :
  kill -KILL -- "-$victim" 2>/dev/null
  wait "$victim" 2>/dev/null
done
expect runs 14s
for domain in command.test rest.test included.test knot.test; do
  now=$(selector_of "$domain")
  [[ $now != "${first[$domain]}" ]] || fail "$domain still signs with $now"
  [[ -z $(txt_of "$domain" "${first[$domain]}") ]] || fail "the record of ${first[$domain]} in $domain is still there"
  echo "$domain: ${first[$domain]}, then $now"
done
(($(grep -c ' IN TXT ' "$world/fragments/included.test.dkim") >= 1)) || fail "the fragment is empty"

# A provider that limits calls is asked again, and what it says otherwise is the reason that status shows; a record of somebody else's stays, and the token is in no call and no output.
curl -sS -o /dev/null --fail -H "Authorization: Bearer $(cat "$world/provider.token")" -d '{"type": "TXT", "name": "other", "ttl": 60, "content": "of somebody else"}' "$provider/zones/rest.test/records" || fail "the provider takes no record"
touch "$world/provider/limit"
dkimroll rotate rest.test --budget 1s >"$world/run.log" 2>&1
expect_log 'publisher rest: add of .*: GET http://127.0.0.1:[0-9]+/v1/zones/rest.test/records\?type=TXT&name=[a-z0-9-]+._domainkey: HTTP 429'
mv "$world/provider.token" "$world/right.token"
echo wrong >"$world/provider.token"
rm "$world/provider/limit"
dkimroll rotate rest.test --budget 1s >"$world/run.log" 2>&1
expect_log 'HTTP 401: .*who are you'
mv "$world/right.token" "$world/provider.token"
before=$(selector_of rest.test)
dkimroll rotate rest.test --budget 8s >"$world/run.log" 2>&1 || fail "rotate after the provider's trouble"
[[ $(selector_of rest.test) != "$before" ]] || fail "rest.test still signs with $before"
[[ $(mail txt "$(server_of rest.test)" other.rest.test) == "of somebody else" ]] || fail "the record of somebody else is gone"
grep -qx 'DELETE /v1/zones/rest.test/records/[0-9]*' "$world/provider/calls" || fail "nothing was ever deleted"
expect_not grep -rqF "$(cat "$world/provider.token")" "$world/provider" "$world/state" "$world"/*.log
echo "the provider's limit was waited for, and nothing of others was touched"

# A fragment that somebody else wrote in is left alone, and status says what to do.
cp "$world/fragments/knot.test.dkim" "$world/knot/before"
echo 'www 60 IN A 127.0.0.1' >>"$world/fragments/knot.test.dkim"
dkimroll rotate knot.test --budget 2s >"$world/run.log" 2>&1
dkimroll status knot.test >"$world/run.log" 2>&1
expect_log "was not written by dkimroll"
cp "$world/knot/before" "$world/fragments/knot.test.dkim"
# A fragment that was lost comes back with all records.
rm "$world/fragments/included.test.dkim"
kept=$(selector_of included.test)
dkimroll rotate included.test --budget 3s >"$world/run.log" 2>&1
grep -q "^$kept._domainkey.included.test. " "$world/fragments/included.test.dkim" || fail "the fragment came back without $kept"
echo "a fragment with foreign lines was refused, a lost one came back whole"
