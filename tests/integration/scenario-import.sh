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
publish() { # NAME RECORD: as strings of at most 200 octets
  update "add $1 1 TXT $(fold -w 200 <<<"$2" | sed 's/.*/"&"/' | tr '\n' ' ')" || fail "nsupdate"
  deadline 20 serves "$1"
}
public_of() { openssl pkey -in "$1" -pubout -outform DER 2>/dev/null | base64 -w 0; }
private_key() { # FILE [BITS]
  mkdir -p "$(dirname "$1")"
  openssl genrsa -traditional "${2:-2048}" 2>/dev/null >"$1"
  chown opendkim: "$1"; chmod 600 "$1"
}
entry() { # SENDER-PATTERN NAME VALUE
  printf '\n%s %s\n' "$2" "$3" >>"$world/opendkim/KeyTable"
  printf '\n%s %s\n' "$1" "$2" >>"$world/opendkim/SigningTable"
}
publish server-20260201._domainkey.two.example.test "$(mail txt "$secondary" server-20260201._domainkey.one.example.test)"
entry '*@two.example.test' server-20260201._domainkey.two.example.test two.example.test:server-20260201:"$keys/one.example.test/server-20260201.private"
# keep: a stranger, who is not in the policy, has the same key file.
howto 20260505 2048 keep.example.test
entry '*@stranger.test' stranger "stranger.test:s:$keys/keep.example.test/server-20260505.private"
# One "%" entry serves whoever sends; a stranger uses it too.
private_key "$keys/all.private"
publish all._domainkey.percent.example.test "v=DKIM1; p=$(public_of "$keys/all.private")"
entry '*@percent.example.test' all "%:all:$keys/all.private"
printf '*@foreign.test all\n' >>"$world/opendkim/SigningTable"
# The private key stands in the table itself.
private_key "$world/inline.key" 1024
publish in._domainkey.inline.example.test "v=DKIM1; k=rsa; p=$(public_of "$world/inline.key")"
entry '*@inline.example.test' inline "inline.example.test:in:$(openssl rsa -in "$world/inline.key" -traditional -outform DER 2>/dev/null | base64 -w 0)"
# A name and a directory that are not the policy's.
private_key "$world/elsewhere/odd.key"
publish sel._domainkey.odd.example.test "v=DKIM1; k=rsa; s=email; p=$(public_of "$world/elsewhere/odd.key")"
entry '*@odd.example.test' odd "odd.example.test:sel:$world/elsewhere/odd.key"
# wrong: the record is that of another key. lost: it is not there.
private_key "$keys/wrong.example.test/mail.private"
publish mail._domainkey.wrong.example.test "v=DKIM1; k=rsa; p=$(public_of "$keys/all.private")"
entry '*@wrong.example.test' mail._domainkey.wrong.example.test "wrong.example.test:mail:$keys/wrong.example.test/mail.private"
howto 20260606 2048 lost.example.test
withdraw server-20260606._domainkey.lost.example.test
# side: one more sender, whom the policy does not know. caught: a pattern that takes more than the domain.
howto 20260607 2048 side.example.test
printf 'info@sideways.example.test server-20260607._domainkey.side.example.test\n' >>"$world/opendkim/SigningTable"
howto 20260608 2048 caught.example.test
sed -i 's/^\*@caught.example.test /*@caught.* /' "$world/opendkim/SigningTable"
# A file of some other program lies beside the keys.
private_key "$keys/old.example.test/rspamd.private"

reload

lines=''
for domain in old weak one two orphan keep percent inline odd wrong lost side caught; do
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

[[ $(tables) == "$before" ]] || fail "import changed a table"
says() { # DOMAIN PATTERN...: the paragraph of the domain
  local domain=$1 pattern
  shift
  sed -n "/^$domain\$/,/^[^ ]/p" "$world/run.log" >"$world/paragraph"
  for pattern; do grep -qE -- "$pattern" "$world/paragraph" || fail "of $domain the output does not say: $pattern"; done
}
says old.example.test 'signs today +server-20260101 +rsa 2048, since 2026-01-01 by its name' 'served by 2 of 2 servers and belongs' \
  'a message of each sender was signed with it' '-> becomes active' 'never signs +server-20260401' 'below the line of server-20260101: the first match signs' \
  'never signs +server-20260701' 'no server has its record' '-> becomes retired; its lines and its file go'
says weak.example.test 'rsa 1024 \(weak' 'a new key follows at once'
says orphan.example.test 'never signs +server-20260202' 'no line of the SigningTable names it'
says two.example.test 'its private key file is also that of one.example.test'
expect_log '8 keys found: 5 active, 3 retired'
expect_log 'Nothing was changed'
[[ -e $world/state/state.db ]] && fail "import made a store"
dkimroll check old.example.test >"$world/run.log" 2>&1
expect_log 'dkimroll import'
grep -q 'did not write that line' "$world/run.log" && fail "check says that the line is in the way"

echo "- --apply takes over, twice is once"
expect imports --apply
[[ $(tables) == "$before" ]] || fail "import --apply changed a table"
expect_log '5 active, 3 retired'
states >"$world/states"
expect imports --apply
expect_log 'There was nothing to take over'
states | cmp -s - "$world/states" || fail "a second import changed something"
dkimroll history old.example.test | grep -q 'imported' || fail "the history does not tell of the import"

echo "- rotations under constant mail"
domains=(old.example.test weak.example.test one.example.test two.example.test orphan.example.test)
"$python" "$here/load.py" "$milter" "$secondary" 40 8 4 "${domains[@]}" >"$world/load.log" 2>&1 &
load=$!
dkimroll run --budget 30s >"$world/run.log" 2>&1 || fail "a run failed"
wait "$load" || { cat "$world/load.log"; fail "mail was lost"; }
cat "$world/load.log"
grep -E ': failed|alarm|: lost' "$world/run.log" && fail "something failed"
states | sort >"$world/states"
cat "$world/states"
