#!/usr/bin/env bash
# A private key is in other hands: with a standby another key signs within two seconds, over connections that were open too, and the record says that the old one is
# revoked; without one the safe way takes its time, or --now ends it at once and mail goes out unsigned; a whole host; nobody is asked where nobody can answer.
. "$(dirname "$0")/world.sh"
world_begin revoke
usual_world example.test 1 1 || exit 1
world_stop "$opendkim_pid"

# As systemd would: whoever ends opendkim gets a new one. A command below the keeper's walls could not start it itself.
cat >"$world/supervisor" <<'SUPERVISOR'
#!/usr/bin/env bash
trap 'kill "$child" 2>/dev/null; exit 0' TERM
while :; do
  opendkim -f -x "$1/opendkim.conf" & child=$!
  wait "$child"
done
SUPERVISOR
cat >"$world/restart" <<RESTART
#!/bin/sh
old=\$(cat $world/opendkim/opendkim.pid) && kill -KILL "\$old" || exit 1
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  new=\$(cat $world/opendkim/opendkim.pid 2>/dev/null)
  [ -n "\$new" ] && [ "\$new" != "\$old" ] && exit 0
  sleep 0.05
done
echo "opendkim did not come back"; exit 1
RESTART
chmod 755 "$world/supervisor" "$world/restart"
opendkim_start "$world/opendkim" "$milter_port" "SignatureAlgorithm ed25519-sha256" || exit 1
world_stop "$opendkim_pid"
world_spawn "$world/opendkim" "$world/supervisor" "$world/opendkim"
deadline 20 milter_listens "$milter_port"

second=second.test
zone_file "$second" 1 1 >"$world/primary/$second.zone"
world_stop "$named_pid"
named_start "$world/primary" 127.0.0.1 "$primary_port" "$(usual_primary_zones "$zone" "$second")" || exit 1
world_stop "$knotd_pid"
secondary_start "$(usual_secondary_zones "$zone" "$second")" "$zone" || exit 1
policy() { # STANDBY
  usual_policy "    selector: \"server-%Y%m%d\"
    keys: {main: {algorithm: ed25519}}
    rotate-every: 90d
    standby: $1
    publish: {ttl: 30s, safety: 0s}
    confirm: {sightings: 1, every: 1s, warn-after: 1m}
    retire: {drain: 1m, tombstone: 30d}" "  $zone: {policy: standard, publisher: primary, signers: [local]}
  $second: {policy: standard, publisher: primary, signers: [local]}" |
    sed "s|^    reload: .*|&\n    restart: {command: [$world/restart]}|" >"$world/policy.yaml"
}
policy 1
revokes() { dkimroll revoke "$@" --reason "key read on the host" >"$world/run.log" 2>&1 </dev/null; }
record() { dig +tcp +time=2 +tries=1 +short @127.0.0.2 -p "$secondary_port" "$1._domainkey.${2:-$zone}" TXT; }
is_revoked() { [[ $(record "$@") == '"v=DKIM1; k=ed25519; p="' ]]; }
state_of() { sqlite_query "SELECT state FROM key WHERE selector = '$1' AND domain = '${2:-$zone}'"; }
standby_of() { sqlite_query "SELECT selector FROM key WHERE state = 3 AND domain = '$1' ORDER BY ready_at LIMIT 1"; }
selector_now() { mail sign "$milter" "anna@$1" >"$world/now.eml" && mail selector "$world/now.eml"; }
all_ready() { (($(sqlite_query "SELECT count(*) FROM key WHERE state = 3") == 2)); }

echo "- every domain has a key that signs and one that waits, and status says which"
for i in 1 2 3 4; do expect runs 3s; all_ready && break; done
expect all_ready
old=$(selector_now "$zone") standby=$(standby_of "$zone")
[[ $old && $standby && $old != "$standby" ]] || fail "old $old, standby $standby"
dkimroll status "$zone" >"$world/run.log" 2>&1 || fail "status"
expect_log "$standby: ready \(standby\) since"

echo "- nobody is asked where nobody can answer, and the same names could mean more than one key"
expect_status 64 revokes "$old._domainkey.$zone"
expect_log "$zone +$old +active +$standby takes over at once, then p="
expect_log 'standard input is no terminal; nothing was done'
expect_log 'remedy: add --yes'
expect_status 69 revokes "$old" --yes
expect_log "could mean 2 keys or domains; nothing was done"
expect_log "$old._domainkey.$second"
expect_status 64 dkimroll revoke "$zone" --yes 2>"$world/run.log"
expect_log 'reason is missing'
expect_status 66 revokes nobody.test --yes
[[ $(selector_now "$zone") == "$old" && $(state_of "$old") == 4 ]] || fail "something was done"

echo "- a connection of the MTA is open, and the key is revoked: within two seconds all that comes is signed with the standby"
mkfifo "$world/ask" "$world/answer"
"$python" - "$here" "$milter" "anna@$zone" "$world/ask" "$world/answer" <<'PY' &
import re, sys
sys.path.insert(0, sys.argv[1])
import mail
# As an MTA: the connection stays open for many messages, and what the other side has closed is opened again.
milter = mail.Milter(sys.argv[2])
with open(sys.argv[4]) as ask, open(sys.argv[5], "w") as answer:
    for line in ask:
        for attempt in range(2):
            try:
                verdict, headers, added = milter.message(sys.argv[3])
                break
            except (ConnectionError, OSError):
                milter = mail.Milter(sys.argv[2])
        answer.write("%s\n" % re.search(r"s=([^;]+);", " ".join(v for _, v in added)).group(1))
        answer.flush()
PY
world_pids+=($!)
exec 7>"$world/ask" 8<"$world/answer"
over_open_connection() { echo >&7; read -r -t 20 answer <&8; echo "$answer"; }
[[ $(over_open_connection) == "$old" ]] || fail "the open connection"
begun=$(date +%s%N)
revokes "$zone" --yes
status=$?
took=$((($(date +%s%N) - begun) / 1000000))
((status == 0)) || fail "exit $status"
echo "  $took ms, of the whole command"
expect_log "$standby: ready -> active"
expect_log 'every signer was restarted: no connection is left that signs with it'
expect_log "$old: retired -> revoked \(record replaced by one with empty p=\)"
expect_log 'caches may give out the key until .* UTC; mail that it signed since .* fails'
expect_log "$zone $old is revoked since .*, and every server says so: exposure ends"
[[ $(over_open_connection) == "$standby" ]] || fail "the connection that was open signs with $answer"
[[ $(selector_now "$zone") == "$standby" ]] || fail "new connections"
expect mail verify "$secondary" "$world/now.eml" >/dev/null
expect is_revoked "$old"
((took < 10000)) || fail "it took $took ms"

echo "- again it is nothing new; status tells until when the key may do harm; a new standby is made"
expect_status 0 revokes "$old._domainkey.$zone" --yes
expect_log 'nothing: it is revoked already'
dkimroll status >"$world/run.log" 2>&1 && fail "status is content"
expect_log "the key $old is compromised, and caches may give it out until"
dkimroll history "$zone" >"$world/run.log" 2>&1 || fail "history"
expect_log "compromised \(said to be compromised by .*: key read on the host; a key that is ready takes over at once\)"
for i in 1 2 3; do expect runs 3s; all_ready && break; done
expect all_ready

echo "- all active keys of all domains"
first=$(selector_now "$zone") other=$(selector_now "$second")
expect_status 0 revokes --all-active --yes
expect is_revoked "$first"
expect is_revoked "$other" "$second"
[[ $(selector_now "$zone") != "$first" && $(selector_now "$second") != "$other" ]] || fail "the old keys sign"

echo "- without a standby the safe way: a new key, its wait, the switch, then p=; a hold stops it, and revoke says so"
policy 0
for i in 1 2 3; do expect runs 3s; done
signing=$(selector_now "$second")
while [[ $(standby_of "$second") ]]; do expect_status 0 revokes "$(standby_of "$second")._domainkey.$second" --yes; done
expect dkimroll hold "$second" --reason audit >/dev/null
expect_status 75 revokes "$second" --yes --budget 5s
expect_log "HELD for audit: it waits for .dkimroll release $second."
expect_log "$second $signing is NOT revoked yet, it is active: held for audit; .dkimroll release $second. lets it go on"
! grep -q 'happens by itself' "$world/run.log" || fail "what is held does not happen by itself"
[[ $(selector_now "$second") == "$signing" ]] || fail "it switched although held"
proves() { dkimroll prove "$@" >"$world/run.log" 2>&1; }
expect_status 69 proves "$second"
expect_log "the key that signs, $signing, is compromised since"
expect dkimroll release "$second" >/dev/null
dkimroll plan "$second" >"$world/run.log" 2>&1 || fail "plan"
expect_log "$signing.*revoke"
for i in 1 2 3 4; do
  expect runs 3s
  [[ $(state_of "$signing" "$second") == 6 ]] && break
done
expect is_revoked "$signing" "$second"
[[ $(selector_now "$second") != "$signing" ]] || fail "the old key signs"

echo "- a hold of activation alone holds back what another key takes over for, and nothing else"
policy 1
for i in 1 2 3 4; do expect runs 3s; [[ $(standby_of "$second") ]] && break; done
expect dkimroll hold "$second" --only-activation --reason audit >/dev/null
expect_status 64 revokes "$second"
expect_log "HELD for audit"
expect_status 0 revokes "$(standby_of "$second")._domainkey.$second" --yes
expect_log "ready +p= at once; it never signs"
expect dkimroll release "$second" >/dev/null
policy 0
for i in 1 2 3; do expect runs 3s; done
while [[ $(standby_of "$second") ]]; do expect_status 0 revokes "$(standby_of "$second")._domainkey.$second" --yes; done

echo "- now: the record goes at once, mail goes out unsigned until a new key may sign, and none of it fails"
signing=$(selector_now "$second")
expect_status 0 revokes "$second" --now --yes --no-wait
expect_log 'p= at once; mail goes out UNSIGNED until a new key may sign, at about'
expect_log "$signing: active -> revoked"
expect_log "^$second: mail goes out UNSIGNED; a new key takes over "
dkimroll status >"$world/run.log" 2>&1 && fail "status is content"
expect_log "$second: its mail goes out unsigned, since its key was revoked and no other may sign yet, since .*; a new key takes over "
expect deadline 20 is_revoked "$signing" "$second" # with --no-wait nobody has waited for the secondary
unsigned() { mail sign "$milter" "anna@$second" >/dev/null 2>&1; (($? == 1)); }
runs 0s
expect unsigned
for i in 1 2 3 4; do
  expect runs 3s
  selector_now "$second" >/dev/null 2>&1 && break
done
[[ $(selector_now "$second") != "$signing" ]] || fail "the old key signs"
expect mail verify "$secondary" "$world/now.eml" >/dev/null

echo "- the whole host: no key of it is trusted, a new one takes over"
policy 1
for i in 1 2 3 4; do expect runs 3s; [[ $(standby_of "$zone") ]] && break; done
signing=$(selector_now "$zone") standby=$(standby_of "$zone")
[[ $standby ]] || fail "no standby"
expect_status 75 revokes "$zone" --host-compromised --yes --no-wait
expect_log "$zone +$standby +ready +p= at once; it never signs"
expect deadline 20 is_revoked "$standby" # with --no-wait nobody has waited for the secondary
for i in 1 2 3 4; do
  expect runs 3s
  [[ $(state_of "$signing") == 6 ]] && break
done
expect is_revoked "$signing"
now=$(selector_now "$zone")
[[ $now != "$signing" && $now != "$standby" ]] || fail "$now signs"

echo "- a daemon is at work: it is woken, and what it does is shown until it is done"
for i in 1 2 3 4; do expect runs 3s; [[ $(standby_of "$zone") ]] && break; done
signing=$(selector_now "$zone") standby=$(standby_of "$zone")
[[ $standby ]] || fail "no standby"
mkdir "$world/daemon"
world_spawn "$world/daemon" "$DKIMROLL" daemon -p "$world/policy.yaml"
daemon_is_ready() { grep -q "dkimroll daemon" "$world/state/state.db.lock"; }
deadline 20 daemon_is_ready || fail "the daemon does not begin"
expect_status 0 revokes "$signing._domainkey.$zone" --yes
expect_log 'in use by dkimroll daemon, pid .*; asked it to revoke'
expect_log "$signing: active -> retired"
expect_log "$standby: ready -> active"
expect_log "every server says so: exposure ends"
expect is_revoked "$signing"
[[ $(selector_now "$zone") == "$standby" ]] || fail "the standby does not sign"
world_stop "$spawned"

echo "- a domain that left the policy and signs is named, and not silently left out of all"
signing=$(selector_now "$second")
sed -i "/^  $second:/d" "$world/policy.yaml"
expect runs 0s
expect_status 64 revokes --all-active
expect_log "LEFT OUT, because not in the policy any more, though a key of it signs: $second"
expect_status 69 revokes --all-active --yes --now
[[ $(selector_now "$second") == "$signing" ]] || fail "a domain that left was changed"
for i in 1 2 3 4; do expect runs 3s; [[ $(standby_of "$zone") ]] && break; done

echo "- a person is asked on a terminal, and only yes is yes"
"$python" - "$DKIMROLL" "$world/policy.yaml" "$zone" >"$world/run.log" <<'PY' || fail "on a terminal"
import os, pty, sys
for answer, status in ((b"y\n", 75), (b"yes\n", 0)):
    words = [sys.argv[1], "revoke", "-p", sys.argv[2], sys.argv[3], "--reason", "asked", "--now", "--no-wait"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(words[0], words)
    text = b""
    while b"Type yes: " not in text:
        text += os.read(terminal, 4096)
    os.write(terminal, answer)
    try:
        while True:
            part = os.read(terminal, 4096)
            if not part:
                break
            text += part
    except OSError:
        pass
    got = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(text.decode())
    assert got == status, (got, status)
PY
expect_log 'Revoke 1 key of 1 domain\? It cannot be undone'
expect_log 'Nothing was done'
echo "ok"
