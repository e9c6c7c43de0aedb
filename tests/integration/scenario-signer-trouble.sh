#!/usr/bin/env bash
# opendkim is down when a key is to be switched: nothing changes in the tables. Then KeyTable cannot be written, then the disk of the tables is full: the same.
# Each time the old key signs on, and everything heals by itself.
. "$(dirname "$0")/world.sh"
scenario signer-trouble
expect runs 8s
first=$(signing_selector)
tables() { cat "$world/opendkim/KeyTable" "$world/opendkim/SigningTable" | sha256sum; }
before=$(tables)

echo "- opendkim is down"
world_stop "$opendkim_pid"
dkimroll rotate "$zone" --budget 8s >"$world/run.log" 2>&1 && fail "it claims success without a signer"
expect_log 'signer local|milter'
[[ $(tables) == "$before" ]] || fail "the tables were changed"
opendkim_start "$world/opendkim" "$milter_port" "SignatureAlgorithm ed25519-sha256" || exit 1
printf '%s' "$(cat "$world/opendkim/KeyTable")" >/dev/null
[[ $(signing_selector) == "$first" ]] || fail "another key signs"

echo "- the tables lie on a file system that is mounted read-only"
mkdir "$world/tables"
mount -t tmpfs -o size=64k,mode=755 tmpfs "$world/tables" || fail "no tmpfs"
trap 'umount -l "$world/tables" 2>/dev/null; world_end' EXIT
cp -p "$world/opendkim/KeyTable" "$world/opendkim/SigningTable" "$world/tables/"
for table in KeyTable SigningTable; do ln -sf "$world/tables/$table" "$world/opendkim/$table"; done
mount -o remount,ro "$world/tables"
dkimroll rotate "$zone" --budget 4s >"$world/run.log" 2>&1 && fail "it claims success with read-only tables"
expect_log 'KeyTable|Read-only'
[[ $(signing_selector) == "$first" ]] || fail "another key signs"

echo "- the disk of the tables is full"
mount -o remount,rw "$world/tables"
dd if=/dev/zero of="$world/tables/fill" bs=1k 2>/dev/null
dkimroll rotate "$zone" --budget 4s >"$world/run.log" 2>&1 && fail "it claims success with a full disk"
expect_log 'No space left'
[[ $(tables) == "$before" ]] || fail "the tables were changed"
[[ $(ls -A "$world/tables" | wc -l) == 3 ]] || fail "something was left behind: $(ls -A "$world/tables")"
[[ $(signing_selector) == "$first" ]] || fail "another key signs"
rm "$world/tables/fill"

echo "- all is well again"
dkimroll rotate "$zone" --budget 8s >"$world/run.log" 2>&1 || fail "it did not heal"
[[ $(signing_selector) != "$first" ]] || fail "the old key still signs"
