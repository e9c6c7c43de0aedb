#!/usr/bin/env bash
# A store that version 0.1.0 left behind: those who only read ask for a run, and that run brings it up to date and goes on with the keys in it.
. "$(dirname "$0")/world.sh"
scenario upgrade
mkdir -m 700 "$world/state"
"$python" - "$world/state/state.db" "$top/tests/data/state-schema-1.sql" "$world" <<'PY'
import sqlite3, sys
sqlite3.connect(sys.argv[1], isolation_level=None).executescript(open(sys.argv[2]).read().replace("/srv/mail", sys.argv[3]))
PY
chmod 600 "$world/state/state.db"
# Its moments get older every day, and its key files are gone: what is due of that is none of this scenario's business.
sed -i 's/^\( *\)rotate-every: 1h/\1rotate-every: never\n\1prove-every: never/' "$world/policy.yaml"
grep -q 'prove-every: never' "$world/policy.yaml" || fail "the policy is not the usual one"
for command in status plan prove history; do
  dkimroll "$command" >"$world/run.log" 2>&1 && fail "$command reads a store of schema 1"
  expect_log 'remedy: bring it up to date: dkimroll run|bring it up to date'
done
runs 1s
expect_not grep -q 'bring it up to date' "$world/run.log"
[[ $(sqlite_query "PRAGMA user_version") -ge 2 ]] || fail "the store is not brought up to date"
dkimroll status >"$world/run.log" 2>&1
expect_log "$zone +server-20261128-3 +active"
