#!/usr/bin/env bash
# kill -9 at any moment of a life, again and again: mail is signed by a key that is served all the time, nothing is done twice, no key is orphaned.
. "$(dirname "$0")/world.sh"
scenario killed
expect runs 8s
signing_selector
RANDOM=${SEED:-4711}
kills=${KILLS:-25}
echo "seed ${SEED:-4711}, $kills kills"
for ((i = 0; i < kills; i++)); do
  # The program itself in the background, not a function of the shell: its pid is what is killed.
  if ((i % 5 == 0)); then arguments=(rotate "$zone" --budget 10s); else arguments=(run --budget 10s); fi
  "$DKIMROLL" "${arguments[@]}" -p "$world/policy.yaml" >"$world/run.log" 2>&1 &
  pid=$!
  read -rt "0.$(printf '%03d' $((RANDOM % 900)))" <> <(:) || :
  kill -KILL "$pid" 2>/dev/null
  wait "$pid" 2>/dev/null
  mail sign "$milter" "anna@$zone" >"$world/proof.eml" || fail "after kill $i: opendkim did not sign"
  mail verify "$secondary" "$world/proof.eml" >/dev/null || fail "after kill $i: the signature does not verify"
done
expect runs 20s
signing_selector
active=$(sqlite_query "SELECT count(*) FROM key WHERE state = 4")
[[ $active == 1 ]] || fail "$active active keys"
# Every private key file and every TXT record belongs to a key that the store knows as living.
for file in "$world/opendkim/keys/$zone"/*; do
  [[ -e $file ]] || continue
  known=$(sqlite_query "SELECT count(*) FROM key WHERE state <> 7 AND selector = '$(basename "$file" .private)'")
  [[ $known == 1 ]] || fail "orphan: $file"
done
[[ -z $(ls -A "$world/opendkim" | grep 'dkimroll-') ]] || fail "temporary files were left beside the tables"
doubles=$(dig +short @127.0.0.1 -p "$primary_port" +tcp -t AXFR "$zone" | sort | uniq -d | grep -c DKIM1)
[[ $doubles == 0 ]] || fail "a record stands twice"
states
