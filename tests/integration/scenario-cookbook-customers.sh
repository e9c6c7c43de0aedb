#!/usr/bin/env bash
# docs/cookbook.md, 4: customers' aliases: a DNAME and a delegation work, a CNAME for one selector and a wildcard CNAME do not, and a key that was made meanwhile finds its place when the
# customer has put it right. All commands and configurations are run, but the customers' zones, which are static here too, lie on the provider's servers, because those that DNS names would
# be asked at port 53.
. "$(dirname "$0")/cookbook.sh"
cookbook_world customers
statuses() { dkimroll status >"$world/run.log" 2>&1; }
append() { block "$1" >>"$world/primary/$2.zone"; } # BLOCK ZONE
static() { echo "zone \"$1\" { type primary; file \"$world/primary/$1.zone\"; };"; }
serves_alias() { dig +tcp +time=2 +tries=1 +norecurse +short @127.0.0.2 -p "$secondary_port" "_domainkey.$1" DNAME | grep -q .; }
tsig_shared

echo "- 4. customers"
today=server-$(date -u +%Y%m%d)
for zone in customer shop late wild; do zone_file "$zone.example" 1 1 >"$world/primary/$zone.example.zone"; done
append customer-dname customer.example
append customer-ns shop.example
echo "$today._domainkey 1 IN CNAME late.dkim.provider.example." >>"$world/primary/late.example.zone"
echo "*._domainkey 1 IN CNAME wild.dkim.provider.example." >>"$world/primary/wild.example.zone"
for zone in dkim.provider.example _domainkey.shop.example; do
  printf '$TTL 1\n@ IN SOA ns1.provider.example. hostmaster.provider.example. 1 60 30 86400 1\n@ IN NS ns1.provider.example.\n@ IN NS ns2.provider.example.\n' >"$world/primary/$zone.zone"
done
bind_local customers-named.conf
for zone in customer shop late wild; do static "$zone.example"; done >>"$world/primary/named.conf.local"
bind_primary customer.example
knot_secondary customer.example shop.example late.example wild.example dkim.provider.example _domainkey.shop.example
policy_of bind-policy customers-policy
expect recipe customers-run
shows customers-run
for zone in customer shop; do [[ $(signed_by "anna@$zone.example") == "$today" ]] || fail "$zone.example is not signed by $today"; done
printf '  late.example: {}\n  wild.example: {}\n' >>"$host/etc/policy.yaml"
expect runs 5s
dkimroll rotate customer.example shop.example late.example wild.example >"$world/run.log" 2>&1
for zone in customer shop; do [[ $(signed_by "anna@$zone.example") == "$today-2" ]] || fail "$zone.example was not rotated"; done
for zone in late wild; do [[ $(signed_by "anna@$zone.example") == "$today" ]] || fail "$zone.example does not sign with its first key"; done
expect_not statuses
shows customers-cname
shows customers-wildcard
echo "  the remedy"
expect recipe customers-copy
sed -i "s/^$today.*CNAME.*/_domainkey 1 IN DNAME late.example.dkim.provider.example./; s/ 1 60 30/ 2 60 30/" "$world/primary/late.example.zone"
expect rndc reload late.example >"$world/run.log"
deadline 20 serves_alias late.example
[[ $(signed_by anna@late.example) == "$today" ]] || fail "mail is not verified behind the new alias"
late_rotates() {
  BUDGET=3s dkimroll rotate late.example >"$world/run.log" 2>&1
  grep -q '^\*@late.example' "$host/opendkim/SigningTable" && ! grep -q "^\*@late.example *$today\._" "$host/opendkim/SigningTable"
}
deadline 40 late_rotates || fail "the remedy does not help"
signed_by anna@late.example >"$world/run.log"
expect_log "^$today-"
exit 0
