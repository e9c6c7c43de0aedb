#!/usr/bin/env bash
# Prove finds what makes receivers refuse mail, and names cause and remedy: another private key in the file, a table that points elsewhere, an unsigned sender,
# a signer that is down, name servers that serve something else. An activation with another private key behind the path is taken back.
. "$(dirname "$0")/world.sh"
scenario prove

proves() { dkimroll prove "$@" >"$world/run.log" 2>&1; }
holds_lease() { grep -q "pid $spawned," "$world/state/state.db.lock"; }
reload() { kill -USR1 "$opendkim_pid"; }
tables() { cat "$world/opendkim/KeyTable" "$world/opendkim/SigningTable"; }
update() { { echo "server 127.0.0.1 $primary_port"; printf '%s\n' "$@"; echo send; } | nsupdate -k "$tsig_file"; }
record() { dig +tcp +time=2 +tries=1 +short @"$1" -p "$2" "$selector._domainkey.$zone" TXT; }
none_serves() { [[ -z $(record 127.0.0.1 "$primary_port")$(record 127.0.0.2 "$secondary_port") ]]; }
both_serve() { [[ $(record 127.0.0.1 "$primary_port") == *"$1"* && $(record 127.0.0.2 "$secondary_port") == *"$1"* ]]; }

expect_status 66 proves
expect_log 'nothing has run yet'
expect runs 8s
selector=$(signing_selector)
key=$world/opendkim/keys/$zone/$selector.private

echo "- all is well, also beside a run that holds the lease"
expect_status 0 proves
expect_log "$zone +$selector +local +\*@$zone +signed and verified"
expect_log 'All right: 1 message signed, and verified with what every name server serves'
mkdir "$world/other"
world_spawn "$world/other" "$DKIMROLL" run -p "$world/policy.yaml" --budget 2h
deadline 10 holds_lease
expect_status 0 proves "$zone"
world_stop "$spawned"
expect_status 0 proves --json
"$python" - "$world/run.log" "$zone" "$selector" <<'PY' || fail "prove --json"
import json, sys
document = json.load(open(sys.argv[1]))
key, = document["keys"]
message, = key["messages"]
assert document["ok"] and document["verified"] == 1 and document["failed"] == 0, document
assert key["domain"] == sys.argv[2] and key["selector"] == sys.argv[3] and key["record"].startswith("v=DKIM1; k=ed25519; p="), key
assert len(key["servers"]) == 2 and all(server["right"] for server in key["servers"]), key
assert message["signer"] == "local" and message["verified"] and message["served_by"] and message["error"] is None, message
PY
expect_status 66 proves example.tset
expect_log 'did you mean example.test'
expect_status 64 dkimroll prove --budget 1s 2>"$world/run.log"

echo "- somebody put another private key into the file"
cp -p "$key" "$world/key.kept"
openssl genpkey -algorithm ed25519 2>/dev/null >"$world/key.other"
cat "$world/key.other" >"$key"
expect_status 69 proves
expect_log "$zone +$selector +local +\*@$zone +FAILED"
expect_log "$zone: the signature of mail from .*@$zone with s=$selector is not valid: it does not verify with the key of the record"
expect_log 'remedy: the private key that KeyTable names for this selector does not belong to the record'
expect_log 'NOT all right: 1 of 1 message failed'
dkimroll check >"$world/run.log" 2>&1 && fail "check finds nothing wrong"
expect_log 'it does not verify with the key of the record'
cat "$world/key.kept" >"$key"
expect_status 0 proves

echo "- the table points elsewhere"
cp -p "$world/opendkim/KeyTable" "$world/KeyTable.kept"
cp -p "$world/opendkim/SigningTable" "$world/SigningTable.kept"
echo "other $zone:other:$key" >>"$world/opendkim/KeyTable"
sed -i "1i *@$zone other" "$world/opendkim/SigningTable"
reload
expect_status 69 proves
expect_log "signs mail from .*@$zone with d=$zone s=other, and not with d=$zone s=$selector"
expect_log 'remedy: another line of its SigningTable'

echo "- the sender is not signed for"
: >"$world/opendkim/SigningTable"
reload
expect_status 69 proves
expect_log "lets mail from .*@$zone pass unsigned"
expect_log 'remedy: .dkimroll run. writes lines of dkimroll that are missing; if it stays so, set LogWhy yes in opendkim.conf'
cat "$world/KeyTable.kept" >"$world/opendkim/KeyTable"
cat "$world/SigningTable.kept" >"$world/opendkim/SigningTable"
reload
expect_status 0 proves

echo "- the key file is gone"
mv "$key" "$world/key.moved"
expect_status 69 proves
expect_log "defers mail from .*@$zone"
mv "$world/key.moved" "$key"

echo "- the signer is down"
world_stop "$opendkim_pid"
expect_status 69 proves
expect_log 'milter .*refused'
expect_log 'remedy: '
opendkim_start "$world/opendkim" "$milter_port" "SignatureAlgorithm ed25519-sha256" || exit 1
expect_status 0 proves

echo "- the record was changed to that of another key, then it vanished"
own=$(record 127.0.0.1 "$primary_port")
other=$(openssl pkey -in "$world/key.other" -pubout -outform DER | tail -c 32 | base64)
update "del $selector._domainkey.$zone TXT" "add $selector._domainkey.$zone 1 TXT \"v=DKIM1; k=ed25519; p=$other\""
deadline 20 both_serve "$other"
expect_status 69 proves
expect_log "$zone: .*127.0.0.1:$primary_port.* does not serve the record of $selector: another TXT"
expect_log "$zone: .*127.0.0.2:$secondary_port.* does not serve the record of $selector: another TXT"
expect_log 'it does not verify with the key of the record, with what is served by 127.0.0.1'
update "del $selector._domainkey.$zone TXT"
deadline 20 none_serves
expect_status 69 proves
expect_log 'signed, but no server has the record'
expect_log "does not serve the record of $selector: NXDOMAIN"
update "add $selector._domainkey.$zone 1 TXT $own"
deadline 20 both_serve "p="
expect_status 0 proves

echo "- one name server is down"
world_stop "$knotd_pid"
expect_status 69 proves
expect_log "$zone: .*127.0.0.2:$secondary_port.* gives no usable answer"
expect_log 'NOT all right: 0 of 1 message failed'
world_spawn "$world/secondary" knotd -c "$world/secondary/knot.conf"
deadline 20 soa_answers 127.0.0.2 "$secondary_port" "$zone"
expect_status 0 proves

echo "- the signer sees another private key than dkimroll: the activation is taken back"
world_stop "$opendkim_pid"
next=server-$(date -u +%Y%m%d)-2
cp -a "$world/opendkim/keys/$zone" "$world/seen"
install -o opendkim -g opendkim -m 600 "$world/key.other" "$world/seen/$next.private"
# In a chroot the root directory is no mount point, so nothing can be made private there.
propagation=$(unshare --mount true 2>/dev/null && echo private || echo unchanged)
world_spawn "$world/opendkim" unshare --mount --propagation "$propagation" sh -c 'mount --bind "$1" "$2" && exec opendkim -f -x "$3"' sh "$world/seen" "$world/opendkim/keys/$zone" "$world/opendkim/opendkim.conf"
deadline 20 milter_listens "$milter_port" || exit 1
before=$(tables)
dkimroll rotate "$zone" --budget 10s >"$world/run.log" 2>&1 && fail "it claims success with another private key"
expect_log "taken back: the signature of mail from .*@$zone with s=$next is not valid: it does not verify with the key of the record"
[[ $(tables) == "$before" ]] || fail "the tables are not as they were: $(tables)"
[[ $(signing_selector) == "$selector" ]] || fail "another key signs"
expect_status 0 proves
world_stop "$spawned"
! mountpoint -q "$world/opendkim/keys/$zone" || umount "$world/opendkim/keys/$zone"
