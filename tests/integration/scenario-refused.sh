#!/usr/bin/env bash
# Refusals at the primary: a wrong TSIG secret, then an ACL that does not allow the name. Each says what to do, changes nothing, and heals when it is put right.
. "$(dirname "$0")/world.sh"
scenario refused
cp "$tsig_file" "$world/right.key"
sed -i 's|secret ".*"|secret "'"$(tsig_secret)"'"|' "$tsig_file"
expect_status 75 runs 3s
expect_log 'BADSIG|secret'
expect_log 'remedy|tsig'
[[ -z $(mail txt "$primary" "server-$(date +%Y%m%d)._domainkey.$zone") ]] || fail "a record was published with a wrong key"
cp "$world/right.key" "$tsig_file"
sed -i 's|wildcard \*._domainkey.example.test. TXT|wildcard *._domainkey.other.test. TXT|' "$world/primary/named.conf"
kill -HUP "$named_pid"
deadline 10 grep -q 'reloading configuration succeeded' "$world/primary/log"
# The back-off of the first failure passes, or a person asks.
dkimroll rotate "$zone" --budget 3s >"$world/run.log" 2>&1 && fail "it was not refused"
expect_log 'REFUSED'
expect_log 'update-policy|grant'
sed -i 's|_domainkey.other.test. TXT|_domainkey.example.test. TXT|' "$world/primary/named.conf"
kill -HUP "$named_pid"
reloaded_twice() { (($(grep -c 'reloading configuration succeeded' "$world/primary/log") >= 2)); }
deadline 10 reloaded_twice || fail "named did not reload"
dkimroll rotate "$zone" --budget 10s >"$world/run.log" 2>&1 || fail "it did not heal"
signing_selector
