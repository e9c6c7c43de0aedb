# A private key is in other hands, on a host as its packages configure it: the signer is restarted by systemd, for commands that may not even signal it. For tests/host/check-host.sh.

keys_in() { # STATE: how many
  in_host dkimroll status "$zone" --json | "$python" -c 'import json, sys
print(sum(key["state"] == sys.argv[1] for key in json.load(sys.stdin)["keys"]))' "$1"
}
signer_pid() { in_host systemctl show --value -p MainPID opendkim.service; }
standby_waits() { (($(keys_in ready) == 1)); }
emergency_prepare() {
  in_host sed -i '/^ *standby:/d; s/^\( *\)rotate-every: .*/&\n\1standby: 1/; s/tombstone: .*/tombstone: 1h/' /etc/dkimroll/policy.yaml
  in_host systemctl start dkimroll-run.service && deadline 60 standby_waits
}
tombstone_of() { in_host dig +short @127.0.0.1 "$1._domainkey.$zone" TXT; }
# revoked WORDS...: within two seconds another key is proved, the signer was restarted, and mail that is handed over comes out signed with it.
revoked() {
  local before pid began line status took=''
  before=$(active_selector) pid=$(signer_pid)
  began=$(date +%s%N)
  while read -r line; do
    echo "$line"
    [[ $line == *'ready -> active'* ]] && took=$((($(date +%s%N) - began) / 1000000))
    [[ $line == 'exit '* ]] && status=${line#exit }
  done < <(in_host dkimroll revoke "$zone" --reason "key read on mx1" --yes "$@" 2>&1 </dev/null; echo "exit $?")
  echo "proved after ${took:-?} ms"
  [[ $status == 0 && -n $took ]] && ((took < 2000)) || return 1
  echo "   revoke: another key proved after $took ms" >>"$work/figures"
  [[ $(signer_pid) != "$pid" ]] || { echo "opendkim was not restarted"; return 1; }
  [[ $(tombstone_of "$before") =~ ^\"v=DKIM1\;\ k=[a-z0-9]+\;\ p=\"$ ]] || { echo "the record says $(tombstone_of "$before")"; return 1; }
  second=$(active_selector)
  [[ $second != "$before" ]] && mail_signed "$second" mail_by_sendmail mail_by_smtp
}
revoked_beside_daemon() {
  in_host systemctl start dkimroll.service && deadline 60 standby_waits && revoked
  local status=$?
  in_host systemctl stop dkimroll.service
  return "$status"
}
# The signer is down just then: nothing is switched to what cannot be proved, and it is done when the signer is back.
is_revoked() { (($(keys_in revoked) > $1)); }
revoked_without_signer() {
  local before revoked status
  in_host systemctl start dkimroll-run.service && deadline 60 standby_waits || return 1
  before=$(active_selector) revoked=$(keys_in revoked)
  in_host systemctl stop opendkim.service
  in_host dkimroll revoke "$zone" --reason "key read on mx1" --yes --no-wait </dev/null >"$work/said" 2>&1
  status=$?
  cat "$work/said"
  in_host systemctl start opendkim.service
  ((status == 75)) && grep -q "$before is NOT revoked yet" "$work/said" || { echo "exit $status"; return 1; }
  deadline 60 eval 'run_unit && is_revoked '"$revoked" && [[ $(active_selector) != "$before" ]]
}

emergency_part() {
  say "an emergency"
  test_that "a key is kept in waiting" emergency_prepare
  test_that "revoke: another key signs within two seconds, connections end by systemd, mail is signed with it" revoked
  test_that "and beside the daemon" revoked_beside_daemon
  test_that "a signer that is down is waited for" revoked_without_signer
  in_host sed -i '/^ *standby:/d; s/tombstone: 1h/tombstone: 2s/' /etc/dkimroll/policy.yaml
  second=$(active_selector)
}
