#!/usr/bin/env bash
# The demo: one whole life of a DKIM key, for real, on loopback, in about a minute. Nothing outside of a temporary folder is touched.
. "$(dirname "$0")/world.sh"

bold=$'\e[1m' plain=$'\e[0m'
[[ -t 1 ]] || bold='' plain=''
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
show() { sed 's/^/    /'; }
fail() { echo "demo: $*" >&2; exit 1; }

world_begin demo
zone=example.test
say "1. A mail host in $world: named (primary), knotd (secondary by AXFR and NOTIFY), opendkim. Zone $zone has no DKIM key."
usual_world "$zone" 2 2 || fail "the servers did not start"
echo "    named on $primary, knotd on $secondary, opendkim's milter on $milter"

usual_policy '    selector: "server-%Y%m%d"
    keys: {main: {algorithm: rsa, bits: 2048}}
    rotate-every: 1h
    publish: {ttl: 2s, safety: 1s}
    confirm: {sightings: 2, every: 1s, warn-after: 1m}
    retire: {queue-lifetime: 4s, queue-backoff: 1s, drain: 2s, verify-window: 4s, safety: 1s, tombstone: 6s, private-key: destroy}' \
  "  $zone: {policy: standard, publisher: primary, signers: [local]}" >"$world/policy.yaml"
say "2. The policy. Times are seconds here; in real life they are hours and days."
sed -n '/^policies:/,$p' "$world/policy.yaml" | show
dkimroll() { "$DKIMROLL" "$1" --policy "$world/policy.yaml" "${@:2}" 2>&1; }

# proof FILE: signs a message with the real opendkim, verifies it against the secondary with python3-dkim, prints how.
proof() {
  mail sign "$milter" "anna@$zone" >"$1" || fail "opendkim did not sign"
  selector=$(mail verify "$secondary" "$1") || fail "the signature of $selector does not verify against $secondary"
  echo "    opendkim signed with s=$selector; python3-dkim verifies it against what the secondary $secondary serves: good"
}
verifies() { mail verify "$secondary" "$1" >/dev/null 2>&1; }
record() { mail txt "$secondary" "$1._domainkey.$zone" | cut -c 1-72; }

say "3. dkimroll run: makes a key, publishes it, waits until both servers serve it and no cache can deny it, then signs with it."
# It ends long before: when the next step lies beyond the budget.
dkimroll run --budget 60s | show
proof "$world/first.eml"
first=$selector

say "4. dkimroll rotate $zone: a new key the same careful way; the old one signs until the new one is proved."
dkimroll rotate "$zone" --budget 8s | show
# What a slow machine did not finish is done by the next runs, as in real life.
for ((pass = 0; pass < 60; pass++)); do
  grep -q "$first._domainkey" "$world/opendkim/SigningTable" || break
  dkimroll run --budget 1s | grep -v '^Nothing is due\|^0 steps' | show
done
proof "$world/second.eml"
second=$selector
[[ $first != "$second" ]] || fail "the selector did not change"
verifies "$world/first.eml" || fail "the message signed with $first does not verify any more"
echo "    the message that $first signed before still verifies: its record stays until no mail can be on its way"

say "5. dkimroll run again, as its timer would: once no mail of the old key can be on its way, it is revoked."
# Short runs, so that a slow machine shows the tombstone too, and not only its end.
for ((pass = 0; pass < 60; pass++)); do
  dkimroll run --budget 1s | grep -v '^Nothing is due\|^0 steps' | show
  [[ $(record "$first") != *"p=" ]] || break
  read -rt 0.5 <> <(:) || :
done
[[ $(record "$first") == *"p=" ]] || fail "$first is not revoked: $(record "$first")"
echo "    $first._domainkey.$zone now says: $(record "$first")   (empty p= means revoked, RFC 6376 3.6.1)"
verifies "$world/first.eml" && fail "a message of the revoked key still verifies"
echo "    and the message that it signed does not verify any more"

say "6. Later the tombstone and the private key go too."
for ((pass = 0; pass < 60; pass++)); do
  dkimroll run --budget 8s | grep -v '^Nothing is due\|^0 steps' | show
  [[ -e $world/opendkim/keys/$zone/$first.private ]] || break
done
[[ -z $(record "$first") ]] || fail "$first is still there: $(record "$first")"
[[ ! -e $world/opendkim/keys/$zone/$first.private ]] || fail "the private key of $first is still there"
echo "    no record and no private key of $first are left; $second signs on:"
proof "$world/third.eml"
[[ $selector == "$second" ]] || fail "$selector signs, not $second"

say "7. dkimroll status"
dkimroll status | show

say "That was one life: made, published, confirmed on every server, activated and proved, retired, revoked, removed."
cat <<TEXT
    For your own server:
      make deb && sudo apt install ./build/dkimroll_*.deb
      less README.md                          # "On your own server": the few lines for BIND or Knot, OpenDKIM and Postfix
      sudoedit /etc/dkimroll/policy.yaml      # start from policies/small-server.yaml; man dkimroll-policy
      sudo dkimroll check                     # tries everything that a rotation needs, and changes nothing
      sudo dkimroll plan                      # what would happen and when
      sudo systemctl enable --now dkimroll-run.timer
TEXT
