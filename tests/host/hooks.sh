# What a person is told, on a host as it is installed: hooks by the hardened unit, mail through Debian's Postfix with its own sendmail, metrics where node_exporter reads them, and fields of
# the journal. Sourced by check-host.sh after a key signs; sets the policy back at its end. Uses: in_host, run_unit, test_that, say, deadline, $root, $work, $top, $zone; anna has a mailbox.

hooks_policy=/etc/dkimroll/policy.yaml

# The script where an administrator puts it, and what dkimroll(8) says for Postfix.
hooks_prepare() {
  in_host sh -ec "
    cp $hooks_policy /root/policy.before-hooks
    install -D -m 0755 /usr/share/doc/dkimroll/examples/hook-mail.sh /usr/local/lib/dkimroll/hook-mail.sh
    $(grep -o 'usermod -aG postdrop dkimroll' "$top/docs/dkimroll.8")
    { echo 'metrics: {file: /var/lib/dkimroll-metrics/dkimroll.prom}'
      echo 'hooks: {transition: [/usr/local/lib/dkimroll/hook-mail.sh, anna@localhost], needs-person: [/usr/local/lib/dkimroll/hook-mail.sh, anna@localhost]}'
      cat /root/policy.before-hooks; } >$hooks_policy
    mkdir -p /etc/systemd/system/dkimroll-run.service.d
    sed -n '/^\\[Service\\]/,/^\\.Ed/p' /root/drop-in.man | grep -v '^\\.Ed' >/etc/systemd/system/dkimroll-run.service.d/postfix.conf
    systemctl daemon-reload"
}
# The lines of the manual are those that are tried.
hooks_drop_in() { sed -n '/^Postfix takes mail in by/,/^\.Ed/p' "$top/docs/dkimroll.8" >"$root/root/drop-in.man"; }
# By hand, as root, who gives up root, and then by the unit.
hooks_rotate() { in_host dkimroll rotate --no-wait "$zone" >"$work/rotated" 2>&1 && run_unit; }
hooks_mail() { grep -q "^Subject: \[dkimroll\] .* is $1" "$root/var/mail/anna"; }
hooks_mails() {
  # A key that an emergency left waiting takes over at once: then none is published.
  deadline 90 hooks_mail active && deadline 30 hooks_mail retired && return 0
  in_host sh -c 'postqueue -p; ls -l /var/mail /var/spool/postfix/maildrop; journalctl --no-pager -n 30 -t postfix/postdrop -t postfix/pickup -t postfix/sendmail -t postfix/local -t postfix/qmgr; journalctl --no-pager -n 20 DKIMROLL_KIND=hook'
  return 1
}
hooks_metrics() {
  in_host setpriv --reuid=nobody --regid=nogroup --clear-groups cat /var/lib/dkimroll-metrics/dkimroll.prom >"$work/metrics" && grep -q "^dkimroll_domains_signed 1$" "$work/metrics" &&
    "$top/tests/tools/promtool" check metrics <"$work/metrics"
}
hooks_journal() {
  in_host journalctl --no-pager -o json "DKIMROLL_DOMAIN=$zone" DKIMROLL_KIND=state DKIMROLL_TO=active _SYSTEMD_UNIT=dkimroll-run.service >"$work/journal"
  "$python" - "$work/journal" <<'PY'
import json, sys
entry = [json.loads(line) for line in open(sys.argv[1])][-1]
print(entry)
assert entry["MESSAGE_ID"] == "40cefc8d83cc4cbca2eaaf984f29fd0f" and entry["DKIMROLL_FROM"] == "ready" and entry["PRIORITY"] == "5"
assert entry["DKIMROLL_SELECTOR"] in entry["MESSAGE"] and int(entry["DKIMROLL_EVENT"]) > 0 and entry["DKIMROLL_KEY"] == "main"
PY
}
hooks_log() { ! { in_host journalctl --no-pager DKIMROLL_KIND=hook -p warning -q; cat "$work/rotated"; } | grep -i 'hook.*\(fatal\|exit status\|in time\)'; }
hooks_restore() { in_host sh -ec "cp /root/policy.before-hooks $hooks_policy; rm -r /etc/systemd/system/dkimroll-run.service.d/postfix.conf /usr/local/lib/dkimroll; gpasswd -d dkimroll postdrop; systemctl daemon-reload"; run_unit; }

hooks_on_host() {
  say "what a person is told"
  hooks_drop_in
  test_that "hooks, Postfix and metrics are set up as the manual says" hooks_prepare
  test_that "a rotation by the hardened unit goes well with hooks" hooks_rotate
  test_that "each transition comes as a mail by Postfix's own sendmail" hooks_mails
  test_that "and no hook failed" hooks_log
  test_that "the unit with that drop-in is exposed by at most 1.5" exposure dkimroll-run.service "with the drop-in for Postfix"
  test_that "others can read the metrics, and promtool takes them" hooks_metrics
  test_that "the journal has each event with its fields" hooks_journal
  test_that "without hooks all is as before" hooks_restore
}
