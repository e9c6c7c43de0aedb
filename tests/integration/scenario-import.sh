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
# some: one sender has a key of his own, by a line above. vanished: the key file is lost. typo: the line names a key that there is none of.
private_key "$keys/some.example.test/info.private"
publish info._domainkey.some.example.test "v=DKIM1; k=rsa; p=$(public_of "$keys/some.example.test/info.private")"
entry info@some.example.test info._domainkey.some.example.test some.example.test:info:"$keys/some.example.test/info.private"
howto 20260609 2048 some.example.test
howto 20260610 2048 vanished.example.test
rm "$keys/vanished.example.test/server-20260610.private"
howto 20260611 2048 typo.example.test
sed -i 's/ server-20260611/ server-20261106/' "$world/opendkim/SigningTable"
# A file of some other program lies beside the keys.
private_key "$keys/old.example.test/rspamd.private"

reload

lines=''
for domain in old weak one two orphan keep percent inline odd wrong lost side caught some vanished typo; do
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
  'a message of each sender was signed with it' '-> becomes active; a new key follows at once, because this one is older than rotate-every' \
  'never signs +server-20260401' 'below the line of server-20260101: the first match signs' \
  'never signs +server-20260701' 'no server has its record' '-> becomes retired; its lines and its file go' 'rspamd.private, which no table names' \
  'is left alone; its selector is never used again'
says weak.example.test 'rsa 1024 \(weak' 'a new key follows at once, because this one is weak'
says orphan.example.test 'never signs +server-20260202' 'no line of the SigningTable names it'
says two.example.test 'its private key file is also that of one.example.test'
says keep.example.test 'its private key file is also that of stranger.test'
says percent.example.test 'signs today +all' '"%" for any domain' '-> becomes active'
says inline.example.test 'with the private key in the table itself' 'rsa 1024' '-> becomes active'
says odd.example.test 'signs today +sel' '-> becomes active'
says wrong.example.test 'its record DOES NOT BELONG to its private key' 'that record stays, since it may be somebody' 'a new key follows at once, because no mail that it signs verifies'
says lost.example.test 'no server has its record' '-> becomes active; its record is published by the next run'
says side.example.test '-> is left alone: .*"info@sideways.example.test", which is no sender of side.example.test' 'remedy: add that pattern to the senders'
says caught.example.test '-> is left alone: .*"\*@caught.\*"' 'remedy: write "\*@caught.example.test server-20260608._domainkey.caught.example.test" in its place'
says some.example.test 'signs some +info' 'SigningTable line [0-9]+ \(info@some.example.test\)$' '-> is left alone: .*"info@some.example.test", which is no sender' \
  'remedy: add that pattern to the senders of some.example.test in the policy, or point the line at another key'
gone=$(grep -n '^\*@vanished' "$world/opendkim/SigningTable" | cut -d: -f1)
says vanished.example.test '-> is left alone: .*/server-20260610.private: cannot open: No such file or directory, so mail of vanished.example.test is deferred' \
  "remedy: put the key back from a backup and import again; if there is none, remove SigningTable line $gone \\(\*@vanished.example.test\\)"
says typo.example.test 'names server-20261106._domainkey.typo.example.test, which .*/KeyTable does not have: mail of .* is deferred' 'remedy: correct that line' \
  'never signs +server-20260611' '-> is left alone: the line of typo.example.test has to be put right first'
expect_log 'KeyTable has keys of 2 domains that are not in the policy: other.test, stranger.test. They stay as they are.'
expect_log '21 keys found: 12 active, 3 retired, 1 with a reserved selector, 0 known already, 5 left alone'
expect_log 'Nothing was changed'
[[ -e $world/state/state.db ]] && fail "import made a store"
dkimroll check old.example.test >"$world/run.log" 2>&1
expect_log 'WARNING +old.example.test: a line of your own signs for it: SigningTable .*, line 4'
expect_log 'remedy: run `dkimroll import`'
grep -q 'did not write that line' "$world/run.log" && fail "check says that the line is in the way"

echo "- an import of one domain; what the signer does not do is not adopted"
expect_status 66 imports unknown.example.test
expect imports odd.example.test
expect_log '1 key found: 1 active'
sed -i 's/^\*@odd.example.test odd/*@odd.example.test all/' "$world/opendkim/SigningTable"
expect imports odd.example.test
says odd.example.test 'signs today +all' '-> is left alone: ' 's=sel'
sed -i 's/^\*@odd.example.test all/*@odd.example.test odd/' "$world/opendkim/SigningTable"
# As ProtectHome= of its unit hides /home from the keeper. In a chroot the root directory is no mount point, so nothing can be made private there.
propagation=$(unshare --mount true 2>/dev/null && echo private || echo unchanged)
expect unshare --mount --propagation "$propagation" sh -c 'mount -t tmpfs none "$1" && exec "$2" import -p "$3" odd.example.test >"$4" 2>&1' sh "$world/elsewhere" "$DKIMROLL" \
  "$world/policy.yaml" "$world/run.log"
! mountpoint -q "$world/elsewhere" || umount "$world/elsewhere"
says odd.example.test '-> is left alone: .*/odd.key: cannot open: No such file or directory, although mail of odd.example.test is signed with it' 'remedy: do not remove anything'

echo "- the remedies are followed"
sed -i 's/^\*@caught\.\*/*@caught.example.test/' "$world/opendkim/SigningTable"
sed -i 's/  side.example.test: {/&senders: ["*@side.example.test", "info@sideways.example.test"], /' "$world/policy.yaml"
sed -i 's/^info@some.*/info@some.example.test server-20260609._domainkey.some.example.test/; /^\*@vanished/d; s/ server-20261106/ server-20260611/' "$world/opendkim/SigningTable"
sed -i 's/  some.example.test: {/&senders: ["*@some.example.test", "info@some.example.test"], /' "$world/policy.yaml"
reload
expect imports
expect_log '21 keys found: 15 active, 5 retired, 1 with a reserved selector, 0 known already, 0 left alone'

echo "- a signer that no domain of the policy uses any more"
mkdir -p "$world/former/KeyTable"
sed "s|^signers:|&\n  former: {key-table: \"$world/former/KeyTable\", signing-table: \"refile:$world/former/SigningTable\", key-directory: \"$keys/%d\", milter: \"unix:$world/former/socket\"}|" \
  "$world/policy.yaml" >"$world/former.yaml"
"$DKIMROLL" import -p "$world/former.yaml" >"$world/run.log" 2>&1 || fail "import fails for a signer that nobody uses"
expect_log "signer former: .*$world/former/KeyTable.*No domain signs there by the policy; lines that were left there are not seen."
rmdir "$world/former/KeyTable"
grep '\(odd\|stranger\)' "$world/opendkim/KeyTable" >"$world/former/KeyTable"
grep '^\*@odd' "$world/opendkim/SigningTable" >"$world/former/SigningTable"
"$DKIMROLL" import -p "$world/former.yaml" >"$world/run.log" 2>&1 || fail "import fails for a signer that was left"
expect_log "$world/former/KeyTable has keys of 1 domain that is not in the policy: stranger.test. They stay as they are."
expect_log "$world/former/KeyTable has keys of 1 domain that is not to sign there by the policy: odd.example.test. .* remove their lines from both tables"
expect imports odd.example.test

echo "- lines that somebody removes are written again under the names that were found"
# By a policy and a store of their own, in which nothing else is due.
mkdir "$world/two"
sed -e "s|$world/state/|$world/two/|" -e '/^  [a-z]*\.example\.test: /{/^  odd\./b; /^  percent\./b; d}' "$world/policy.yaml" >"$world/two.yaml"
two() { "$DKIMROLL" "$1" -p "$world/two.yaml" "${@:2}" >"$world/run.log" 2>&1; }
lines_of() { sort "$world/opendkim/KeyTable" "$world/opendkim/SigningTable"; }
expect two import --apply
expect_log '2 keys found: 2 active'
expect two run --budget 1s
lines_before=$(lines_of)
sed -i '/^odd /d' "$world/opendkim/KeyTable"
sed -i '/^\*@percent/d' "$world/opendkim/SigningTable"
reload
mended() { two run --budget 2s; [[ $(lines_of) == "$lines_before" ]]; }
deadline 20 mended || { diff <(lines_of) - <<<"$lines_before"; fail "the lines are not as they were"; }
expect two prove
rm -r "$world/two"
before=$(tables)

echo "- --apply takes over, twice is once"
expect imports --apply
[[ $(tables) == "$before" ]] || fail "import --apply changed a table"
expect_log '15 active, 5 retired'
expect_log 'Taken over; no table and no record was changed'
states >"$world/states"
expect imports --apply
expect_log 'There was nothing to take over'
states | cmp -s - "$world/states" || fail "a second import changed something"
dkimroll history old.example.test | grep -qE 'server-20260101: imported \(signs by SigningTable line 4' || fail "the history does not tell of the import"
dkimroll check old.example.test odd.example.test percent.example.test >"$world/run.log" 2>&1 || fail "check finds fault with what was adopted"
expect_log 'the private key belongs to the record'
dkimroll prove old.example.test odd.example.test percent.example.test inline.example.test >"$world/run.log" 2>&1 || fail "what was adopted is not proved"

echo "- rotations under constant mail"
domains=()
for domain in old weak one two orphan keep percent inline odd side caught some typo; do domains+=("$domain.example.test"); done
theirs() { grep -hvE '^$|example\.test' "$world/opendkim/KeyTable" "$world/opendkim/SigningTable"; }
theirs_before=$(theirs)
inline_before=$(grep '^inline ' "$world/opendkim/KeyTable")
"$python" "$here/load.py" "$milter" "$secondary" 50 8 4 "${domains[@]}" >"$world/load.log" 2>&1 &
load=$!
# Two whose age nobody knows are not due yet.
dkimroll rotate --no-wait percent.example.test odd.example.test >"$world/run.log" 2>&1 || fail "rotate failed"
dkimroll run --budget 60s >"$world/run.log" 2>&1 &
run=$!
# The record of another key that import found is not ours to take away: a person does, once it is told, and the run that tells goes on.
foreign='another TXT record stands at mail._domainkey.wrong.example.test'
deadline 60 grep -q "$foreign" "$world/run.log" || fail "nobody is told of the record of another key"
update "del mail._domainkey.wrong.example.test TXT" || fail "nsupdate"
wait "$run"
wait "$load" || { cat "$world/load.log"; fail "mail was lost"; }
cat "$world/load.log"
grep -E '^error|: failed|alarm|: lost' "$world/run.log" | grep -v "$foreign" && fail "something failed"
expect dkimroll run --budget 5s

echo "- what the script left behind is gone, what others have is as it was"
[[ $(theirs) == "$theirs_before" ]] || fail "a line of others was changed"
[[ $(grep '^inline ' "$world/opendkim/KeyTable") == "$inline_before" ]] || fail "the entry that holds a key was changed"
today=server-$(date +%Y%m%d)
for domain in "${domains[@]}" wrong.example.test lost.example.test vanished.example.test; do
  grep -qx "\*@$domain $today._domainkey.$domain" "$world/opendkim/SigningTable" || fail "$domain was not switched"
  [[ $(grep -c "$domain" "$world/opendkim/KeyTable") == $([[ $domain == inline* || $domain == keep* ]] && echo 2 || echo 1) ]] ||
    fail "KeyTable has old entries of $domain"
  [[ $(grep -c "@$domain" "$world/opendkim/SigningTable") == $([[ $domain == some* ]] && echo 2 || echo 1) ]] || fail "SigningTable has old lines of $domain"
  for selector in "$keys/$domain"/*.private; do
    selector=${selector##*/}
    [[ $selector == "$today.private" || $selector == rspamd.private || $domain == keep* ]] || fail "$domain still has $selector"
  done
  mail sign "$milter" "anna@$domain" >"$world/proof.eml" || fail "opendkim did not sign for $domain"
  [[ $(mail verify "$secondary" "$world/proof.eml") == "$today" ]] || fail "mail of $domain does not verify with $today"
done
for name in server-20260101._domainkey.old server-20260401._domainkey.old server-20260301._domainkey.weak server-20260201._domainkey.one server-20260201._domainkey.two \
  server-20260202._domainkey.orphan all._domainkey.percent in._domainkey.inline sel._domainkey.odd mail._domainkey.wrong server-20260606._domainkey.lost info._domainkey.some server-20260610._domainkey.vanished; do
  expect serves_none "$name.example.test"
done
[[ -e $keys/keep.example.test/server-20260505.private ]] || fail "the key file of a stranger was destroyed"
[[ -e $keys/all.private ]] || fail "the key file of an entry for any domain was destroyed"
[[ -e $world/elsewhere/odd.key || -e $keys/one.example.test/server-20260201.private ]] && fail "a key file that nobody names was kept"
mail sign "$milter" "anna@stranger.test" >"$world/proof.eml" || fail "opendkim does not sign for the stranger any more"
[[ $(states | grep -c ' 4$') == 16 && -z $(states | grep -v ' [47]$') ]] || { states; fail "states"; }

echo "- the store is lost, with one key on its way out and one that no table names any more"
dkimroll rotate old.example.test weak.example.test --budget 5s >"$world/run.log" 2>&1 || fail "rotate failed"
grep -qx "\*@old.example.test $today-2._domainkey.old.example.test" "$world/opendkim/SigningTable" || fail "old.example.test was not rotated"
sed -i "/^$today\._domainkey\.weak/d" "$world/opendkim/KeyTable"
rm -r "$world/state"
expect imports --apply
says old.example.test "signs today +$today-2" "-> becomes active; the next rotation" "never signs +$today " '-> becomes retired' 'rspamd.private, which no table names'
says weak.example.test "signs today +$today-2" "file only +$today " '-> becomes retired; its record, then its file go'
# The entry that holds a key itself is still there.
expect_log '20 keys found: 16 active, 3 retired, 1 with a reserved selector'
expect runs 20s
[[ $(states | grep -c ' 4$') == 16 && -z $(states | grep -v ' [47]$') ]] || { states; fail "states after the store was made again"; }
expect serves_none "$today._domainkey.old.example.test"
[[ -e $keys/weak.example.test/$today.private ]] && fail "a key that is over was kept"
dkimroll rotate old.example.test --budget 5s >"$world/run.log" 2>&1 || fail "life does not go on"
grep -qx "\*@old.example.test $today-3._domainkey.old.example.test" "$world/opendkim/SigningTable" || fail "a selector was used twice"
dkimroll prove >"$world/run.log" 2>&1 || fail "the proofs fail"
dkimroll status >"$world/run.log" 2>&1 || fail "status finds fault"
expect_log 'All right'
