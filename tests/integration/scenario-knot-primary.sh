#!/usr/bin/env bash
# The reverse of the usual world: Knot takes the updates, BIND is the secondary; tombstone 0 (the record is deleted, never revoked); the stable key name "%d"
# and a `file:` SigningTable.
. "$(dirname "$0")/world.sh"
world_begin knot
zone=example.test
mapfile -t ports < <(free_ports 127.0.0.2 127.0.0.1 127.0.0.1)
primary=127.0.0.2:${ports[0]} secondary=127.0.0.1:${ports[1]} milter_port=${ports[2]} milter=inet:${ports[2]}@127.0.0.1
mkdir -p "$world/knot"
tsig_file=$world/tsig.key
(umask 077 && keymgr -t dkim-key hmac-sha512 >"$tsig_file")
zone_file "$zone" 1 1 >"$world/knot/$zone.zone"
knotd_start "$world/knot" 127.0.0.2 "${ports[0]}" "
$(cat "$tsig_file")
remote:
  - id: secondary
    address: 127.0.0.1@${ports[1]}
acl:
  - id: dkim
    key: dkim-key
    action: update
    update-type: [TXT]
    update-owner: name
    update-owner-match: sub
    update-owner-name: [_domainkey]
  - id: transfer
    address: 127.0.0.0/8
    action: transfer
zone:
  - domain: $zone
    storage: $world/knot
    notify: secondary
    acl: [dkim, transfer]" "$zone" || exit 1
named_start "$world/named" 127.0.0.1 "${ports[1]}" "
zone \"$zone\" { type secondary; file \"$zone.zone\"; primaries { 127.0.0.2 port ${ports[0]}; }; allow-notify { 127.0.0.0/8; }; min-refresh-time 1; max-refresh-time 1; };" || exit 1
OPENDKIM_SIGNING_TABLE=file opendkim_start "$world/opendkim" "$milter_port" "SignatureAlgorithm ed25519-sha256" || exit 1
usual_policy "${SHORT_RULES/tombstone: 2s/tombstone: 0s}" "  $zone: {policy: standard, publisher: primary, signers: [local]}" |
  sed 's|refile:|file:|; s|^    owner:|    key-name: "%d"\n&|' >"$world/policy.yaml"

expect runs 8s
first=$(signing_selector)
expect grep -q "^$zone.*:$first:" "$world/opendkim/KeyTable"
expect grep -qE "^$zone[[:space:]]+$zone\$" "$world/opendkim/SigningTable"
dkimroll rotate "$zone" --budget 8s >"$world/run.log" 2>&1 || fail rotate
second=$(signing_selector)
[[ $first != "$second" ]] || fail "the selector did not change"
expect runs 10s
[[ -z $(mail txt "$secondary" "$first._domainkey.$zone") ]] || fail "the record of $first is still there"
expect_not test -e "$world/opendkim/keys/$zone/$first.private"
[[ $(signing_selector) == "$second" ]] || fail "another key signs"
echo "Knot primary, BIND secondary: $first, then $second; record and private key of $first are gone"
