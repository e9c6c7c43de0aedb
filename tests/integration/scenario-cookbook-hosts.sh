#!/usr/bin/env bash
# docs/cookbook.md, 6: two hosts that sign for one domain, with prefixes of their own and, by mistake, with the same. All of it is run, with both hosts on this machine.
. "$(dirname "$0")/cookbook.sh"
cookbook_world hosts
zone_file example.com 1 1 >"$world/primary/example.com.zone"
for name in mx1 mx2; do (umask 077 && tsig-keygen -a hmac-sha256 "dkimroll-$name" >"$world/primary/dkimroll-$name.key"); done
bind_local hosts-named.conf
bind_primary example.com
knot_secondary example.com

echo "- 6. two hosts"
mapfile -t ports < <(free_ports 127.0.0.1 127.0.0.1)
cookbook_host mx1 "${ports[0]}"
cookbook_host mx2 "${ports[1]}"
on() { host=$world/$1 milter=inet:${ports[${1#mx} - 1]}@127.0.0.1; }
for name in mx1 mx2; do
  on "$name"
  cp "$world/primary/dkimroll-$name.key" "$host/etc/tsig.key"
done
on mx1
policy_of bind-policy hosts-mx1
on mx2
policy_of bind-policy hosts-mx2
# Both at once, as they would be.
(on mx1; BUDGET=5s dkimroll run >"$host/run.log" 2>&1) &
first=$!
(on mx2; BUDGET=5s dkimroll run >"$host/run.log" 2>&1) &
wait "$first" || { cp "$world/mx1/run.log" "$world/run.log"; fail "run of mx1"; }
wait $! || { cp "$world/mx2/run.log" "$world/run.log"; fail "run of mx2"; }
on mx1
expect recipe hosts-prove
shows hosts-prove
expect recipe hosts-list
shows hosts-list
[[ $(signed_by anna@example.com) == mx1-* ]] || fail "mx1 does not sign with its own key"
on mx2
two=$(signed_by anna@example.com)
[[ $two == mx2-* ]] || fail "mx2 does not sign with its own key"
on mx1
dkimroll rotate example.com >"$world/run.log" 2>&1 || fail rotate
[[ $(signed_by anna@example.com) == mx1-*-2 ]] || fail "mx1 was not rotated"
on mx2
[[ $(signed_by anna@example.com) == "$two" ]] || fail "a rotation on mx1 touched mx2"
echo "  the same prefix on both, on the same day"
for name in mx1 mx2; do
  on "$name"
  sed -i 's/selector: "mx.-/selector: "server-/' "$host/etc/policy.yaml"
  BUDGET=1s dkimroll rotate example.com >"$world/run.log" 2>&1
done
shows hosts-same
exit 0
