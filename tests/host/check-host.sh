#!/usr/bin/env bash
# check-host: dkimroll as its package installs it, on a Debian 12 of its own that is booted in a folder, with opendkim, postfix and bind9 as their packages configure
# them and the README says: a first key and rotations by its units, mail on its way into a mailbox, what an update and a removal keep; and then everything that its
# two sides must not be able to do, tried by programs in their place.
#
#   BUILD           the folder with the package and the built programs; default: build
#   KEEP=1          leaves the host running: nsenter --all --target of its first process leads into it
#   HOST_BASE       where the system lies that is installed once (host.sh)
#
# Needs root, debootstrap and unshare. The host shares no network with this one, has no route, and is removed at the end.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
BUILD=${BUILD:-$top/build}
python=${PYTHON:-/usr/bin/python3}
zone=example.test
version=$(sed -n 's/^VERSION := //p' "$top/Makefile")
package=$(echo "$BUILD/dkimroll_${version}_"*.deb)
# What a mail host has, and the libraries that dkimroll is linked with: the host has no network to get them from.
packages=(opendkim opendkim-tools postfix bind9 bind9-dnsutils bind9-utils libldns3 libyaml-0-2 libsqlite3-0 libsmartcols1 libseccomp2 libssl3 libsystemd0 procps)
passed=0 failed=0 first='' second=''

give_up() { echo "check-host: $*" >&2; exit 1; }
[[ $(id -u) == 0 ]] || give_up "needs root"
[[ -e $package ]] || give_up "there is no package in $BUILD: make deb"
mkdir -p /var/tmp/dkimroll-check-host
work=$(mktemp -d /var/tmp/dkimroll-check-host/run.XXXXXX) || exit 1
root=$work/root

clean_up() {
  local status=$?
  if [[ -n ${KEEP:-} ]]; then
    echo "kept: $work; its first process is ${init:-none}; it ends with kill -KILL, and umount of $root and $root.memory" >&2
  else
    host_stop >/dev/null 2>&1
    rm -rf --one-file-system "$work"
  fi
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# test NAME COMMAND...: its output is shown if it fails.
test_that() {
  local name=$1
  shift
  if "$@" >"$work/log" 2>&1; then
    echo "[       OK ] $name"
    passed=$((passed + 1))
  else
    echo "[  FAILED  ] $name"
    sed 's/^/    /' "$work/log" | tail -n "${TEST_LOG_LINES:-40}"
    failed=$((failed + 1))
  fi
}
say() { echo "== $* ($SECONDS s)"; }
deadline() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || { echo "not in time: $*"; return 1; }
    read -rt 0.1 <> <(:) || :
  done
}
# Each part has a file of its own.
. "$here/host.sh"
. "$here/package.sh"
. "$here/mail.sh"
. "$here/hooks.sh"

# What is there before it is booted.
install_files() {
  echo "nameserver 127.0.0.1" >"$root/etc/resolv.conf"
  install -m 755 "$BUILD/tests/host/probe" "$root/usr/local/bin/probe"
  install -m 4755 "$BUILD/tests/host/probe" "$root/usr/local/bin/probe-suid"
  install -m 755 "$BUILD/tests/host/fake_loop" "$root/usr/local/bin/fake_loop"
}
make_people() { in_host sh -ec 'useradd --create-home visitor; useradd --create-home anna; echo secret >/home/visitor/letter'; }
configure() {
  { make_people && (readme_configure); } >"$work/log" 2>&1 || { cat "$work/log" >&2; in_host journalctl --no-pager -n 40 >&2; give_up "the steps of the README"; }
}

# ---- a life of keys, by the units ----

milter=inet:8891@127.0.0.1
signing_selector() { beside "$python" "$top/tests/integration/mail.py" sign "$milter" "anna@$zone" >"$work/mail.eml" && beside "$python" "$top/tests/integration/mail.py" verify 127.0.0.1:53 "$work/mail.eml"; }
run_unit() { in_host systemctl start dkimroll-run.service || { in_host journalctl --no-pager -n 40 -u dkimroll-run -u 'dkimroll-keeper@*'; return 1; }; }
first_key() { run_unit && first=$(signing_selector) && [[ -n $first ]]; }
rotation() { in_host dkimroll rotate "$zone" && second=$(signing_selector) && [[ -n $second && $second != "$first" ]]; }
removal() { run_unit && [[ ! -e $root/etc/dkimkeys/keys/$zone/$first.private && -e $root/etc/dkimkeys/keys/$zone/$second.private ]]; }
reload_by_bus() { in_host journalctl --no-pager -u opendkim | grep -qi reload; }
state_is_dkimrolls() { [[ -z $(find "$root/var/lib/dkimroll" ! -user "$uid") ]]; }
says() { # PATTERN COMMAND...
  local pattern=$1
  shift
  "$@" >"$work/said" 2>&1
  grep -qE -- "$pattern" "$work/said" || { echo "it does not say: $pattern"; cat "$work/said"; return 1; }
}
says_all() { # COMMAND -- PATTERN...
  local -a command=()
  while [[ $1 != -- ]]; do command+=("$1"); shift; done
  shift
  local pattern
  "${command[@]}" >"$work/said" 2>&1
  for pattern in "$@"; do grep -qE -- "$pattern" "$work/said" || { echo "it does not say: $pattern"; cat "$work/said"; return 1; }; done
}

# ---- what must not be possible ----

# instead UNIT INSTANCE COMMAND...: a program instead of dkimroll, in the sandbox of the unit; its output.
instead() {
  local unit=$1 instance=$2 status=0
  shift 2
  { echo '[Service]'; echo 'ExecStart='; echo "ExecStart=$*"; echo 'Type=oneshot'; echo 'StandardOutput=append:/var/log/instead.log'; } |
    in_host sh -c "mkdir -p /run/systemd/system/$unit.d && cat >/run/systemd/system/$unit.d/instead.conf && rm -f /var/log/instead.log && systemctl daemon-reload"
  in_host systemctl start "$instance" || status=1
  in_host cat /var/log/instead.log
  in_host sh -c "rm -f /run/systemd/system/$unit.d/instead.conf && systemctl daemon-reload"
  return "$status"
}
in_place_of() { # UNIT INSTANCE EXPECTATION...
  instead "$1" "$2" /usr/local/bin/probe "${@:3}" && [[ -s $root/var/log/instead.log ]] && ! grep -q WRONG "$root/var/log/instead.log"
}
as_root() { in_host probe "$@"; }

# taken_over USER DEED...: what the keeper says to a loop side that lies.
taken_over() {
  local user=$1
  shift
  in_host setpriv --reuid="$user" --regid="$user" --init-groups fake_loop /run/dkimroll/keeper.sock "$@"
}
refuses() { # DEED...: every one of them
  local -a deeds=("$@")
  taken_over dkimroll "${deeds[@]}" >"$work/said" 2>&1 || { cat "$work/said"; return 1; }
  cat "$work/said"
  ! grep -q ^DONE "$work/said" && (($(grep -c '^refused .*: \(permission\|invalid\|protocol\|conflict\)' "$work/said") == ${#deeds[@]}))
}
unharmed() { [[ $(in_host sha256sum /etc/shadow /etc/passwd /etc/dkimkeys/KeyTable /etc/dkimkeys/SigningTable) == "$sums" ]]; }
# A link in the directory of keys, as whoever may write there could make it.
link_out() {
  in_host ln -sfn /etc /etc/dkimkeys/keys/out || return 1
  refuses "destroy /etc/dkimkeys/keys/out/shadow" "generate /etc/dkimkeys/keys/out/evil.private" "read /etc/dkimkeys/keys/out/shadow"
}
# Names of keys that are links, to a key of this host and to a directory with one.
link_key_out() {
  in_host ln -sfn /etc/ssl/private/ssl-cert-snakeoil.key "/etc/dkimkeys/keys/$zone/link.private" || return 1
  refuses "give /etc/dkimkeys/keys/$zone/link.private /etc/dkimkeys/keys/$zone/got.private opendkim:opendkim" "give /etc/dkimkeys/keys/out/ssl/private/ssl-cert-snakeoil.key /etc/dkimkeys/keys/$zone/got.private opendkim:opendkim" \
    "destroy /etc/dkimkeys/keys/$zone/link.private" "archive /etc/dkimkeys/keys/$zone/link.private /etc/dkimkeys/keys/$zone" && in_host test ! -e "/etc/dkimkeys/keys/$zone/got.private" -a -s /etc/ssl/private/ssl-cert-snakeoil.key
  local status=$?
  in_host rm -f "/etc/dkimkeys/keys/$zone/link.private"
  return "$status"
}
# A key that stands in the KeyTable itself, as an administrator may have put it there: what the keeper says of the table, in answers and in errors, holds nothing of it.
inline_key_stays() {
  local secret=MC4CAQAwBQYDK2VwBCIEIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g tables='/etc/dkimkeys/KeyTable /etc/dkimkeys/SigningTable' status=0
  in_host sh -c "cp -p /etc/dkimkeys/KeyTable /root/KeyTable; echo 'inline $zone:inline:$secret' >>/etc/dkimkeys/KeyTable"
  taken_over dkimroll "survey $tables /etc/dkimkeys/keys/%d $zone" "conflict $tables inline $zone:inline:/etc/dkimkeys/keys/$zone/x.private" "look $tables" "users /etc/dkimkeys/elsewhere.private" >"$work/said" 2>&1 || status=1
  cat "$work/said"
  grep -q '^DONE survey' "$work/said" && grep -q 'not.shown' "$work/said" && ! grep -qE 'MC4CAQAwBQ|CQoLDA0O|GRobHB0e' "$work/said" || status=1
  in_host sh -c 'cat /root/KeyTable >/etc/dkimkeys/KeyTable'
  return "$status"
}
exposures() {
  local unit
  for unit in dkimroll-run.service dkimroll.service dkimroll-keeper@x.service; do exposure "$unit" "$1" || return 1; done
}
exposure() { # UNIT [WITH]: at most 1.5
  local figure
  in_host systemd-analyze --no-pager security "$1" >"$work/security" 2>&1
  figure=$(sed -n 's/.*Overall exposure level for .*: \([0-9.]*\) .*/\1/p' "$work/security")
  echo "   $1${2:+ $2}: ${figure:-?}" >>"$work/figures"
  [[ -n $figure ]] && awk "BEGIN {exit !($figure <= 1.5)}" || { cat "$work/security"; return 1; }
}
reload_by() { # RELOAD: a rotation with that in the policy
  in_host sed -i "s|    reload: .*|    reload: $1|" /etc/dkimroll/policy.yaml
  in_host dkimroll rotate "$zone" && [[ $(signing_selector) != "$second" ]] && second=$(signing_selector)
}
# The usual socket of Debian's opendkim, for its group.
milter_file() {
  in_host sh -ec 'usermod -aG opendkim dkimroll; sed -i "s|^Socket .*|Socket local:/run/opendkim/opendkim.sock|" /etc/opendkim.conf; systemctl restart opendkim
    sed -i "s|    milter: .*|    milter: \"unix:/run/opendkim/opendkim.sock\"|" /etc/dkimroll/policy.yaml'
  deadline 10 in_host test -S /run/opendkim/opendkim.sock
  in_host dkimroll rotate --no-wait "$zone" && run_unit && in_host dkimroll prove
  local status=$?
  in_host sh -ec 'sed -i "s|^Socket .*|Socket inet:8891@localhost|" /etc/opendkim.conf; systemctl restart opendkim
    sed -i "s|    milter: .*|    milter: \"inet:8891@127.0.0.1\"|" /etc/dkimroll/policy.yaml; gpasswd -d dkimroll opendkim'
  second=$(signing_selector)
  return "$status"
}
# As it was when one user did everything.
state_of_root() { in_host chown -R root:root /var/lib/dkimroll && in_host systemctl start dkimroll-run.service && state_is_dkimrolls; }
# The walls of processes that work: in the middle of a rotation.
status_of() { in_host sh -c "cat /proc/\$(pgrep -o -x $1)/status"; }
processes() {
  local status
  in_host dkimroll rotate --no-wait "$zone"
  in_host systemctl start --no-block dkimroll-run.service
  deadline 20 in_host pgrep -x dkimroll-keeper || return 1
  deadline 5 in_host pgrep -x dkimroll || return 1
  status=$(status_of dkimroll)
  echo "$status"
  grep -qE "^Uid:\s$uid\s$uid\s$uid\s$uid$" <<<"$status" && grep -qE '^CapEff:\s0+$' <<<"$status" && grep -qE '^CapBnd:\s0+$' <<<"$status" &&
    grep -qE '^NoNewPrivs:\s1$' <<<"$status" || return 1
  status=$(status_of dkimroll-keeper)
  echo "$status"
  grep -qE '^NoNewPrivs:\s1$' <<<"$status" && grep -qE '^Seccomp:\s2$' <<<"$status" || return 1
}

. "$here/daemon.sh"
. "$here/emergency.sh"

# ---- all of it ----

say "a Debian 12 with opendkim, postfix and named"
host_prepare "$root" "${packages[@]}"
install_files
host_boot
package_first_tests
configure
uid=$(in_host id -u dkimroll)
if "$BUILD/tests/host/probe" +landlock >/dev/null; then landlock='Landlock \(ABI [0-9]+\) keeps it away'; else landlock='there is no Landlock here'; fi

say "a life of keys"
test_that "before the first run check finds everything that it needs, and the walls that stand" \
  says_all in_host dkimroll check -- "runs as user $uid, without capabilities" "$landlock" 'reached by /run/dkimroll/keeper.sock, as root' 'the keeper has no network' 'A rotation can run|All right'
test_that "the first key is made, published and signs" first_key
test_that "root rotates by hand, through the socket" rotation
test_that "the old key is revoked and removed" removal
test_that "opendkim was reloaded by its unit over D-Bus" reload_by_bus
test_that "nothing in the state belongs to root" state_is_dkimrolls
test_that "check tells of the walls" says_all in_host dkimroll check -- "runs as user $uid, without capabilities" 'reached by /run/dkimroll/keeper.sock, as root' 'the keeper has no network'
test_that "prove proves" in_host dkimroll prove
in_host systemctl stop dkimroll-keeper.socket
test_that "without the socket root forks the keeper itself, and gives up its own rights all the same" \
  says_all in_host dkimroll check -- "runs as user $uid, without capabilities" 'a process of this command, as root' 'the keeper has no network'
test_that "and rotates" in_host dkimroll rotate "$zone"
test_that "the run that must reach the socket brings it back" run_unit
second=$(signing_selector)
test_that "still nothing in the state belongs to root" state_is_dkimrolls
test_that "the working processes have the rights that they should have" processes
in_host systemctl stop dkimroll-run.service >/dev/null 2>&1
second=$(signing_selector)
test_that "in its unit check finds the same walls, Landlock among them if the kernel has it" \
  says_all instead dkimroll-run.service dkimroll-run.service /usr/sbin/dkimroll check -- "runs as user $uid, without capabilities" "$landlock" 'reached by /run/dkimroll/keeper.sock, as root' 'the keeper has no network' 'A rotation can run|All right'
test_that "OpenDKIM is reloaded by its pid file" reload_by '{pid-file: /run/opendkim/opendkim.pid}'
test_that "and by a command" reload_by '{command: [/usr/bin/systemctl, kill, --signal=USR1, opendkim.service]}'
test_that "and by its unit again" reload_by '{unit: opendkim.service}'
test_that "a milter socket that is a file is reached by its group" milter_file
test_that "a state that is root's from earlier is taken over" state_of_root
in_host chmod 0600 /etc/dkimroll/policy.yaml
test_that "check by root says that the timer's run could not read the policy" says 'FAILED +user .* cannot read the policy' in_host dkimroll check
in_host chmod 0644 /etc/dkimroll/policy.yaml
in_host chgrp bind /etc/dkimroll/tsig.key
test_that "and the TSIG key" says 'chgrp dkimroll /etc/dkimroll/tsig.key' in_host dkimroll check
in_host chgrp dkimroll /etc/dkimroll/tsig.key

daemon_part
mail_tests
emergency_part
hooks_on_host
second=$(active_selector)

say "what the loop side cannot do"
key=/etc/dkimkeys/keys/$zone/$second.private
# Not every kernel has it.
uring=$("$BUILD/tests/host/probe" +call:uring >/dev/null && echo +call:uring)
opendkim_pid=$(in_host pgrep -o -x opendkim)
test_that "the probe finds all of it possible for root without a unit" \
  as_root +read:$key +write:/etc/dkimkeys/KeyTable +make:/etc/probe +signal:"$opendkim_pid" +socket:inet +read:/home/visitor/letter +list:/var/lib/dkimroll +call:executable-memory +trace:"$opendkim_pid" +call:namespace $uring
test_that "private keys, tables, the signer, the system" in_place_of dkimroll-run.service dkimroll-run.service \
  +socket:inet +connect:53 +unix:/run/dkimroll/keeper.sock +make:/var/lib/dkimroll/probe +read:/etc/dkimroll/policy.yaml +read:/etc/dkimroll/tsig.key \
  -read:$key -list:/etc/dkimkeys -read:/etc/dkimkeys/KeyTable -write:/etc/dkimkeys/KeyTable -make:/etc/dkimkeys/probe -list:/var/lib/dkimroll-keeper \
  -read:/etc/shadow -read:/etc/bind/rndc.key -write:/etc/dkimroll/policy.yaml -make:/etc/probe -make:/usr/local/bin/probe-2 -read:/home/visitor/letter -make:/run/dkimroll/probe \
  -signal:"$opendkim_pid" -signal:1 -trace:"$opendkim_pid" -memory:"$opendkim_pid" -root -gain:/usr/local/bin/probe-suid \
  -socket:netlink -socket:packet -socket:raw -call:module -call:mount -call:clock -call:hostname -call:namespace -call:device -call:uring -call:executable-memory

say "what the keeper cannot do"
test_that "the network, the rest of the system" in_place_of dkimroll-keeper@.service dkimroll-keeper@probe.service \
  +read:$key +write:/etc/dkimkeys/KeyTable +make:/etc/dkimkeys/probe +signal:"$opendkim_pid" +unix:/run/dbus/system_bus_socket +make:/var/lib/dkimroll-keeper/probe \
  -socket:inet -socket:inet6 -socket:netlink -socket:packet -socket:vsock -connect:53 -make:/etc/probe -write:/etc/shadow -write:/etc/dkimroll/policy.yaml -make:/usr/local/bin/probe-2 \
  -read:/home/visitor/letter -list:/var/lib/dkimroll -make:/var/lib/dkimroll/probe -make:/root/probe -make:/run/probe -trace:"$opendkim_pid" -memory:"$opendkim_pid" \
  -call:module -call:mount -call:clock -call:hostname -call:namespace -call:device -call:uring -call:executable-memory

say "what the keeper does not do for a loop side that was taken over"
in_host systemctl start dkimroll-keeper.socket
in_host install -o opendkim -g opendkim -m 0600 "$key" /etc/dkimkeys/elsewhere.private
sums=$(in_host sha256sum /etc/shadow /etc/passwd /etc/dkimkeys/KeyTable /etc/dkimkeys/SigningTable)
test_that "the fake reaches the keeper: the public half of the key that signs is nobody's secret" says '^DONE read' taken_over dkimroll "read $key"
test_that "destroy, read, archive, make or copy files outside of the policy" refuses "destroy /etc/shadow" "destroy /etc/dkimkeys/elsewhere.private" "read /etc/shadow" \
  "read /etc/ssl/private/ssl-cert-snakeoil.key" "archive $key /var/lib/dkimroll" "archive /etc/shadow /etc/dkimkeys/keys/x" "generate /etc/cron.d/evil" "generate /etc/dkimkeys/evil.private" \
  "copy $key /var/lib/dkimroll/stolen" "copy /etc/shadow /etc/dkimkeys/keys/x/shadow"
test_that "paths that lead upwards" refuses "destroy /etc/dkimkeys/keys/../../shadow" "read /etc/dkimkeys/keys/$zone/../../../shadow" "generate /etc/dkimkeys/keys/../../cron.d/evil" "destroy ../etc/shadow"
test_that "a link that leads out" link_out
test_that "names of keys that are links out of their directories" link_key_out
test_that "what stands in other tables and directories, and what a table names" refuses "survey /etc/passwd /etc/dkimkeys/SigningTable /etc/dkimkeys/keys/%d $zone" "survey /etc/dkimkeys/KeyTable /etc/shadow /etc/dkimkeys/keys/%d $zone" \
  "survey /etc/dkimkeys/KeyTable /etc/dkimkeys/SigningTable /etc/ssl/private $zone" "survey /etc/dkimkeys/KeyTable /etc/dkimkeys/SigningTable /etc/dkimkeys/keys/%d .." "look /etc/shadow /etc/dkimkeys/SigningTable" "check /etc/shadow root"
test_that "a private key that stands in a table itself" inline_key_stays
test_that "other tables, and other keys in the right ones" refuses "tables /etc/passwd /etc/shadow" "tables /etc/dkimkeys/KeyTable /etc/shadow" "tables /etc/dkimkeys/../passwd /etc/dkimkeys/SigningTable" \
  "point /etc/dkimkeys/KeyTable refile:/etc/dkimkeys/SigningTable $zone:evil:/etc/shadow" "point /etc/dkimkeys/KeyTable /etc/dkimkeys/SigningTable $zone:evil:/etc/shadow" \
  "point /etc/dkimkeys/KeyTable /etc/dkimkeys/SigningTable $zone:evil:/etc/dkimkeys/keys/../../shadow"
test_that "other reloads, and no reload at all" refuses "unit ssh.service" "unit named.service" "pid-file /run/named/named.pid" "command /bin/sh" "command /usr/bin/touch /etc/evil" "nonsense x"
test_that "nothing of that was done" unharmed
test_that "keys for others than the signer, or for everybody" refuses "generate /etc/dkimkeys/keys/$zone/mine.private dkimroll:dkimroll 0600" "copy $key /etc/dkimkeys/keys/$zone/mine.private" \
  "generate /etc/dkimkeys/keys/$zone/open.private opendkim:opendkim 0640" "generate /etc/dkimkeys/keys/$zone/open.private opendkim:opendkim 0644"
test_that "another user is not let in by the socket" says 'Permission denied' taken_over visitor "read $key"
in_host chmod 0666 /run/dkimroll/keeper.sock
test_that "nor by the keeper, if the socket were open" says 'closed the connection|unreachable' taken_over visitor "read $key"
in_host chmod 0660 /run/dkimroll/keeper.sock
in_host chown dkimroll /etc/dkimroll/policy.yaml
test_that "a policy that the loop side could write is not obeyed" says "refused read .*root's alone" taken_over dkimroll "read $key"
in_host chown root /etc/dkimroll/policy.yaml
test_that "the keeper has put down what the policy grants, where only root can write" \
  says '^signer .*/etc/dkimkeys/keys/%d' in_host cat /var/lib/dkimroll-keeper/grants
in_host sed -i 's|/etc/dkimkeys/keys/%d|/etc/dkimkeys/new/%d|' /etc/dkimroll/policy.yaml
test_that "a path that left the policy is still granted to keys that live" says '^DONE read' taken_over dkimroll "read $key"
in_host sed -i 's|/etc/dkimkeys/new/%d|/etc/dkimkeys/keys/%d|' /etc/dkimroll/policy.yaml

say "systemd-analyze security"
for unit in "$root"/lib/systemd/system/dkimroll*.service; do
  unit=$(basename "$unit")
  test_that "the exposure of $unit is at most 1.5" exposure "${unit/@./@x.}"
done
cat "$work/figures"
test_that "after all that the host still signs" signing_selector
package_last_tests

say "end"
echo "[==========] $((passed + failed)) test(s) run."
echo "[  PASSED  ] $passed test(s)."
((failed == 0)) || echo "[  FAILED  ] $failed test(s)."
echo "$passed $failed" >>"${CHECK_SUMMARY:-/dev/null}"
((failed == 0))
