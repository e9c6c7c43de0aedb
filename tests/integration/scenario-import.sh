#!/usr/bin/env bash
# A host that a shell script of the OpenDKIM how-tos made: at each run it appended a blank line and an entry to KeyTable and to SigningTable, so that the oldest line signs although
# the newest key was meant. `import` tells all that, changes nothing, and `import --apply` takes over; rotations under constant mail lose no message, what the script left behind
# goes, lines of others stay octet for octet, and a store that is lost is made again.
. "$(dirname "$0")/world.sh"
world_begin import
usual_world example.test 1 1 || exit 1
keys=$world/opendkim/keys
mkdir -p "$world/state"

# One zone holds all domains.
sed -i 's|grant dkim-key wildcard \*._domainkey.example.test. TXT;|grant dkim-key subdomain example.test. TXT;|' "$world/primary/named.conf"
kill -HUP "$named_pid"
update() { { echo "server 127.0.0.1 $primary_port"; printf '%s\n' "$@"; echo send; } | nsupdate -k "$tsig_file"; }
deadline 20 update "add probe.example.test 1 TXT x"
update "del probe.example.test TXT"
serves() { mail txt "$secondary" "$1" | grep -q .; }
serves_none() { ! serves "$1"; }
reload() { kill -USR1 "$opendkim_pid"; }
tables() { sha256sum "$world/opendkim/KeyTable" "$world/opendkim/SigningTable"; }
imports() { dkimroll import "$@" >"$world/run.log" 2>&1; }

# The script of the how-to, with the date and the size of its keys as arguments, and what it does about DNS.
# howto DATE BITS DOMAIN: a new key, its record by nsupdate, lines appended.
howto() {
  local selector=server-$1 bits=$2 domain=$3 record
  mkdir -p "$keys/$domain"
  opendkim-genkey -b "$bits" -d "$domain" -s "$selector" -D "$keys/$domain" || fail "opendkim-genkey"
  chown -R opendkim:opendkim "$keys/$domain"
  chmod 600 "$keys/$domain/$selector.private"
  record=$(sed -e ':a;N;$!ba;s/[^(]*(//;s/).*//;s/[\n\t]/ /g' "$keys/$domain/$selector.txt")
  update "add $selector._domainkey.$domain 1 TXT $record" || fail "nsupdate"
  echo "" >>"$world/opendkim/KeyTable"
  echo "$selector._domainkey.$domain $domain:$selector:$keys/$domain/$selector.private" >>"$world/opendkim/KeyTable"
  echo "" >>"$world/opendkim/SigningTable"
  echo "*@$domain $selector._domainkey.$domain" >>"$world/opendkim/SigningTable"
  deadline 20 serves "$selector._domainkey.$domain"
}
withdraw() { update "del $1 TXT"; deadline 20 serves_none "$1"; }

printf '# the tables of this host\ntheirs._domainkey.other.test other.test:theirs:%s\n' "$keys/other.private" >"$world/opendkim/KeyTable"
printf '# who signs with what\n*@other.test theirs._domainkey.other.test # not ours\n' >"$world/opendkim/SigningTable"
openssl genrsa 2048 2>/dev/null >"$keys/other.private"
chown opendkim: "$keys/other.private"; chmod 600 "$keys/other.private"

# old.example.test: three runs; the newest record never came into DNS. weak: 1024 bits.
howto 20260101 2048 old.example.test
howto 20260401 2048 old.example.test
howto 20260701 2048 old.example.test
withdraw server-20260701._domainkey.old.example.test
howto 20260301 1024 weak.example.test
# Two domains share one key file, and an orphan that no SigningTable line names.
howto 20260201 2048 one.example.test
howto 20260202 2048 orphan.example.test
sed -i '/^\*@orphan.example.test/d' "$world/opendkim/SigningTable"
howto 20260303 2048 orphan.example.test
record=$(mail txt "$secondary" server-20260201._domainkey.one.example.test | sed 's/.\{200\}/& /g')
update "add server-20260201._domainkey.two.example.test 1 TXT $(for part in $record; do :; done; mail txt "$secondary" server-20260201._domainkey.one.example.test | fold -w 200 | sed 's/.*/"&"/' | tr '\n' ' ')"
deadline 20 serves server-20260201._domainkey.two.example.test
printf '\nserver-20260201._domainkey.two.example.test two.example.test:server-20260201:%s\n' "$keys/one.example.test/server-20260201.private" >>"$world/opendkim/KeyTable"
printf '\n*@two.example.test server-20260201._domainkey.two.example.test\n' >>"$world/opendkim/SigningTable"
reload

lines=''
for domain in old weak one two orphan; do
  lines+="  $domain.example.test: {policy: standard, publisher: primary, signers: [local]}"$'\n'
done
usual_policy '    selector: "server-%Y%m%d"
    keys: {main: {algorithm: rsa, bits: 2048}}
    rotate-every: 90d
    publish: {ttl: 1s, safety: 1s}
    confirm: {sightings: 2, every: 1s, warn-after: 1m}
    retire: {queue-lifetime: 1s, queue-backoff: 1s, drain: 6s, verify-window: 2s, safety: 1s, tombstone: 2s, private-key: destroy}' "$lines" >"$world/policy.yaml"

echo "- the first look changes nothing"
before=$(tables)
expect imports
cat "$world/run.log"
[[ $(tables) == "$before" ]] || fail "import changed a table"
