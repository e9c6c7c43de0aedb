#!/usr/bin/env bash
# Zones as they are found in the field, all of them in one run: a wildcard TXT, inline-signed, a foreign TXT and a CNAME where the first selector would be, a DNAME into
# a provider's zone, and one that is not dynamic, which fails alone and heals. A server of one zone is dead over IPv6 and holds that key back, by name. The tables hold
# lines of others in every formatting, which stay octet for octet; opendkim is reloaded by a command; the private key is archived.
. "$(dirname "$0")/world.sh"
world_begin zones
usual_world example.test 1 1 || exit 1
world_stop "$named_pid"
world_stop "$knotd_pid"
today=server-$(date -u +%Y%m%d)
zones=(wild inline foreign alias dname static)

# ---- the servers ----
zone_of() { zone_file "$1.test" 1 1; }
{ zone_of wild; echo '* 2 IN TXT "anything"'; echo '*._domainkey 2 IN TXT "v=DKIM1; p=wild"'; } >"$world/primary/wild.test.zone"
{ zone_of foreign; echo "$today._domainkey IN TXT \"v=DKIM1; k=rsa; p=SomeoneElse\""; } >"$world/primary/foreign.test.zone"
{ zone_of alias; echo "$today._domainkey IN CNAME alias.dkim.example.test."; } >"$world/primary/alias.test.zone"
{ zone_of dname; echo "_domainkey IN DNAME dname.dkim.example.test."; } >"$world/primary/dname.test.zone"
zone_of inline >"$world/primary/inline.test.zone"
zone_of static >"$world/primary/static.test.zone"
transfer="also-notify { 127.0.0.2 port $secondary_port; }; notify explicit; notify-delay 0; allow-transfer { 127.0.0.0/8; ::1; };"
grants() { echo "update-policy { grant dkim-key wildcard *._domainkey.$1. TXT; };"; }
config="include \"$tsig_file\";
zone \"example.test\" { type primary; file \"example.test.zone\"; $transfer update-policy { grant dkim-key wildcard *.dkim.example.test. TXT; grant dkim-key wildcard *._domainkey.example.test. TXT; }; };"
remotes='' knot_zones='' lines=''
for name in "${zones[@]}"; do
  more=$(grants "$name.test")
  [[ $name != inline ]] || more+=' dnssec-policy default; inline-signing yes;'
  [[ $name != static ]] || more='/* not dynamic */'
  config+="
zone \"$name.test\" { type primary; file \"$name.test.zone\"; $transfer $more };"
  lines+="  $name.test: {policy: standard, publisher: primary, signers: [local]}"$'\n'
done
for name in example "${zones[@]}"; do
  knot_zones+="
  - domain: $name.test
    storage: $world/secondary
    master: primary
    acl: notify"
done
named_start "$world/primary" 127.0.0.1 "$primary_port" "$config" || exit 1
secondary_start "$knot_zones" example.test || exit 1

# ---- tables of a host that has seen many hands ----
world_stop "$opendkim_pid"
others=$world/opendkim/others.private
openssl genpkey -algorithm ed25519 -out "$others" 2>/dev/null
chown opendkim:opendkim "$others"
chmod 600 "$others"
printf '# keys of others\r\n\n  mail._domainkey.others.test \t others.test:mail:%s\r\n\t\n# the end, without a newline' "$others" >"$world/opendkim/KeyTable"
printf '\r\n*@others.test\t\tmail._domainkey.others.test\r\n#*@wild.test nobody\n\n*@more.others.test mail._domainkey.others.test' >"$world/opendkim/SigningTable"
cp "$world/opendkim/KeyTable" "$world/KeyTable.before"
cp "$world/opendkim/SigningTable" "$world/SigningTable.before"
opendkim_start "$world/opendkim" "$milter_port" "SignatureAlgorithm ed25519-sha256" || exit 1
six_port=$(free_ports 127.0.0.1)
usual_policy "${SHORT_RULES/private-key: destroy/private-key: archive, archive-directory: $world/archive/%d}" \
  "$lines  example.test: {policy: standard, publisher: six, signers: [local]}" |
  sed "s|reload: .*|reload: {command: [/bin/kill, -USR1, \"$opendkim_pid\"]}|
       s|^signers:|  six: {server: \"$primary\", tsig-file: $tsig_file, servers: [\"$primary\", \"$secondary\", \"[::1]:$six_port\"]}\n&|" >"$world/policy.yaml"

selector_of() { sqlite_query "SELECT selector FROM key WHERE domain = '$1.test' AND state = 4"; }
signs_and_verifies() { # NAME SELECTOR
  mail sign "$milter" "anna@$1.test" >"$world/proof.eml" || fail "opendkim does not sign for $1.test"
  [[ $(mail verify "$secondary" "$world/proof.eml") == "$2" ]] || fail "$1.test is not signed by $2, or that does not verify"
}
txt() { dig +tcp +time=2 +tries=1 +short @127.0.0.1 -p "$primary_port" "$1" TXT; }
# What is left of a table without dkimroll's lines.
foreign_lines() { grep -avE '^[^#]*(wild|inline|foreign|alias|dname|static|example)\.test' "$1"; }

echo "- all zones in one run; the one that is not dynamic fails alone"
# A selector that is taken costs the pause after a first failure, 15 to 19 s.
expect_status 75 runs 30s
expect_log 'static.test.*(REFUSED|NOTAUTH)'
expect_log "foreign.test.*is taken in DNS already: .* says v=DKIM1; k=rsa; p=SomeoneElse"
for name in wild inline dname alias; do signs_and_verifies "$name" "$today"; done
signs_and_verifies foreign "$today-2"
[[ $(txt "$today._domainkey.foreign.test") == *SomeoneElse* ]] || fail "the TXT of others was touched"
[[ $(dig +short +tcp @127.0.0.1 -p "$primary_port" "$today._domainkey.alias.test" CNAME) == alias.dkim.example.test. ]] || fail "the CNAME of others was touched"
for owner in "$today.dname.dkim.example.test" alias.dkim.example.test; do
  [[ $(txt "$owner") == *DKIM1* ]] || fail "the record at the end of an alias is not in the provider's zone: $owner"
done
[[ $(dig +short +tcp +dnssec @127.0.0.2 -p "$secondary_port" "$today._domainkey.inline.test" TXT) == *TXT* ]] || fail "no signature in the signed zone"
dkimroll status >"$world/run.log" 2>&1
expect_log '^NOT all right'
expect_log 'static.test: .*zone static.test is not dynamic there'
expect_log 'grant dkim-key. wildcard \*._domainkey.static.test. TXT'

echo "- a server that is dead over IPv6 holds its key back; status says which, since when, and what it answered"
dkimroll status example.test >"$world/run.log" 2>&1
expect_log "$today: published since"
expect_log "waits for +\[::1\]:$six_port does not serve the record: Connection refused, at .* UTC, published .* UTC"
expect_log "server +\[::1\]:$six_port: WRONG: Connection refused; asked"
expect_log "server +$secondary: right since"
expect_not grep -q '@example.test' "$world/opendkim/SigningTable"

echo "- the lines of others are as they were"
for table in KeyTable SigningTable; do
  # Nothing but the end of the last line, which had none, may have come to them.
  size=$(stat -c %s "$world/$table.before")
  foreign_lines "$world/opendkim/$table" >"$world/$table.others"
  cmp -n "$size" "$world/$table.before" "$world/$table.others" && [[ -z $(tail -c "+$((size + 1))" "$world/$table.others" | tr -d '\r\n') ]] ||
    fail "$table: lines of others were changed: $(cat -A "$world/opendkim/$table")"
done
mail sign "$milter" anna@others.test >"$world/proof.eml" || fail "mail of others is not signed any more"

echo "- it heals: the zone becomes dynamic, and a server comes up at the IPv6 address"
sed -i "s|/\* not dynamic \*/|$(grants static.test)|" "$world/primary/named.conf"
kill -HUP "$named_pid"
deadline 10 grep -q 'reloading configuration succeeded' "$world/primary/log"
mkdir -p "$world/six"
sed "s|listen: .*|listen: ::1@$six_port|; s|rundir: .*|rundir: $world/six|; s|storage: .*|storage: $world/six|; /via: /d" "$world/secondary/knot.conf" >"$world/six/knot.conf"
world_spawn "$world/six" knotd -c "$world/six/knot.conf"
deadline 20 soa_answers ::1 "$six_port" example.test
dkimroll rotate static.test example.test --budget 12s >"$world/run.log" 2>&1 || fail "it did not heal"
signs_and_verifies static "$(selector_of static)"
signs_and_verifies example "$(selector_of example)"

echo "- a rotation in each zone, to the end of the old key, which is archived"
dkimroll rotate wild.test inline.test foreign.test alias.test dname.test --budget 20s >"$world/run.log" 2>&1 || fail rotate
expect runs 15s
signs_and_verifies wild "$today-2"
signs_and_verifies inline "$today-2"
signs_and_verifies foreign "$today-3"
signs_and_verifies alias "$today-2"
signs_and_verifies dname "$today-2"
for owner in "$today.dname.dkim.example.test" alias.dkim.example.test; do
  [[ -z $(txt "$owner") ]] || fail "the old record at the end of an alias is still there: $owner"
done
[[ $(txt "$today._domainkey.wild.test") == *p=wild* ]] || fail "the wildcard does not answer for the old name again"
expect_not test -e "$world/opendkim/keys/wild.test/$today.private"
[[ $(find "$world/archive/wild.test" -type f | wc -l) == 1 ]] || fail "the private key was not archived: $(find "$world/archive")"
exit 0
