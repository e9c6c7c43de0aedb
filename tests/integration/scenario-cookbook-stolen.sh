#!/usr/bin/env bash
# docs/cookbook.md, 8: a private key is in other hands; with a standby another one signs at once. All of it is run.
. "$(dirname "$0")/cookbook.sh"
cookbook_world stolen
COOKBOOK_RULES=${COOKBOOK_RULES/queue-lifetime: 1s/queue-lifetime: 1h}
COOKBOOK_RULES=${COOKBOOK_RULES/rotate-every: 1h/rotate-every: 90d}
COOKBOOK_RULES=${COOKBOOK_RULES/tombstone: 2s/tombstone: 1h} # what a tombstone says can be seen also where commands take their time
bind_world
knot_secondary example.com
policy_of bind-policy stolen-standby

echo "- 8. a standby"
waits() { runs 2s; [[ $(states) == *' 4'*' 3' ]]; }
deadline 40 waits || fail "no standby: $(states)"
old=$(signed_by anna@example.com)
standby=$(states | sed -n 's/ 3$//p')
expect recipe stolen-revoke
shows stolen-revoke
[[ $(signed_by anna@example.com) == "$standby" ]] || fail "the standby does not sign"
[[ $(txt "$old._domainkey.example.com") == *'p="' ]] || fail "the record of $old is not revoked: $(txt "$old._domainkey.example.com")"
expect recipe stolen-check
shows stolen-check
expect_log 'a copy of the key was found on a laptop'

echo "  the host was broken into"
deadline 40 waits || fail "no standby: $(states)"
recipe stolen-host
shows stolen-host
[[ $(txt "$standby._domainkey.example.com") == *'p="' ]] || fail "the record of $standby is not revoked: $(txt "$standby._domainkey.example.com")"
signs_again() { runs 2s; [[ $(states) == *' 4'* ]]; }
deadline 40 signs_again || fail "no key signs: $(states)"
signed_by anna@example.com >"$world/run.log"
exit 0
