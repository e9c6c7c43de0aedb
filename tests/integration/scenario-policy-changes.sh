#!/usr/bin/env bash
# The policy changes while keys live: another template, a wrong file, a domain that leaves, comes back, leaves and is forgotten. Mail is signed all the time.
. "$(dirname "$0")/world.sh"
scenario policy-changes
expect runs 8s
first=$(signing_selector)

echo "- a wrong policy: every error at its place, exit 78, nothing happens"
cp "$world/policy.yaml" "$world/good.yaml"
sed -i 's|algorithm: ed25519|algoritm: ed25519|; s|rotate-every: 1h|rotate-every: soon|' "$world/policy.yaml"
expect_status 78 runs 1s
expect_log "policy.yaml:[0-9]+:[0-9]+: .*algoritm"
expect_log "policy.yaml:[0-9]+:[0-9]+: .*soon"

echo "- another template: the next key has it"
sed 's|server-%Y%m%d|mx1-%Y%m%d|' "$world/good.yaml" >"$world/policy.yaml"
dkimroll rotate "$zone" --budget 8s >"$world/run.log" 2>&1 || fail rotate
second=$(signing_selector)
[[ $second == mx1-* ]] || fail "$second is not of the new template"

echo "- hold and release"
dkimroll hold "$zone" --reason "not in December" >"$world/run.log" 2>&1 || fail hold
expect_status 69 dkimroll rotate "$zone" 2>"$world/run.log"
expect_log 'held: not in December'
dkimroll release "$zone" >"$world/run.log" 2>&1 || fail release

echo "- the domain leaves the policy: it keeps signing, nothing is deleted; forget ends it"
expect_not dkimroll forget "$zone" 2>"$world/run.log"
expect_log 'take it out of the policy first'
sed 's|  example.test:|  other.test:|' "$world/policy.yaml" >"$world/other.yaml"
cp "$world/other.yaml" "$world/policy.yaml"
runs 2s
[[ $(signing_selector) == "$second" ]] || fail "another key signs"
[[ -n $(mail txt "$secondary" "$second._domainkey.$zone") ]] || fail "its record was deleted"
dkimroll forget "$zone" >"$world/run.log" 2>&1 || fail forget
[[ $(signing_selector) == "$second" ]] || fail "another key signs"

echo "- it comes back: the same key goes on"
cp "$world/good.yaml" "$world/policy.yaml"
expect runs 4s
[[ $(signing_selector) == "$second" ]] || fail "another key signs"
[[ $first != "$second" ]] || fail "the selector did not change"
