#!/usr/bin/env bash
# Speed, as ratios of things measured in the same run on the same machine. BENCH_DOMAINS (200) and BENCH_MANY (100000) set the sizes, BENCH_ROUNDS (3) how often RSA is measured.
. "$(dirname "$0")/../integration/world.sh"
count=${BENCH_DOMAINS:-200} many=${BENCH_MANY:-100000} rounds=${BENCH_ROUNDS:-3}
world_begin bench
now() { date +%s.%N; }
since() { echo "$(now) $1" | awk '{printf "%.2f", $1 - $2}'; }
ratio() { echo "$1 $2" | awk '{printf "%.2f", $1 / $2}'; }
gcc -O2 -o "$world/bare_keys" "$here/../bench/bare_keys.c" -lcrypto || exit 1

# SOA and TTLs of 0: there is nothing that a cache could hold, so only the work is left.
usual_world example.test 0 0 || exit 1
world_stop "$opendkim_pid"
sed -i 's|grant dkim-key wildcard \*._domainkey.example.test. TXT;|grant dkim-key subdomain example.test. TXT;|' "$world/primary/named.conf"
kill -HUP "$named_pid"
domains=() lines=''
for ((i = 1; i <= count; i++)); do
  domains+=("d$i.example.test")
  lines+="  d$i.example.test: {policy: standard, publisher: primary, signers: [local]}"$'\n'
done
policy_for() { # KEYS SELECTOR: no waits in the confirmation, the usual ones elsewhere
  usual_policy "    selector: \"$2\"
    keys: {main: $1}
    rotate-every: 90d
    publish: {ttl: 1s, safety: 0s}
    confirm: {sightings: 1, every: 1s}" "$lines" | sed "s|servers: .*|servers: [\"$primary\"]|" >"$world/policy.yaml"
}
# timed_rotation KEYS OPENDKIM-CONFIG SELECTOR: seconds for rotating all domains, from the command to the last proof, in $took.
timed_rotation() {
  rm -rf "$world/state" "$world/opendkim/keys" "$world/opendkim/KeyTable" "$world/opendkim/SigningTable"
  opendkim_start "$world/opendkim" "$milter_port" "$2" || exit 1
  policy_for "$1" "$3"
  "$DKIMROLL" run -p "$world/policy.yaml" --budget 30s >"$world/bench.log" 2>&1 || { grep -m 5 "^error" "$world/bench.log"; tail -n 3 "$world/bench.log"; exit 1; }
  local start
  start=$(now)
  "$DKIMROLL" rotate -p "$world/policy.yaml" --budget 60s "${domains[@]}" >"$world/bench.log" 2>&1 || { grep -m 5 "^error" "$world/bench.log"; tail -n 3 "$world/bench.log"; exit 1; }
  took=$(since "$start")
  local done_count
  done_count=$(grep -c 'ready -> active' "$world/bench.log")
  [[ $done_count == "$count" ]] || { echo "only $done_count of $count rotated"; exit 1; }
  world_stop "$opendkim_pid"
}

echo "RSA-2048, $count domains"
# The search for primes takes a random time: several times each, in turns, so that the mean of neither depends on luck or on the hour.
bare=0 rsa=0
for ((round = 1; round <= rounds; round++)); do
  start=$(now); "$world/bare_keys" "$count"; bare=$(echo "$bare $(since "$start")" | awk '{printf "%.2f", $1 + $2}')
  timed_rotation '{algorithm: rsa, bits: 2048}' '' "r$round-%Y%m%d"
  rsa=$(echo "$rsa $took" | awk '{printf "%.2f", $1 + $2}')
done
echo "  $rounds times: bare EVP key generation $bare s, dkimroll rotate $rsa s: ratio $(ratio "$rsa" "$bare") (goal: at most 1.15)"

echo "Ed25519, $count domains"
timed_rotation '{algorithm: ed25519}' 'SignatureAlgorithm ed25519-sha256' 'e%Y%m%d'
ed=$took
mkdir -p "$world/loop"
start=$(now)
for domain in "${domains[@]}"; do
  mkdir -p "$world/loop/$domain"
  opendkim-genkey -b 2048 -d "$domain" -s loop -D "$world/loop/$domain"
  echo "loop._domainkey.$domain $domain:loop:$world/loop/$domain/loop.private" >>"$world/loop/KeyTable"
  echo "*@$domain loop._domainkey.$domain" >>"$world/loop/SigningTable"
  text=$(sed -e 's/^[^(]*( *//' -e 's/).*$//' "$world/loop/$domain/loop.txt" | tr -d '\n\t')
  printf 'server 127.0.0.1 %s\nzone example.test\nupdate add loop._domainkey.%s. 300 TXT %s\nsend\n' "$primary_port" "$domain" "$text" | nsupdate -k "$tsig_file" || exit 1
done
loop=$(since "$start")
echo "  genkey + append + nsupdate in a loop $loop s, dkimroll rotate $ed s: $(ratio "$loop" "$ed") times faster (goal: at least 20)"

echo "$many domains"
{
  usual_policy '    selector: "s%Y%m%d"
    keys: {main: {algorithm: ed25519}}
    rotate-every: 90d' "$(seq -f '  d%.0f.many.test: {policy: standard, publisher: primary, signers: [local]}' "$many")" | sed "s|$world/state/|$world/many/|"
} >"$world/many.yaml"
# The first sync: hold compiles the policy and then only carries out what was asked for.
start=$(now)
"$DKIMROLL" hold -p "$world/many.yaml" d1.many.test >"$world/bench.log" 2>&1 || { grep -m 5 "^error" "$world/bench.log"; tail -n 3 "$world/bench.log"; exit 1; }
echo "  first sync $(since "$start") s"
"$python" - "$world/many/state.db" <<'PY'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("UPDATE lineage SET next_moment = 4000000000")  # nothing due for a long time
db.commit()
PY
best=$("$python" - "$DKIMROLL" "$world/many.yaml" <<'PY'
import os, resource, subprocess, sys, time
best, peak = 1e9, 0
for _ in range(10):
    start = time.perf_counter()
    pid = os.spawnvp(os.P_NOWAIT, sys.argv[1], [sys.argv[1], "run", "-p", sys.argv[2]])
    _, status, usage = os.wait4(pid, 0)
    best, peak = min(best, time.perf_counter() - start), max(peak, usage.ru_maxrss)
    if status: sys.exit("run failed")

print("%.1f ms and %.1f MiB" % (best * 1000, peak / 1024))
PY
) || exit 1
echo "  run with nothing due: $(echo "$best" | tail -n 1) (goal: under 50 ms and 64 MiB)"

# An emergency: from the command to the moment at which new mail carries the new selector, with a standby, over a connection of its own, asked every few milliseconds.
echo "An emergency with a standby"
world_stop "$named_pid"; world_stop "$knotd_pid"
rm -rf "$world/state" "$world/primary" "$world/secondary" "$world/opendkim"
usual_world emergency.test 1 1 || exit 1
usual_policy '    selector: "s%Y%m%d"
    keys: {main: {algorithm: rsa, bits: 2048}}
    rotate-every: 90d
    standby: 1
    publish: {ttl: 1h, safety: 0s}
    confirm: {sightings: 1, every: 1s}' '  emergency.test: {policy: standard, publisher: primary, signers: [local]}' >"$world/policy.yaml"
for ((i = 0; i < 5; i++)); do "$DKIMROLL" run -p "$world/policy.yaml" --budget 10s >"$world/bench.log" 2>&1; done
emergency=$("$python" - "$here/../integration" "$milter" "$DKIMROLL" "$world/policy.yaml" "$world/bench.log" <<'PY'
import re, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
import mail
def selector():
    milter = mail.Milter(sys.argv[2])
    added = milter.message("anna@emergency.test")[2]
    milter.close()
    return re.search(r"s=([^;]+);", " ".join(value for _, value in added)).group(1)
old = selector()
log = open(sys.argv[5], "w")
start = time.monotonic()
command = subprocess.Popen([sys.argv[3], "revoke", "-p", sys.argv[4], "emergency.test", "--reason", "bench", "--yes"], stdout=log, stderr=log)
while selector() == old:
    if time.monotonic() - start > 20: sys.exit("the old key signs on")
new = time.monotonic() - start
if command.wait(): sys.exit("revoke failed")
print("%.2f s to the new selector, %.2f s to the end of the command" % (new, time.monotonic() - start))
PY
) || { cat "$world/bench.log"; exit 1; }
echo "  revoke: $emergency (goal: under 2 s)"
