#!/usr/bin/env bash
# docs/cookbook.md, 7: a host that a shell script made is taken over. All commands of dkimroll are run; the timer is played, and the script is one that leaves what those of the how-tos leave.
. "$(dirname "$0")/cookbook.sh"
OPENDKIM_ALGORITHM=rsa-sha256
cookbook_world script
echo "- 7. from a shell script"
COOKBOOK_RULES=${COOKBOOK_RULES/ed25519/rsa, bits: 2048}
COOKBOOK_RULES=${COOKBOOK_RULES/rotate-every: 1h/rotate-every: 90d}
zone_file example.com 1 1 >"$world/primary/example.com.zone"
keys=$host/opendkim/keys/example.com
mkdir -p "$keys"
scripted() { # DAY: what the script leaves at each run
  openssl genrsa 2048 2>/dev/null >"$keys/server-$1.private"
  printf '\nserver-%s._domainkey.example.com example.com:server-%s:%s\n' "$1" "$1" "$keys/server-$1.private" >>"$host/opendkim/KeyTable"
  printf '\n*@example.com server-%s._domainkey.example.com\n' "$1" >>"$host/opendkim/SigningTable"
  chown -R opendkim: "$keys"
  chmod 600 "$keys"/*
}
for day in 20260101 20260401 20260701; do
  scripted "$day"
  # The newest record never came into DNS.
  [[ $day == 20260701 ]] || echo "server-$day._domainkey IN TXT $(echo "v=DKIM1; k=rsa; p=$(openssl pkey -in "$keys/server-$day.private" -pubout -outform DER | base64 -w 0)" |
    fold -w 200 | sed 's/.*/"&"/' | tr '\n' ' ')" >>"$world/primary/example.com.zone"
done
kill -USR1 "$opendkim_pid"
tsig_shared
bind_local bind-named.conf
bind_primary example.com
knot_secondary example.com
policy_of bind-policy
expect recipe script-import
shows script-import
echo "  a line for more than the domain"
cp "$host/opendkim/SigningTable" "$world/SigningTable"
sed -i '0,/^\*@example.com/s//*@example.*/' "$host/opendkim/SigningTable"
expect recipe script-import
shows script-wide
cp "$world/SigningTable" "$host/opendkim/SigningTable"
expect recipe script-apply
shows script-apply
expect recipe script-prove
[[ $(signed_by anna@example.com) == "server-$(date -u +%Y%m%d)" ]] || fail "the new key does not sign"
echo "  the script runs again"
scripted 20260801
expect recipe script-import
shows script-again
exit 0
