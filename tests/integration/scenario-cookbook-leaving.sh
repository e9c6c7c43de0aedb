#!/usr/bin/env bash
# docs/cookbook.md, 10: dkimroll is stopped, mail goes on being signed, and what stays is taken over by hand; one domain leaves alone. All of it is run but opendkim-genkey's turn; systemd is played.
. "$(dirname "$0")/cookbook.sh"
cookbook_world leaving
COOKBOOK_RULES=${COOKBOOK_RULES/queue-lifetime: 1s/queue-lifetime: 1h}
for zone in example.com customer.example; do zone_file "$zone" 1 1 >"$world/primary/$zone.zone"; done
tsig_shared
bind_local bind-named.conf
block bind-named.conf | sed '/^include/d; s/example\.com/customer.example/g' >>"$world/primary/named.conf.local"
bind_primary example.com
servers="\"$primary\""
policy_of bind-policy
echo '  customer.example: {policy: standard, publisher: primary, signers: [local]}' >>"$host/etc/policy.yaml"
expect runs 5s
dkimroll rotate example.com >"$world/run.log" 2>&1 || fail rotate
selector=$(signed_by anna@example.com "$primary")

echo "- 10. one domain leaves"
dkimroll forget customer.example >"$world/run.log" 2>&1 && fail "a domain of the policy was forgotten"
shows leave-refused
sed -i '/customer.example/d' "$host/etc/policy.yaml"
expect recipe leave-forget
shows leave-forget
signed_by anna@customer.example "$primary" >"$world/run.log"
expect dkimroll history customer.example >"$world/run.log"
expect_log 'moved to another provider'

echo "  all leave"
expect recipe leave-list
shows leave-list
expect_log 'will be +F3 revoke 20'
expect recipe leave-stop
first=$(states | sed -n 's/ 5$//p')
expect recipe leave-delete
[[ -z $(txt "$first._domainkey.example.com") ]] || fail "the record of the old key is still there"
rm -r "$host/state"
[[ $(signed_by anna@example.com "$primary") == "$selector" ]] || fail "another key signs"
exit 0
