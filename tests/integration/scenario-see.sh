#!/usr/bin/env bash
# What a postmaster sees: metrics that promtool takes, alerts that fire, hooks that are told each transition and what needs a person, and that hold up nothing.
. "$(dirname "$0")/world.sh"
scenario see
metrics=$world/metrics/dkimroll.prom
mkdir "$world/metrics" "$world/told"
promtool() { "$top/tests/tools/promtool" "$@"; }
expect promtool fetch

# Each call leaves a file, named by its number.
cat >"$world/hook" <<HOOK
#!/bin/sh
n=\$(ls $world/told | wc -l)
{ echo "argument \$1"; env | grep ^DKIMROLL_ | sort; sed 's/^/stdin /'; } >$world/told/\$(printf %03d \$n)
echo "heard \$1"
HOOK
printf '#!/bin/sh\ncat >>%s/mails\n' "$world" >"$world/sendmail"
chmod 755 "$world/hook" "$world/sendmail"
plain=$(cat "$world/policy.yaml")
hooks() { printf 'metrics: {file: %s}\nhooks: {transition: [%s], needs-person: [%s], timeout: 2s}\n%s\n' "$metrics" "$1" "$2" "$plain" >"$world/policy.yaml"; }
told() { cat "$world/told"/* 2>/dev/null | grep -c -- "$1"; }
value() { sed -n "s/^$1 //p" "$metrics"; }
at_least() { [[ -n $1 ]] && (($1 >= $2)) || fail "$3: $1"; }

echo "- metrics"
hooks "$world/hook" "$top/policies/hook-mail.sh, anna@example.test, $world/sendmail"
expect runs 8s
selector=$(signing_selector)
expect promtool check metrics <"$metrics"
"$DKIMROLL" metrics -p "$world/policy.yaml" >"$world/printed" || fail "dkimroll metrics"
expect promtool check metrics <"$world/printed"
[[ $(sed 's/{.*//; s/ .*//' "$metrics" | sort -u) == $(sed 's/{.*//; s/ .*//' "$world/printed" | sort -u) ]] || fail "the file has other metrics than the command"
[[ $(stat -c %a "$metrics") == 644 ]] || fail "others cannot read the metrics"
at_least "$(value "dkimroll_key_state_timestamp_seconds{domain=\"$zone\",key=\"main\",selector=\"$selector\",state=\"active\"}")" "$(($(date +%s) - 60))" "active since"
[[ $(value dkimroll_domains_signed) == 1 && $(value dkimroll_problems) == 0 && $(value dkimroll_policy_current) == 1 ]] || fail "what is known of the domain"
skew=$(value 'dkimroll_tsig_clock_skew_seconds{publisher="primary"}')
[[ -n $skew ]] && ((skew >= -3 && skew <= 3)) || fail "one clock differs from itself by: $skew"
grep -q "^dkimroll_server_lag_seconds{server=\"$secondary\"" "$metrics" || fail "no lag of the secondary"
# Nothing is due: only the moment is new, and little is done for it.
sed -i 's/^dkimroll_last_run_timestamp_seconds .*/dkimroll_last_run_timestamp_seconds 5/' "$metrics"
cp "$metrics" "$world/before"
expect runs 0s
expect_log 'Nothing is due'
[[ $(diff "$world/before" "$metrics" | grep -c '^>') == 1 ]] || fail "a run with nothing due changes more than its moment"
at_least "$(value dkimroll_last_run_timestamp_seconds)" "$(($(date +%s) - 60))" "last run"

echo "- check tries the place of the metrics and the hooks"
expect dkimroll check >"$world/run.log" 2>&1
expect_log "ok +metrics can be written to $metrics"
expect_log "ok +hook transition can be started: $world/hook"
[[ $(ls "$world/metrics") == dkimroll.prom ]] || fail "check left something beside the metrics"
good=$(cat "$world/policy.yaml")
printf 'metrics: {file: %s/none/x.prom}\nhooks: {transition: [%s/none.sh], needs-person: [%s]}\n%s\n' "$world" "$world" "$world/policy.yaml" "$plain" >"$world/policy.yaml"
expect dkimroll check >"$world/run.log" 2>&1
expect_log 'metrics cannot be written: .*/none: No such file or directory'
expect_log 'remedy: make the directory, let the user dkimroll write it'
expect_log 'hook transition cannot be started: .*/none.sh: No such file or directory'
expect_log 'hook needs-person cannot be started: .*/policy.yaml: Permission denied'
echo "$good" >"$world/policy.yaml"

echo "- alerts"
expect promtool check rules "$top/policies/dkimroll-alerts.yaml" >/dev/null
sed "s|@RULES@|$top/policies/dkimroll-alerts.yaml|" "$top/tests/data/dkimroll-alerts-test.yaml" >"$world/alerts.yaml"
expect promtool test rules "$world/alerts.yaml" >"$world/run.log" 2>&1
# No alert asks for a metric that is not there: names are part of what is promised.
for name in $(grep -oE '\bdkimroll_[a-z_]+' "$top/policies/dkimroll-alerts.yaml" | sort -u); do
  grep -q "^dkimroll_${name#dkimroll_}[{ ]" "$metrics" || grep -q "\.Va $name" "$top/docs/dkimroll.8" || fail "an alert asks for $name, which there is not"
done

echo "- hooks are told each transition, in order"
[[ $(cat "$world/told"/* | sed -n 's/^DKIMROLL_TO=//p' | tr '\n' ' ') == "generated published ready active " ]] || fail "transitions: $(cat "$world/told"/* | grep DKIMROLL_TO)"
last=$(ls "$world/told"/* | tail -n 1)
for line in "argument transition" "DKIMROLL_EVENT=transition" "DKIMROLL_DOMAIN=$zone" "DKIMROLL_KEY=main" "DKIMROLL_SELECTOR=$selector" "DKIMROLL_FROM=ready" \
  "stdin $zone $selector: ready -> active: "; do
  grep -q "^$line" "$last" || fail "the hook was not told: $line"
done
expect_not test -e "$world/mails"

echo "- a hook that hangs or fails holds up nothing"
rm -f "$world/told"/*
printf '#!/bin/sh\ncase $DKIMROLL_TO in generated) sleep 1000 ;; published) echo no way >&2; exit 3 ;; *) exec %s "$1" ;; esac\n' "$world/hook" >"$world/bad-hook"
chmod 755 "$world/bad-hook"
hooks "$world/bad-hook" "$top/policies/hook-mail.sh, anna@example.test, $world/sendmail"
dkimroll rotate "$zone" --budget 6s >"$world/run.log" 2>&1 || fail "rotate"
next=$(signing_selector)
[[ $next != "$selector" ]] || fail "no rotation"
expect_log 'warning: hook transition: the command did not end in time'
expect_log 'warning: hook transition: no way \(exit status 3\)'
expect_log '^hook transition: heard transition'
[[ $(cat "$world/told"/* | sed -n 's/^DKIMROLL_TO=//p' | head -n 3 | tr '\n' ' ') == "ready retired active " ]] || fail "what came after the bad calls: $(cat "$world/told"/* | grep DKIMROLL_TO)"

echo "- what a hook was not told, because dkimroll was killed, the next run tells"
"$python" - "$world/state/state.db" <<'PY'
import sqlite3, sys
store = sqlite3.connect(sys.argv[1])
store.execute("UPDATE meta SET value = (SELECT min(id) FROM event WHERE kind = 'state' AND to_state = 'active') WHERE key = 'told-event'")
store.commit()
PY
rm -f "$world/told"/*
hooks "$world/hook" "$top/policies/hook-mail.sh, anna@example.test, $world/sendmail"
runs 0s
[[ $(told 'DKIMROLL_TO=generated') == 1 && $(told 'DKIMROLL_TO=active') == 1 ]] || fail "not told again: $(cat "$world/told"/* | grep DKIMROLL_TO)"
told_once=$(ls "$world/told" | wc -l)
runs 0s
[[ $(ls "$world/told" | wc -l) == "$told_once" ]] || fail "told twice"

echo "- a daemon tells at once, and writes metrics when it ends"
rm -f "$world/told"/* "$metrics"
mkdir "$world/daemon"
world_spawn "$world/daemon" "$DKIMROLL" daemon -p "$world/policy.yaml"
daemon=$spawned
deadline 20 grep -q 'daemon is ready' "$world/daemon/log" || fail "the daemon did not get ready"
expect dkimroll rotate --no-wait "$zone" >"$world/run.log" 2>&1
deadline 20 eval '(($(told DKIMROLL_TO=active) > 0))' || fail "the daemon's hook: $(ls "$world/told")"
world_stop "$daemon"
[[ $(value dkimroll_domains_signed) == 1 ]] || fail "no metrics of the daemon"
expect promtool check metrics <"$metrics"
next=$(signing_selector)

echo "- what needs a person is mailed when it begins and when it is over"
hooks /bin/true "$top/policies/hook-mail.sh, anna@example.test, $world/sendmail"
sed -i 's/warn-after: 1m/warn-after: 1s/' "$world/policy.yaml"
world_stop "$knotd_pid"
dkimroll rotate "$zone" --budget 4s >"$world/run.log" 2>&1
# How long a server may take to be called wrong depends on when it was asked.
for ((i = 0; i < 5; i++)); do grep -qs ^Subject: "$world/mails" || runs 2s; done
expect grep -q "^Subject: \[dkimroll\] needs you: $zone" "$world/mails"
expect grep -q "^To: anna@example.test" "$world/mails"
expect grep -q "127.0.0.2.*Connection refused" "$world/mails"
[[ $(grep -c ^Subject: "$world/mails") == 1 ]] || fail "told more than once: $(grep ^Subject: "$world/mails")"
[[ $(value dkimroll_domains_in_trouble) == 1 && $(value "dkimroll_domain_problems{domain=\"$zone\"}") -ge 1 ]] || fail "metrics of trouble"
secondary_start "
  - domain: $zone
    storage: $world/secondary
    master: primary
    acl: notify" "$zone" || fail "the secondary did not come back"
dkimroll run --budget 15s >"$world/run.log" 2>&1
expect grep -q "^Subject: \[dkimroll\] is well again: $zone" "$world/mails"
[[ $(signing_selector) != "$next" ]] || fail "the new key did not take over"

echo "- a policy without hooks forgets them"
echo "$plain" >"$world/policy.yaml"
runs 0s
[[ -z $(sqlite_query "SELECT 1 FROM meta WHERE key = 'told-event' UNION SELECT 1 FROM alarm") ]] || fail "hooks are remembered for ever"
