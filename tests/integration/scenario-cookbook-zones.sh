#!/usr/bin/env bash
# docs/cookbook.md, 3 and 5: a zone of its own for selectors, and a hidden primary. All commands and configurations are run, but servers are named in the policy, because those that DNS
# names would be asked at port 53: a publisher without `server`, which asks whom the SOA record names, is played by one that names that server.
. "$(dirname "$0")/cookbook.sh"
cookbook_world zones
checks() { dkimroll check >"$world/run.log" 2>&1; }
append() { block "$1" >>"$world/primary/$2.zone"; } # BLOCK ZONE
static() { echo "zone \"$1\" { type primary; file \"$world/primary/$1.zone\"; };"; }
serves() { dig +tcp +time=2 +tries=1 +norecurse +short @127.0.0.2 -p "$secondary_port" "$1" TXT | grep -q -- "$2"; }
loaded() { rndc zonestatus "$1" >/dev/null 2>&1; }
tsig_shared

echo "- 3. a zone of its own for selectors: the main zone is static, and has a selector of the time before"
{ zone_file example.com 1 1; echo 'mail._domainkey IN TXT "v=DKIM1; k=rsa; p=TheOldOne"'; } >"$world/primary/example.com.zone"
{ echo "include \"$world/primary/dkimroll.key\";"; static example.com; } >"$world/primary/named.conf.local"
bind_primary example.com
knot_secondary example.com
policy_of bind-policy
expect_not checks
expect_log 'zone example.com is not dynamic there'
expect recipe delegated-zone
bind_local delegated-named.conf
expect recipe bind-reconfig
append delegated-ns example.com
sed -i 's/ 1 60 30 86400/ 2 60 30 86400/' "$world/primary/example.com.zone"
expect rndc reload example.com >"$world/run.log"
deadline 20 loaded _domainkey.example.com

echo "  a secondary that does not have it"
delegates() { dig +tcp +time=2 +tries=1 +norecurse @127.0.0.2 -p "$secondary_port" x._domainkey.example.com TXT | grep -q '^_domainkey.example.com..*NS'; }
deadline 20 delegates
expect_not checks
shows delegated-secondary
world_stop "$knotd_pid"
knot_secondary example.com _domainkey.example.com
deadline 20 serves mail._domainkey.example.com TheOldOne
expect recipe delegated-dig
shows delegated-dig
expect recipe delegated-run
shows delegated-run
[[ $(signed_by anna@example.com) == server-* ]] || fail "no key of dkimroll signs"
rights -k "$host/etc/tsig.key" < <(block bind-rights)
world_stop "$named_pid"
world_stop "$knotd_pid"

echo "- 5. a hidden primary"
fresh_host
zone_file example.com 1 1 >"$world/primary/example.com.zone"
rm -f "$world/primary/example.com.zone.jnl" "$world/secondary"/*.zone
bind_local hidden-named.conf
bind_primary example.com
knot_secondary example.com
policy_of hidden-policy
expect recipe hidden-check
shows hidden-check
expect runs 5s
[[ $(signed_by anna@example.com) == server-* ]] || fail "no key signs"
dkimroll status example.com >"$world/run.log"
grep -q "server .*$secondary: right" "$world/run.log" || fail "the secondary was not asked"
grep -q "server .*$primary" "$world/run.log" && fail "the hidden primary was asked to confirm"
echo "  what can go wrong"
# The server that the SOA record names is another one.
sed -i "s/server: \"$primary\"/server: \"$secondary\"/" "$host/etc/policy.yaml"
expect_not checks
shows hidden-noserver
policy_of hidden-ignore
sed -i '/ignore-servers/d' "$host/etc/policy.yaml"
expect_not checks
shows hidden-dead
policy_of hidden-ignore
expect checks
shows hidden-check
exit 0
