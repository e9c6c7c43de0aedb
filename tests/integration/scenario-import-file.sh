#!/usr/bin/env bash
# The same for a file: SigningTable and a policy with stable key names: the first entry of a domain signs, a catch-all with "%" serves a domain that has no line of its own, and an
# entry that has the stable name already changes its value in place. Old keys are archived.
. "$(dirname "$0")/world.sh"
world_begin import-file
usual_world example.test 1 1 || exit 1
world_stop "$opendkim_pid"
OPENDKIM_SIGNING_TABLE=file opendkim_start "$world/opendkim" "$milter_port" || exit 1
keys=$world/opendkim/keys
sed -i 's|grant dkim-key wildcard \*._domainkey.example.test. TXT;|grant dkim-key subdomain example.test. TXT;|' "$world/primary/named.conf"
kill -HUP "$named_pid"
update() { { echo "server 127.0.0.1 $primary_port"; printf '%s\n' "$@"; echo send; } | nsupdate -k "$tsig_file"; }
deadline 20 update "add probe.example.test 1 TXT x"
serves() { mail txt "$secondary" "$1" | grep -q .; }
serves_none() { ! serves "$1"; }

make_key() { # DOMAIN SELECTOR: its file and its record
  local file=$keys/$1/$2.private
  mkdir -p "$keys/$1"
  openssl genrsa 2048 2>/dev/null >"$file"
  chown -R opendkim: "$keys/$1"; chmod 600 "$file"
  update "add $2._domainkey.$1 1 TXT $(echo "v=DKIM1; k=rsa; p=$(openssl pkey -in "$file" -pubout -outform DER | base64 -w 0)" | fold -w 200 | sed 's/.*/"&"/' | tr '\n' ' ')"
  deadline 20 serves "$2._domainkey.$1"
}
make_key script.example.test server-20260101
make_key script.example.test server-20260501
make_key stable.example.test mail
make_key every.example.test all
cat >"$world/opendkim/KeyTable" <<TABLE
server-20260101._domainkey.script.example.test script.example.test:server-20260101:$keys/script.example.test/server-20260101.private

server-20260501._domainkey.script.example.test script.example.test:server-20260501:$keys/script.example.test/server-20260501.private
stable.example.test stable.example.test:mail:$keys/stable.example.test/mail.private # by hand
all %:all:$keys/%/all.private
TABLE
cat >"$world/opendkim/SigningTable" <<TABLE
* all
script.example.test server-20260101._domainkey.script.example.test

script.example.test server-20260501._domainkey.script.example.test
stable.example.test stable.example.test
.stable.example.test stable.example.test
TABLE
kill -USR1 "$opendkim_pid"

domains=(script.example.test stable.example.test every.example.test)
lines=''
for domain in "${domains[@]}"; do lines+="  $domain: {policy: standard, publisher: primary, signers: [local]}"$'\n'; done
# The forms of a file: table are senders as they stand.
lines=${lines/stable.example.test: \{/&senders: [stable.example.test, .stable.example.test], }
usual_policy "    selector: \"server-%Y%m%d\"
    keys: {main: {algorithm: rsa, bits: 2048}}
    rotate-every: 90d
    publish: {ttl: 1s, safety: 1s}
    confirm: {sightings: 2, every: 1s, warn-after: 1m}
    retire: {queue-lifetime: 1s, queue-backoff: 1s, drain: 6s, verify-window: 2s, safety: 1s, tombstone: 0s, private-key: archive, archive-directory: \"$world/archive/%d\"}" \
  "$lines" >"$world/policy.yaml"
sed -i 's|signing-table: refile:|signing-table: file:|; s|    owner: opendkim:opendkim|    key-name: "%d"\n&|' "$world/policy.yaml"

# She began without import: her lines are in the way, and her keys sign on.
runs 8s && fail "a run overlooks the lines that are in the way"
expect_log 'dkimroll import. shows whether it can take that one over'
[[ $(states | grep -c ' 3$') == 3 ]] || { states; fail "the new keys are not ready"; }

dkimroll import >"$world/run.log" 2>&1 || fail "import failed"
expect_log '7 keys found: 3 active, 1 retired, 0 with a reserved selector, 3 known already, 0 left alone'
expect_log 'signs today +server-20260101'
expect_log 'never signs +server-20260501'
expect dkimroll import --apply >"$world/run.log"

"$python" "$here/load.py" "$milter" "$secondary" 40 6 4 "${domains[@]}" >"$world/load.log" 2>&1 &
load=$!
mail_flows() { grep -q "$(printf ':%04X' "$milter_port") [0-9A-F:]* 01 " /proc/net/tcp; }
deadline 20 mail_flows
dkimroll rotate --no-wait "${domains[@]}" >"$world/run.log" 2>&1 || fail "rotate failed"
runs 32s || fail "a run failed"
wait "$load" || { cat "$world/load.log"; fail "mail was lost"; }
cat "$world/load.log"
grep -E ': failed|alarm|: lost' "$world/run.log" && fail "something failed"

today=server-$(date +%Y%m%d)
diff - "$world/opendkim/SigningTable" <<TABLE || fail "SigningTable"
* all
script.example.test script.example.test

stable.example.test stable.example.test
.stable.example.test stable.example.test
every.example.test every.example.test
TABLE
diff <(sort "$world/opendkim/KeyTable") - <<TABLE || fail "KeyTable"

all %:all:$keys/%/all.private
every.example.test every.example.test:$today:$keys/every.example.test/$today.private
script.example.test script.example.test:$today:$keys/script.example.test/$today.private
stable.example.test stable.example.test:$today:$keys/stable.example.test/$today.private # by hand
TABLE
for name in server-20260101._domainkey.script server-20260501._domainkey.script mail._domainkey.stable all._domainkey.every; do
  expect serves_none "$name.example.test"
done
for file in script.example.test/server-20260101 script.example.test/server-20260501 stable.example.test/mail; do
  [[ -e $world/archive/$file.private && ! -e $keys/$file.private ]] || fail "$file was not archived"
done
[[ -e $keys/every.example.test/all.private ]] || fail "the file of an entry for any domain was taken away"
dkimroll prove >"$world/run.log" 2>&1 || fail "the proofs fail"
