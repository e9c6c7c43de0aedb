#!/usr/bin/env bash
# Killed at every system call that changes something, started again: see crash.py, whose options these are. One named with a zone for each worker, and an opendkim
# for each worker, since they wait most of the time.
. "$(dirname "$0")/../integration/world.sh"
build=${BUILD:-$top/build}
workers=${CRASH_WORKERS:-6}
WORLD_QUIET=1
world_begin crash
mapfile -t ports < <(free_ports 127.0.0.1 $(for ((i = 0; i < workers; i++)); do echo 127.0.0.1; done))
tsig_file=$world/tsig.key
(umask 077 && tsig-keygen -a hmac-sha256 dkim-key >"$tsig_file")
mkdir -p "$world/named"
zones=''
for ((i = 0; i < workers; i++)); do
  zone_file "w$i.test" 1 1 >"$world/named/w$i.zone"
  zones+="zone \"w$i.test\" { type primary; file \"w$i.zone\"; notify no; allow-transfer { 127.0.0.1; };
    update-policy { grant dkim-key wildcard *._domainkey.w$i.test. TXT; }; };"$'\n'
done
named_start "$world/named" 127.0.0.1 "${ports[0]}" "include \"$tsig_file\";"$'\n'"$zones" || exit 1
for ((i = 0; i < workers; i++)); do
  opendkim_start "$world/w$i" "${ports[i + 1]}" "SignatureAlgorithm ed25519-sha256" || exit 1
done
PYTHONPATH=$here "$python" "$top/tests/crash/crash.py" --world "$world" --dkimroll "$DKIMROLL" --killer "$build/tests/crash/killer" --ports "${ports[@]}" -- "$@"
