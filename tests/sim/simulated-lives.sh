#!/usr/bin/env bash
# All scenarios, fixed seeds, and two of them twice over, which must live the same life. Its closing lines are counted by tests/tools/run-tests.
# SIMULATE: the program; SEEDS: how many; SCENARIOS_EVERY: only each nth scenario, as the slow build of check does.
set -u
cd "$(dirname "$0")/../.."
simulate=${SIMULATE:-build/tests/sim/simulate}
status=0
mapfile -t scenarios < <(printf '%s\n' tests/sim/scenarios/*.scenario | awk -v every="${SCENARIOS_EVERY:-1}" 'NR % every == 0')
"$simulate" "${scenarios[@]}" || status=1
"$simulate" --seed 1 --count "${SEEDS:-24}" --days 50 || status=1
"$simulate" --seed 900 --count 2 --days 30 --twice || status=1
exit $status
