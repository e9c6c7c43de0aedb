#!/usr/bin/env bash
# docs/cookbook.md, 2: the rights that a TSIG key has at Knot, tried out from both sides, with which a whole life of a key goes; and each refusal as she sees it. All of it is run.
. "$(dirname "$0")/cookbook.sh"
cookbook_world knot
# So that a key is revoked soon; by default there are ten seconds between two proofs.
COOKBOOK_RULES+=$'\n    prove-every: 2s'
zone=example.com
checks() { recipe bind-check; }
zone_file example.com 1 1 >"$world/primary/example.com.zone"
servers="\"$primary\""

echo "- 2. Knot"
knot_with() { # BLOCK
  { cat "$world/knot.base"; block "$1"; } >"$world/primary/knot.conf"
  expect recipe knot-reload
  deadline 10 soa_answers 127.0.0.1 "$primary_port" example.com
}
expect recipe knot-key
policy_of bind-policy
knotd_start "$world/primary" 127.0.0.1 "$primary_port" "zone:
  - domain: example.com
    file: $world/primary/example.com.zone" example.com || exit 1
sed '/^zone:/,$d' "$world/primary/knot.conf" >"$world/knot.base"
expect_not checks
shows knot-notauth
knot_with knot.conf
expect checks
shows bind-check
rights -y "$(sed -n 's/^# //p' "$host/etc/tsig.key")" < <(block knot-rights)
whole_life

echo "- what can go wrong"
for mistake in 's/address: 127.0.0.1/address: 127.0.0.9/' 's/\[_domainkey\]/[_dkim]/' 's/^    acl: dkimroll//'; do
  sed -i "$mistake" "$world/primary/knot.conf"
  expect recipe knot-reload
  expect_not checks
  shows knot-notauth
  knot_with knot.conf
done
expect knotc zone-freeze -b example.com >"$world/run.log"
expect_not checks
shows knot-frozen
expect knotc zone-thaw -b example.com >"$world/run.log"

echo "- a key for each zone"
keymgr -t _domainkey.example.com hmac-sha256 >"$host/etc/tsig.key"
cp "$host/etc/tsig.key" "$world/primary/dkimroll.key"
knot_with knot-owner-key.conf
expect checks
shows bind-check
rights -y "$(sed -n 's/^# //p' "$host/etc/tsig.key")" < <(block knot-rights)
exit 0
