# The daemon by its unit. Sourced by check-host.sh, whose functions and variables it uses.

property() { in_host systemctl show --value -p "$1" dkimroll.service; }
is_active() { in_host systemctl is-active --quiet "$1"; }
daemon_start() { in_host systemctl start dkimroll.service || { in_host journalctl --no-pager -n 40 -u dkimroll; return 1; }; }
daemon_enables() { in_host systemctl enable --now dkimroll.service && is_active dkimroll.service; }
daemon_tells() { deadline 20 eval '[[ $(property StatusText) == next:* ]]' && in_host dkimroll status | grep -q 'At work: dkimroll daemon, pid'; }
daemon_rotates() {
  local before
  before=$(signing_selector) || return 1
  in_host dkimroll rotate "$zone" && second=$(signing_selector) && [[ $second != "$before" ]]
}
# Either the one or the other.
timer_stops_it() { in_host systemctl start dkimroll-run.timer && deadline 20 eval '! is_active dkimroll.service' && is_active dkimroll-run.timer; }
it_stops_the_timer() { daemon_start && deadline 20 eval '! is_active dkimroll-run.timer' && is_active dkimroll.service; }
run_beside_it() { in_host systemctl start dkimroll-run.service && in_host journalctl --no-pager -u dkimroll-run | grep -qE 'The daemon does it|Nothing is due' && is_active dkimroll.service; }
daemon_reloads() {
  local pid
  pid=$(property MainPID)
  in_host sed -i 's/verify-window: 1s/verify-window: 2s/' /etc/dkimroll/policy.yaml
  in_host systemctl reload dkimroll || { in_host journalctl --no-pager -n 40 -u dkimroll; return 1; }
  is_active dkimroll.service && [[ $(property MainPID) == "$pid" ]] && in_host journalctl --no-pager -u dkimroll | grep -q 'the policy was read again'
}
daemon_refuses() {
  in_host cp /etc/dkimroll/policy.yaml /etc/dkimroll/good.yaml
  in_host sed -i 's/verify-window: 2s/verify-window: soon/' /etc/dkimroll/policy.yaml
  in_host systemctl reload dkimroll && { echo "a reload with a wrong policy succeeds"; return 1; }
  in_host journalctl --no-pager -u dkimroll | grep -q 'policy.yaml:[0-9]*:[0-9]*: ' || { echo "no place of the mistake"; return 1; }
  is_active dkimroll.service || return 1
  in_host cp /etc/dkimroll/good.yaml /etc/dkimroll/policy.yaml
  daemon_rotates && in_host systemctl reload dkimroll
}
reload_by_hand() { says_all in_host dkimroll reload -- 'policy compiled|the policy is the one that was compiled last' && in_host dkimroll reload; }
# comes_again PROCESS: it hangs, is killed, and comes again.
comes_again() {
  local before
  before=$(property NRestarts)
  in_host kill -STOP "$1" || return 1
  deadline 60 eval '(($(property NRestarts) > before)) && is_active dkimroll.service && [[ $(property SubState) == running ]]' || { in_host journalctl --no-pager -n 30 -u dkimroll; return 1; }
  daemon_rotates
}
hang_of_the_head() { comes_again "$(property MainPID)"; }
hang_of_the_loop() { comes_again "$(in_host pgrep -P "$(property MainPID)")"; }
short_watchdog() {
  in_host sh -ec 'mkdir -p /run/systemd/system/dkimroll.service.d
    printf "[Service]\nWatchdogSec=4s\nRestartSec=1s\n[Unit]\nStartLimitIntervalSec=0\n" >/run/systemd/system/dkimroll.service.d/test.conf; systemctl daemon-reload; systemctl restart dkimroll'
}
# With a watchdog that is not stopped it lives on: longer than the time that a stuck loop would have.
lives_on() {
  local before
  before=$(property NRestarts)
  deadline 12 false
  [[ $(property NRestarts) == "$before" ]] && is_active dkimroll.service
}
killed() {
  local before
  before=$(property NRestarts)
  in_host kill -KILL "$(property MainPID)"
  deadline 30 eval '(($(property NRestarts) > before)) && is_active dkimroll.service && [[ $(property SubState) == running ]]' && daemon_rotates
}
# A tool of a DNS provider that is at work when the daemon is stopped comes to its end first.
tool_install() {
  cat >"$root/usr/local/bin/provider" <<'TOOL'
#!/bin/sh
trap 'echo ended >>/var/lib/dkimroll/tool.log; exit 75' TERM
echo "begin $1" >>/var/lib/dkimroll/tool.log
grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs):' /proc/self/status >>/var/lib/dkimroll/tool.log
cat /etc/dkimkeys/keys/*/*.private /var/lib/dkimroll-keeper/grants >>/var/lib/dkimroll/tool.log 2>/dev/null && echo "reads keys" >>/var/lib/dkimroll/tool.log
i=0
while [ -e /var/lib/dkimroll/tool.slow ] && [ "$i" -lt 40 ]; do sleep 0.1; i=$((i + 1)); done
sh /usr/share/doc/dkimroll/examples/publisher-nsupdate.sh /etc/dkimroll/tsig.key 127.0.0.1 53 "$1"
status=$?
echo "end $1 $status" >>/var/lib/dkimroll/tool.log
exit "$status"
TOOL
  chmod 755 "$root/usr/local/bin/provider"
  in_host sed -i 's|^publishers:|&\n  provider: {type: command, command: [/usr/local/bin/provider], servers: ["127.0.0.1:53"]}|; s|^    publisher: .*|    publisher: provider|' /etc/dkimroll/policy.yaml
  in_host runuser -u dkimroll -- touch /var/lib/dkimroll/tool.slow
}
tool_log() { grep -q "^$1" "$root/var/lib/dkimroll/tool.log"; }
stop_lets_tools_finish() {
  tool_install && in_host systemctl restart dkimroll || return 1
  in_host dkimroll rotate --no-wait "$zone" >/dev/null &
  deadline 60 tool_log begin && in_host systemctl stop dkimroll || return 1
  wait $!
  cat "$root/var/lib/dkimroll/tool.log"
  tool_log ended && return 1
  tool_log 'end add 0' && [[ $(property Result) == success ]] || return 1
  # It runs as the loop side does, and sees no more.
  tool_log "Uid:.$uid.$uid.$uid.$uid" && tool_log 'CapEff:.0*$' && tool_log 'CapBnd:.0*$' && tool_log 'NoNewPrivs:.1' && ! tool_log 'reads keys' && ! grep -q 'PRIVATE' "$root/var/lib/dkimroll/tool.log" || return 1
  # Keys that were made with it are undone with it.
  rm "$root/var/lib/dkimroll/tool.slow"
  in_host sed -i 's|^    publisher: .*|    publisher: primary|' /etc/dkimroll/policy.yaml
  daemon_start && daemon_rotates
}
daemon_ends() { in_host systemctl stop dkimroll && [[ $(property Result) == success ]] && ! is_active dkimroll.service; }
daemon_boots() { # Both are enabled: one of them works.
  in_host systemctl enable dkimroll.service dkimroll-run.timer
  in_host systemctl stop dkimroll.service dkimroll-run.timer
  in_host systemctl isolate multi-user.target
  deadline 30 eval 'is_active dkimroll.service || is_active dkimroll-run.timer' || return 1
  is_active dkimroll.service && is_active dkimroll-run.timer && { echo "both are active"; return 1; }
  in_host systemctl disable --now dkimroll-run.timer
  return 0
}

# ---- drop-ins from the policy's paths ----

units_first() { says_all in_host dkimroll units -- 'Nothing is needed'; }
units_needed() {
  in_host install -d -o opendkim -g opendkim -m 0700 /srv/mail /srv/mail/dkim
  in_host sh -ec 'cp /etc/dkimroll/policy.yaml /etc/dkimroll/good.yaml
    sed -i "s|key-directory: .*|key-directory: /srv/mail/dkim/%d|; s|tsig-file: .*|tsig-file: credential:dkimroll-tsig|" /etc/dkimroll/policy.yaml'
  says_all in_host dkimroll units -- 'dkimroll-keeper@.service.d/50-dkimroll-policy.conf' '^ReadWritePaths=-/srv/mail/dkim$' '^LoadCredential=dkimroll-tsig:/etc/dkimroll/tsig.key$' \
    '^InaccessiblePaths=-/srv/mail/dkim$' 'Nothing was written'
}
check_tells() { says 'dkimroll-keeper@.service lacks ReadWritePaths=-/srv/mail/dkim' in_host dkimroll check; }
units_applied() {
  in_host dkimroll units --apply && in_host systemctl daemon-reload && says 'The drop-ins are as the policy needs them' in_host dkimroll units --apply || return 1
  in_host systemctl restart dkimroll || { in_host journalctl --no-pager -n 40 -u dkimroll; return 1; }
  exposures 'with drop-ins of units' && daemon_rotates && [[ -n $(find "$root/srv/mail/dkim" -name "$second.private") ]]
}
# Keys that were made in the other place are ended there: the keeper may write there until they are, also if the drop-ins are made anew from a policy that knows nothing of it.
elsewhere_is_empty() { [[ -z $(find "$root/srv/mail/dkim" -name '*.private') ]]; }
units_keep_old_places() {
  in_host cp /etc/dkimroll/good.yaml /etc/dkimroll/policy.yaml
  in_host systemctl restart dkimroll || return 1
  elsewhere_is_empty && { echo "no key lives in the other place"; return 1; }
  says_all in_host dkimroll units -- '^# keys of signer .*, of an earlier policy, whose last keys live$' '^ReadWritePaths=-/srv/mail/dkim$' || return 1
  in_host dkimroll units --apply && in_host systemctl daemon-reload && in_host systemctl restart dkimroll && daemon_rotates && deadline 180 elsewhere_is_empty
}
units_undone() {
  says 'not needed any more: .*dkimroll-keeper@.service.d' in_host dkimroll units || return 1
  in_host dkimroll units --apply && in_host systemctl daemon-reload && [[ ! -e $root/etc/systemd/system/dkimroll-keeper@.service.d/50-dkimroll-policy.conf ]] &&
    in_host systemctl restart dkimroll && daemon_rotates
}

daemon_part() {
  say "the daemon"
  in_host systemctl stop dkimroll-run.timer
  test_that "it is enabled and started, and is ready when systemctl returns" daemon_enables
  test_that "it tells what comes next, and status of it" daemon_tells
  test_that "root rotates beside it" daemon_rotates
  test_that "a run by its unit beside it has nothing to do" run_beside_it
  test_that "starting the timer stops it" timer_stops_it
  test_that "and the reverse" it_stops_the_timer
  test_that "it reads a changed policy on reload, and stays the process that systemd knows" daemon_reloads
  test_that "a wrong policy fails the reload, the log says where, and the old one is in force" daemon_refuses
  test_that "root asks for a reload by hand, and is answered" reload_by_hand
  short_watchdog
  test_that "it lives with its watchdog" lives_on
  test_that "a head that hangs is killed and comes again" hang_of_the_head
  test_that "and a loop that hangs" hang_of_the_loop
  test_that "killed, it comes again" killed
  test_that "the policy needs nothing that the units lack" units_first
  test_that "keys elsewhere and a credential are needed in drop-ins" units_needed
  test_that "which check tells" check_tells
  test_that "and with them it works there" units_applied
  test_that "keys of an earlier policy end where they are" units_keep_old_places
  test_that "and they go when they are not needed" units_undone
  test_that "a provider's tool that is at work when it is stopped comes to its end, with the rights of the loop side" stop_lets_tools_finish
  test_that "it stops in order" daemon_ends
  test_that "of two that are enabled one works" daemon_boots
  in_host systemctl stop dkimroll.service
  test_that "what the loop side cannot do the daemon cannot" in_place_of dkimroll.service dkimroll.service \
    +socket:inet +connect:53 +unix:/run/dkimroll/keeper.sock +make:/var/lib/dkimroll/probe -list:/etc/dkimkeys -make:/etc/dkimkeys/probe -list:/var/lib/dkimroll-keeper \
    -read:/etc/shadow -make:/etc/probe -read:/home/visitor/letter -make:/run/dkimroll/probe -signal:1 -root -gain:/usr/local/bin/probe-suid -socket:netlink -socket:packet -socket:raw \
    -call:module -call:mount -call:clock -call:namespace -call:uring -call:executable-memory
  in_host systemctl disable --now dkimroll.service >/dev/null 2>&1
  in_host sh -c 'rm -f /run/systemd/system/dkimroll.service.d/test.conf; systemctl daemon-reload'
}
