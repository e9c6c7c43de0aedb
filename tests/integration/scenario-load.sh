#!/usr/bin/env bash
# Hundreds of rotations under load: 64 milter connections send without pause, half of them kept open across reloads. Not one message may be tempfailed,
# unsigned, or signed by a key that the secondary does not serve.
. "$(dirname "$0")/world.sh"
world_begin load
count=${LOAD_DOMAINS:-40} seconds=${LOAD_SECONDS:-50}
domains=() lines=''
for ((i = 1; i <= count; i++)); do
  domains+=("d$i.example.test")
  lines+="  d$i.example.test: {policy: standard, publisher: primary, signers: [local]}"$'\n'
done
usual_world example.test 1 1 || exit 1
kill "$opendkim_pid"; world_wait_gone "$opendkim_pid"
# One zone holds all domains.
sed -i 's|grant dkim-key wildcard \*._domainkey.example.test. TXT;|grant dkim-key subdomain example.test. TXT;|' "$world/primary/named.conf"
kill -HUP "$named_pid"
opendkim_start "$world/opendkim" "$milter_port" "SignatureAlgorithm ed25519-sha256" || exit 1
usual_policy '    selector: "s%Y%m%d%H%M"
    keys: {main: {algorithm: ed25519}}
    rotate-every: 6s
    publish: {ttl: 1s, safety: 0s}
    confirm: {sightings: 1, every: 1s, warn-after: 1m}
    retire: {queue-lifetime: 1s, queue-backoff: 1s, drain: 5s, verify-window: 2s, safety: 1s, tombstone: 3s, private-key: destroy}' "$lines" >"$world/policy.yaml"
"$DKIMROLL" run -p "$world/policy.yaml" --budget 5s >"$world/run.log" 2>&1 || { cat "$world/run.log"; exit 1; }
"$DKIMROLL" run -p "$world/policy.yaml" --budget "$((seconds + 5))s" >>"$world/run.log" 2>&1 &
runner=$!
"$python" "$here/load.py" "$milter" "$secondary" "$seconds" 64 4 "${domains[@]}"
result=$?
wait "$runner" || { echo "dkimroll failed"; tail -n 40 "$world/run.log"; result=1; }
rotations=$(grep -c 'ready -> active' "$world/run.log")
echo "$rotations activations, $(grep -c 'revoked -> removed' "$world/run.log") keys removed while mail was flowing"
((rotations >= 100)) || { echo "only $rotations activations"; result=1; }
grep -E 'failed|alarm|lost' "$world/run.log" | head -20
exit $result
