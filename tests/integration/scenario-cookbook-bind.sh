#!/usr/bin/env bash
# docs/cookbook.md, 1: the rights that a TSIG key has at BIND, tried out from both sides, with which a whole life of a key goes; and each refusal as she sees it. All of it is run. That named
# may not write beside the zone file is played by a directory in the place of its journal, since the tests are root's.
. "$(dirname "$0")/cookbook.sh"
cookbook_world bind
# So that a key is revoked soon; by default there are ten seconds between two proofs.
COOKBOOK_RULES+=$'\n    prove-every: 2s'
zone=example.com
checks() { recipe bind-check; }
zone_file example.com 1 1 >"$world/primary/example.com.zone"
servers="\"$primary\""

echo "- 1. BIND: before"
echo "zone \"example.com\" { type primary; file \"$world/primary/example.com.zone\"; };" >"$world/primary/named.conf.local"
bind_primary example.com
expect recipe bind-key
policy_of bind-policy
expect_not checks
shows bind-badkey
echo "include \"$world/primary/dkimroll.key\";" >>"$world/primary/named.conf.local"
expect recipe bind-reconfig
expect_not checks
shows bind-refused

echo "- as the page says"
bind_local bind-named.conf
expect recipe bind-reconfig
expect checks
shows bind-check
rights -k "$host/etc/tsig.key" < <(block bind-rights)
# Adding a record and replacing it by a revoked one are within "one TXT record at a name", too.
whole_life
expect recipe bind-list
expect_log "^${first% *}-2\._domainkey\.example\.com\..*v=DKIM1"

echo "- what can go wrong"
rndc freeze example.com
expect_not checks
shows bind-refused
expect rndc thaw example.com >"$world/run.log" 2>&1
rndc sync -clean example.com
mkdir "$world/primary/example.com.zone.jnl"
expect_not checks
shows bind-servfail
chmod 644 "$host/etc/tsig.key"
expect_not checks
shows bind-mode

echo "- a key for each zone"
world_stop "$named_pid"
rmdir "$world/primary/example.com.zone.jnl"
expect recipe bind-selfsub-key
bind_local bind-selfsub.conf
bind_primary example.com
expect checks
shows bind-check
rights -k "$host/etc/tsig.key" < <(block bind-rights)
rights -k "$host/etc/tsig.key" <<<'can add _domainkey.example.com. 300 TXT "its own name"'
exit 0
