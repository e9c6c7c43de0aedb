#!/usr/bin/env bash
# RSA with 2048, 3072 and 4096 bits at one opendkim and Ed25519 at a second one beside it, through the whole chain: made by the keeper, published in strings of at most 255
# octets, served by both servers, signed by the real opendkim, verified by python3-dkim; then rotated.
. "$(dirname "$0")/world.sh"
world_begin key-sizes
usual_world example.test 1 1 || exit 1
opendkim_one=$milter
sed -i 's|grant dkim-key wildcard \*._domainkey.example.test. TXT;|grant dkim-key subdomain example.test. TXT;|' "$world/primary/named.conf"
kill -HUP "$named_pid"
second_port=$(free_ports 127.0.0.1)
mkdir "$world/second"
opendkim_start "$world/second" "$second_port" "SignatureAlgorithm ed25519-sha256" || exit 1
kind() { echo "  $1:
    selector: \"$1-%Y%m%d\"
    keys: {main: $2}
    rotate-every: 90d
    publish: {ttl: 1s, safety: 0s}
    confirm: {sightings: 1, every: 1s}"; }
{
  usual_policy "$SHORT_RULES" ""
  for bits in 2048 3072 4096; do echo "  rsa$bits.example.test: {policy: rsa$bits, publisher: primary, signers: [local]}"; done
  echo "  ed.example.test: {policy: ed, publisher: primary, signers: [second]}"
} >"$world/plain.yaml"
{
  sed '/^publishers:/,$d' "$world/plain.yaml"
  for bits in 2048 3072 4096; do kind "rsa$bits" "{algorithm: rsa, bits: $bits}"; done
  kind ed '{algorithm: ed25519}'
  sed -n '/^publishers:/,/^domains:/p' "$world/plain.yaml" | sed '$d'
  cat <<POLICY
  second:
    key-table: $world/second/KeyTable
    signing-table: refile:$world/second/SigningTable
    key-directory: $world/second/keys/%d
    reload: {pid-file: $world/second/opendkim.pid}
    milter: "inet:$second_port@127.0.0.1"
POLICY
  sed -n '/^domains:/,$p' "$world/plain.yaml"
} >"$world/policy.yaml"

# signs NAME MILTER LENGTH: what signs now is served with a p= of that length and verifies; prints its selector.
signs() {
  mail sign "$2" "anna@$1.example.test" >"$world/proof.eml" || fail "opendkim does not sign for $1"
  mail verify "$secondary" "$world/proof.eml" >"$world/selector" || fail "the signature of $1 does not verify"
  local record
  record=$(mail txt "$secondary" "$(cat "$world/selector")._domainkey.$1.example.test")
  record=${record##*p=}
  [[ ${#record} == "$3" ]] || fail "p= of $1 has ${#record} characters and not $3"
  cat "$world/selector"
}
all_sign() {
  signs rsa2048 "$opendkim_one" 392
  signs rsa3072 "$opendkim_one" 564
  signs rsa4096 "$opendkim_one" 736
  signs ed "inet:$second_port@127.0.0.1" 44
}
expect runs 60s
all_sign >"$world/first"
# Only what the policy says is in the hands of the signer, and nobody else can read it.
for key in "$world"/opendkim/keys/*/*.private "$world"/second/keys/*/*.private; do
  [[ $(stat -c '%U %a' "$key") == "opendkim 600" ]] || fail "$key: $(stat -c '%U %a' "$key")"
done
dkimroll rotate rsa2048.example.test rsa3072.example.test rsa4096.example.test ed.example.test --budget 60s >"$world/run.log" 2>&1 || fail rotate
all_sign >"$world/second.selectors"
diff <(sed 's/$/-2/' "$world/first") "$world/second.selectors" || fail "the selectors are not the next ones"
exit 0
