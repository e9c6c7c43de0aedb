#!/usr/bin/env bash
# docs/cookbook.md holds no block that no test knows: each has its name, each name is used by a scenario, and what is not run says why. Needs no servers.
. "$(dirname "$0")/cookbook.sh"
world_begin cookbook-blocks
awk '
  /^<!-- (test|shown|not run): .* -->$/ { marker = $0; next }
  /^```/ {
    if (!open && marker == "") { printf "line %d: a block without a marker\n", NR; bad = 1 }
    open = !open; marker = ""; next
  }
  !open && marker != "" { printf "line %d: no block after %s\n", NR, marker; bad = 1; marker = "" }
  END { if (open) print "a block does not end"; exit bad || open }' "$cookbook" || fail "docs/cookbook.md"
names() { sed -n "s/^<!-- $1: \(.*\) -->\$/\1/p" "$cookbook"; }
[[ $({ names test; names shown; } | wc -l) -gt 50 ]] || fail "too few blocks"
for kind in test shown; do
  [[ -z $(names "$kind" | sort | uniq -d) ]] || fail "two blocks have one name: $(names "$kind" | sort | uniq -d)"
  for name in $(names "$kind"); do
    if [[ $kind == shown ]]; then calls='shows'; else calls='recipe|block|policy_of|bind_local|append|knot_with'; fi
    grep -qE "($calls)( [a-z\".-]+)* \"?$name(\"|\)|\$| |;)" "$here"/scenario-cookbook-*.sh || fail "no scenario uses the block $kind: $name"
  done
done
# Links within the page and to others lead somewhere.
for link in $(grep -oE '\]\(#[a-z0-9-]+\)' "$cookbook" | sed 's/](#//; s/)//' | sort -u); do
  grep -E '^## ' "$cookbook" | sed 's/^## //' | tr 'A-Z ' 'a-z-' | tr -d '.:,`' | grep -qx -- "$link" || fail "no heading for #$link"
done
for link in $(grep -oE '\]\(\.\./[^)#]+' "$cookbook" | sed 's/](\.\.\///'); do [[ -e $top/$link ]] || fail "no file $link"; done
exit 0
