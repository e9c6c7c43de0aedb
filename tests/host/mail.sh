# Mail as Debian's Postfix sends it through Debian's OpenDKIM, into a mailbox, judged by python3-dkim against the zone. For tests/host/check-host.sh.
mail=$work/mail.eml

# A message that somebody hands over; it comes out in the mailbox of visitor.
mail_text() { printf 'From: Anna <anna@%s>\nTo: visitor@localhost\nSubject: %s\n\nGood morning.\n' "$zone" "$1"; }
mail_by_sendmail() { mail_text "$1" | in_host runuser -u anna -- /usr/sbin/sendmail -f "anna@$zone" visitor@localhost; }
mail_by_smtp() { mail_text "$1" | beside "$python" -c 'import smtplib, sys; smtplib.SMTP("127.0.0.1", timeout=20).sendmail(sys.argv[1], ["visitor@localhost"], sys.stdin.read())' "anna@$zone"; }
mail_is_there() { grep -q "^Subject: $1\$" "$root/var/mail/visitor"; }
# mail_selector HOW: the selector that signed it, if the signature verifies.
mail_selector() {
  local subject="$1 $RANDOM$RANDOM"
  rm -f "$root/var/mail/visitor"
  "$1" "$subject" || return 1
  deadline 30 mail_is_there "$subject" || { in_host mailq; in_host journalctl --no-pager -n 30; return 1; }
  # The first line is the mailbox's.
  sed '1{/^From /d}' "$root/var/mail/visitor" >"$mail"
  beside "$python" "$top/tests/integration/mail.py" verify 127.0.0.1:53 "$mail"
}
mail_signed() { # SELECTOR HOW...
  local expected=$1 how found
  shift
  for how in "$@"; do
    found=$(mail_selector "$how") || { echo "$found"; return 1; }
    [[ $found == "$expected" ]] || { echo "$how: signed with s=${found:-?} and not $expected"; return 1; }
  done
}

# The selector that status calls active.
active_selector() {
  in_host dkimroll status "$zone" --json | "$python" -c 'import json, sys
for key in json.load(sys.stdin)["keys"]:
  if key["state"] == "active": print(key["selector"])'
}
mail_rotated_by() { # COMMAND...: does what it must for another key to sign, and mail shows it
  local before
  before=$(active_selector)
  "$@" || return 1
  second=$(active_selector)
  [[ -n $second && $second != "$before" ]] || { echo "before: $before, now: ${second:-none}"; in_host dkimroll status; return 1; }
  mail_signed "$second" mail_by_sendmail mail_by_smtp
}

# The timer of the package, which the test lets elapse every two seconds.
mail_other_signs() { [[ $(active_selector) != "$1" ]]; }
by_timer() {
  local before
  before=$(active_selector)
  in_host sh -ec 'mkdir -p /run/systemd/system/dkimroll-run.timer.d
    printf "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/2\nRandomizedDelaySec=0\nAccuracySec=100ms\n" >/run/systemd/system/dkimroll-run.timer.d/often.conf
    systemctl daemon-reload; systemctl enable --now dkimroll-run.timer'
  in_host dkimroll rotate --no-wait "$zone"
  deadline 90 mail_other_signs "$before"
  local status=$?
  in_host sh -ec 'systemctl disable --now dkimroll-run.timer; rm -r /run/systemd/system/dkimroll-run.timer.d; systemctl daemon-reload'
  # A run that has begun ends by itself.
  mail_run_is_over() { ! in_host systemctl is-active dkimroll-run.service | grep -q ^activating; }
  deadline 130 mail_run_is_over
  return "$status"
}
by_service() { in_host dkimroll rotate --no-wait "$zone" && run_unit; }
by_hand() { in_host dkimroll rotate "$zone"; }

# The TSIG key as a credential (dkimroll(8), EXAMPLES): nobody but root may read the file, and commands by hand are given it, too. Keys that live were published with
# the file that was there before.
with_credential() {
  in_host sh -ec 'install -m 0600 /etc/dkimroll/tsig.key /etc/dkimroll/tsig-of-root.key
    mkdir -p /etc/systemd/system/dkimroll-run.service.d
    printf "[Service]\nLoadCredential=dkimroll-tsig:/etc/dkimroll/tsig-of-root.key\n" >/etc/systemd/system/dkimroll-run.service.d/credential.conf
    systemctl daemon-reload
    sed -i "s|tsig-file: .*|tsig-file: credential:dkimroll-tsig|" /etc/dkimroll/policy.yaml'
}
# The key that signs now was published with the credential, so the unit keeps it until that key is gone.
without_credential() { in_host sed -i "s|tsig-file: .*|tsig-file: /etc/dkimroll/tsig.key|" /etc/dkimroll/policy.yaml; }
credential_is_gone() { in_host sh -ec 'rm -r /etc/systemd/system/dkimroll-run.service.d; systemctl daemon-reload'; }
run_with_credential() { in_host systemd-run --quiet --pipe --wait --collect -p LoadCredential=dkimroll-tsig:/etc/dkimroll/tsig-of-root.key "$@"; }
by_hand_with_credential() { run_with_credential -p User=dkimroll dkimroll rotate --keeper /run/dkimroll/keeper.sock "$@" "$zone"; }
by_service_with_credential() { by_hand_with_credential --no-wait && run_unit; }

# A socket that the chrooted smtpd can see, for the group of OpenDKIM.
socket_below_postfix() {
  in_host sh -ec 'install -d -o opendkim -g opendkim -m 0750 /var/spool/postfix/opendkim
    usermod -aG opendkim postfix; usermod -aG opendkim dkimroll
    sed -i "s|^Socket .*|Socket local:/var/spool/postfix/opendkim/opendkim.sock|" /etc/opendkim.conf
    sed -i "s|    milter: .*|    milter: \"unix:/var/spool/postfix/opendkim/opendkim.sock\"|" /etc/dkimroll/policy.yaml
    postconf "smtpd_milters = local:opendkim/opendkim.sock"
    systemctl restart opendkim postfix'
  deadline 10 in_host test -S /var/spool/postfix/opendkim/opendkim.sock
}
socket_on_loopback() {
  in_host sh -ec 'gpasswd -d dkimroll opendkim
    sed -i "s|^Socket .*|Socket inet:8891@localhost|" /etc/opendkim.conf
    sed -i "s|    milter: .*|    milter: \"inet:8891@127.0.0.1\"|" /etc/dkimroll/policy.yaml
    postconf "smtpd_milters = inet:127.0.0.1:8891"
    systemctl restart opendkim postfix'
}

mail_tests() {
  say "mail that is handed to sendmail, and by SMTP"
  test_that "is signed with the key of the first run" mail_signed "$(active_selector)" mail_by_sendmail mail_by_smtp
  test_that "is signed with the new key after a rotation by hand" mail_rotated_by by_hand
  test_that "and after one of dkimroll-run.service" mail_rotated_by by_service
  test_that "and after one that dkimroll-run.timer began" mail_rotated_by by_timer
  with_credential
  test_that "root is told why it cannot use a credential" says 'start it as dkimroll' run_with_credential dkimroll check
  test_that "and after one by hand with a TSIG key that is a credential" mail_rotated_by by_hand_with_credential
  test_that "and after one of dkimroll-run.service with it" mail_rotated_by by_service_with_credential
  without_credential
  socket_below_postfix >"$work/log" 2>&1 || { cat "$work/log"; give_up "no socket below /var/spool/postfix"; }
  test_that "and after one with a socket below /var/spool/postfix" mail_rotated_by by_service
  socket_on_loopback >"$work/log" 2>&1 || { cat "$work/log"; give_up "no socket on loopback"; }
  credential_is_gone
  test_that "a run takes up the policy again" run_unit
  test_that "prove finds all of it right" in_host dkimroll prove
}
