#!/usr/bin/env bash
# What people break behind dkimroll's back is found by the paced proof and heals by the fastest safe way: a record that vanished is put back, lines that were
# removed from the tables are written again, a foreign TXT is never overwritten and a lost private key never trusted (a new key takes over instead), and a signer
# that was down is proved when it is back. No message is ever signed wrongly meanwhile, and status says what is wrong.
. "$(dirname "$0")/world.sh"
SHORT_RULES=${SHORT_RULES/warn-after: 1m/warn-after: 1s}
SHORT_RULES="$SHORT_RULES
    prove-every: 3s"
scenario drift

reload() { kill -USR1 "$opendkim_pid"; }
update() { { echo "server 127.0.0.1 $primary_port"; printf '%s\n' "$@"; echo send; } | nsupdate -k "$tsig_file"; }
record() { dig +tcp +time=2 +tries=1 +short @"$1" -p "$2" "$selector._domainkey.$zone" TXT; }
both_serve() { [[ $(record 127.0.0.1 "$primary_port") == *"$1"* && $(record 127.0.0.2 "$secondary_port") == *"$1"* ]]; }
status_says() { dkimroll status >"$world/run.log" 2>&1; expect_log "$1"; }
first_line_says() { grep -qE -- "$1" <(dkimroll status 2>&1 | head -n 1) || fail "the first line of status does not say: $1"; }
line_is_back() { runs 4s; grep -q "^\*@$zone $selector._domainkey.$zone" "$world/opendkim/SigningTable"; }
all_is_well() { runs 5s; dkimroll status; }
is_noticed() { runs 1s; ! dkimroll status; }
takes_over() { runs 3s; [[ $(signing_selector) != "$selector" ]]; }
is_gone() { runs 3s; dkimroll history "$zone" | grep -qE "$selector[ :].*revoked -> removed"; }
# Every message that is signed must verify; one that is deferred or goes out unsigned is not signed wrongly.
watch_signatures() {
  while [[ ! -e $world/watched ]]; do
    mail sign "$milter" "anna@$zone" >"$world/watch.eml" 2>/dev/null || continue
    mail verify "$secondary" "$world/watch.eml" >>"$world/watch.log" 2>&1 || echo "WRONG" >>"$world/watch.log"
  done
}

expect runs 8s
selector=$(signing_selector)
expect_status 0 dkimroll status >"$world/run.log"

echo "- nothing is wrong: proofs come and go without a word"
sqlite_query "SELECT count(*) FROM event" >"$world/events"
expect runs 7s
expect_log '[2-9] steps done, 0 failed'
[[ $(sqlite_query "SELECT count(*) FROM event") == "$(cat "$world/events")" ]] || fail "proofs fill the history"

echo "- the record is deleted at the primary: it is put back"
update "del $selector._domainkey.$zone TXT"
runs 8s
both_serve "p=" || fail "the record is not back"
dkimroll history "$zone" >"$world/run.log" 2>&1
expect_log 'lost'
expect_log 'healed'
deadline 60 all_is_well
[[ $(signing_selector) == "$selector" ]] || fail "another key signs"

echo "- lines of the tables are removed: they are written again and proved, without one wrong signature"
watch_signatures &
watcher=$!
world_pids+=("$watcher")
: >"$world/opendkim/SigningTable"
sed -i "/^$selector/d" "$world/opendkim/KeyTable"
reload
deadline 60 line_is_back || fail "the line is not back"
[[ $(signing_selector) == "$selector" ]] || fail "another key signs"
touch "$world/watched"
world_wait_gone "$watcher"
grep -q WRONG "$world/watch.log" && fail "a signature was wrong"
dkimroll history "$zone" >"$world/run.log" 2>&1
expect_log 'alarm .*signer local: the signer lets mail from .* pass unsigned'
expect_log 'healed .*signer local signs with it again'
expect_status 0 dkimroll status >"$world/run.log"

echo "- a line of somebody else is not touched, and is an alarm"
cp -p "$world/opendkim/SigningTable" "$world/SigningTable.kept"
echo "other._domainkey.$zone $zone:other:$world/opendkim/keys/$zone/$selector.private" >>"$world/opendkim/KeyTable"
sed -i "1i *@$zone other._domainkey.$zone" "$world/opendkim/SigningTable"
reload
runs 5s
[[ $(head -n 1 "$world/opendkim/SigningTable") == "*@$zone other._domainkey.$zone" ]] || fail "a foreign line was changed"
status_says 'has "other._domainkey.*" and not|takes mail of .* first|signs mail from .* with .*s=other'
first_line_says '^NOT all right: 1 of 1 domain needs attention'
# Whoever follows the remedy needs no patience: the next run sees it, although the repair has failed too often to be tried again within half a minute.
cat "$world/SigningTable.kept" >"$world/opendkim/SigningTable"
sed -i '/^other/d' "$world/opendkim/KeyTable"
reload
runs 14s
expect_status 0 dkimroll status

echo "- opendkim is down: an alarm, and all is well when it is back"
world_stop "$opendkim_pid"
runs 5s
status_says 'signer local: .*milter'
opendkim_start "$world/opendkim" "$milter_port" "SignatureAlgorithm ed25519-sha256" || exit 1
deadline 120 all_is_well || fail "it does not heal"
[[ $(signing_selector) == "$selector" ]] || fail "another key signs"

echo "- the private key file is removed: an alarm with the remedy, and a new key takes over"
mv "$world/opendkim/keys/$zone/$selector.private" "$world/lost.private"
deadline 30 is_noticed
status_says "signer local: the private key .*/$selector.private is not there"
status_says 'put it back from a backup'
status_says 'a new key takes over'
deadline 60 takes_over
dkimroll history "$zone" >"$world/run.log" 2>&1
expect_log "alarm .*$selector.private is not there"
mv "$world/lost.private" "$world/opendkim/keys/$zone/$selector.private"
deadline 60 is_gone || fail "the old key has no end"
deadline 60 all_is_well
selector=$(signing_selector)

echo "- tables that somebody changes are noticed by the next run, however seldom keys are proved"
sed -i 's/prove-every: 3s/prove-every: 30d/' "$world/policy.yaml"
runs 2s
runs 2s
expect_log 'Nothing is due'
: >"$world/opendkim/SigningTable"
reload
runs 2s
expect_log 'somebody else changed .*SigningTable of signer local'
deadline 30 line_is_back || fail "the line is not back"
[[ $(signing_selector) == "$selector" ]] || fail "another key signs"
expect_status 0 dkimroll status >"$world/run.log"
touch "$world/opendkim/KeyTable"
expect runs 2s
expect_log '0 steps done, 0 failed'
runs 2s
expect_log 'Nothing is due'
sed -i 's/prove-every: 30d/prove-every: 3s/' "$world/policy.yaml"

echo "- lines are removed and nobody reloads: they are back before the signer misses them"
for table in SigningTable KeyTable; do
  dkimroll history "$zone" | grep -c healed >"$world/healed"
  sed -i "/$selector/d" "$world/opendkim/$table"
  runs 14s
  grep -q "$selector" "$world/opendkim/$table" || fail "the line is not back in $table"
  (($(dkimroll history "$zone" | grep -c healed) > $(cat "$world/healed"))) || fail "nobody is told"
  [[ $(signing_selector) == "$selector" ]] || fail "another key signs"
done

echo "- a foreign TXT takes the place of the record: it stays, and a new key takes over"
update "del $selector._domainkey.$zone TXT" "add $selector._domainkey.$zone 1 TXT \"v=DKIM1; p=Zm9yZWlnbg==\""
deadline 20 both_serve Zm9yZWlnbg
deadline 30 is_noticed
status_says "something else stands at $selector._domainkey.$zone"
status_says 'a new key takes over|remove'
first_line_says '^NOT all right: 1 of 1 domain needs attention'
deadline 60 takes_over
both_serve Zm9yZWlnbg || fail "a foreign record was overwritten"
