# The Debian package on its host: installed, updated, removed, purged, and back again; and the README's section "On your own server", whose blocks of code are run as
# they stand there. For tests/host/check-host.sh.

# The nth block of code of a section of the README, for the zone of the test.
readme() { # HEADING NUMBER
  awk -v heading="$1" -v number="$2" '/^##/ {here = index($0, heading) > 0; count = 0} !here {next} /^```/ {inside = !inside; if (inside) count++; next} inside && count == number' "$top/README.md" |
    sed "s/example\.com/$zone/g"
}
readme_run() { readme "$1" "$2" | in_host sh -ex; }
# Options that a block sets take the place of those that are there.
readme_append() { readme "$1" "$2" >>"$root$3"; }

# As the README says it, sections 2 to 4: Debian's own configuration and these lines. Times are seconds.
readme_configure() {
  set -e
  readme_run "### 2." 1
  readme_append "### 2." 2 /etc/bind/named.conf.local
  cat >"$root/var/lib/bind/$zone.zone" <<ZONE
\$TTL 1
@ 1 IN SOA ns1.$zone. hostmaster.$zone. 1 60 30 86400 1
@ IN NS ns1.$zone.
ns1 IN A 127.0.0.1
ZONE
  in_host chown bind:bind "/var/lib/bind/$zone.zone"
  in_host sh -ec 'named-checkconf && rndc reconfig'
  sed -i -E '/^(Socket|Domain|Selector|KeyFile)\s/d' "$root/etc/opendkim.conf"
  readme_append "### 3." 1 /etc/opendkim.conf
  readme_run "### 3." 2
  in_host systemctl restart opendkim
  readme_append "### 3." 4 /etc/postfix/main.cf
  in_host postfix reload
  readme "### 4." 1 | grep -v '^editor ' | in_host sh -ex
  sed -i -e "s/example\.com/$zone/" -e 's/rotate-every: .*/rotate-every: 1h/' -e 's/tombstone: .*/tombstone: 2s/' \
    -e 's/\(ttl\|safety\|drain\|verify-window\|queue-lifetime\|queue-backoff\): [0-9a-z]*/\1: 1s/' -e 's/every: 10s/every: 1s/' "$root/etc/dkimroll/policy.yaml"
}

# The same package with another version: maintainer scripts tell versions apart, not contents.
package_other_version() { # VERSION
  local folder=$work/package-$1
  rm -rf "$folder"
  dpkg-deb -R "$package" "$folder" && sed -i "s/^Version: .*/Version: $1/" "$folder/DEBIAN/control" && dpkg-deb --root-owner-group -b "$folder" "$root/root/dkimroll-$1.deb"
}
apt_get() { in_host env DEBIAN_FRONTEND=noninteractive apt-get -y -qq --no-install-recommends "$@" </dev/null; }
package_install() { apt_get install --allow-downgrades "/root/dkimroll-$1.deb"; }
package_version() { in_host dpkg-query -W -f '${db:Status-Abbrev}${Version}' dkimroll 2>/dev/null; }

unit_is() { # UNIT ENABLED ACTIVE
  local enabled active
  enabled=$(in_host systemctl is-enabled "$1")
  active=$(in_host systemctl is-active "$1")
  [[ $enabled == "$2" && $active == "$3" ]] || { echo "$1 is $enabled and $active, and should be $2 and $3"; return 1; }
}
nothing_failed() { ! in_host systemctl list-units --failed --no-legend --plain | grep dkimroll; }
is_fresh() {
  [[ $(in_host stat -c '%U:%G %a' /var/lib/dkimroll /var/lib/dkimroll-keeper /etc/dkimroll) == $'dkimroll:dkimroll 700\nroot:root 700\nroot:root 755' ]] || { in_host ls -la /var/lib /etc/dkimroll; return 1; }
  [[ -z $(ls -A "$root/var/lib/dkimroll" "$root/etc/dkimroll" | grep -v :) ]] || { ls -lA "$root/var/lib/dkimroll" "$root/etc/dkimroll"; return 1; }
  unit_is dkimroll-keeper.socket enabled active && unit_is dkimroll-run.timer disabled inactive && nothing_failed
}
# Whoever starts a run before there is a policy: nothing happens, and nothing fails.
waits_for_policy() {
  in_host systemctl start dkimroll-run.service && [[ $(in_host systemctl show -P ConditionResult dkimroll-run.service) == no ]] && nothing_failed
}
documents() {
  in_host sh -ec 'man=/usr/share/man; doc=/usr/share/doc/dkimroll
    test -s $man/man8/dkimroll.8.gz; test -s $man/man5/dkimroll-policy.5.gz; test -s /usr/share/bash-completion/completions/dkimroll
    zcat $doc/changelog.gz | head -n 1 | grep -q "^dkimroll ("; grep -q "^License: BSD-2-Clause" $doc/copyright; test -s $doc/examples/small-server.yaml
    dpkg -V dkimroll'
}

package_first_tests() {
  say "the package of Debian"
  package_other_version 0.0.9 >"$work/log" 2>&1 && cp "$package" "$root/root/dkimroll-$version.deb" || { cat "$work/log"; give_up "no package to install"; }
  test_that "is installed" package_install 0.0.9
  test_that "makes user and directories, opens the way to the keeper, and begins nothing" is_fresh
  test_that "does nothing without a policy" waits_for_policy
  test_that "brings manuals, completion, examples, and is unharmed" documents
}

# What an update must not change.
package_state() {
  in_host dkimroll status "$zone" | grep -v '^All right'
  in_host find /etc/dkimkeys /etc/dkimroll /var/lib/dkimroll-keeper -type f -exec sha256sum {} +
}
update_keeps() {
  package_state >"$work/before"
  package_install "$version" || return 1
  [[ $(package_version) == "ii $version" ]] || return 1
  package_state >"$work/after"
  diff "$work/before" "$work/after" && unit_is dkimroll-keeper.socket enabled active && nothing_failed
}
# A run that is under way while the package is updated ends as it began; what waits for the next one is told by the timer that goes on.
update_under_way() {
  in_host systemctl enable --now dkimroll-run.timer || return 1
  in_host dkimroll rotate --no-wait "$zone"
  in_host systemctl start --no-block dkimroll-run.service
  package_run_is_on() { in_host systemctl is-active dkimroll-run.service | grep -q '^activating'; }
  deadline 10 package_run_is_on || return 1
  local before after process
  before=$(active_selector)
  process=$(in_host systemctl show -P MainPID dkimroll-run.service)
  package_install 0.0.9 && package_install "$version" || return 1
  deadline 60 mail_other_signs "$before" || return 1
  after=$(in_host systemctl show -P ExecMainPID dkimroll-run.service)
  [[ $process == "$after" ]] || { echo "the run $process was ended; now it is $after"; return 1; }
  unit_is dkimroll-run.timer enabled active && nothing_failed
}
disabled_stays_disabled() {
  in_host systemctl disable --now dkimroll-keeper.socket dkimroll-run.timer >/dev/null
  package_install 0.0.9 && package_install "$version" || return 1
  unit_is dkimroll-keeper.socket disabled inactive && unit_is dkimroll-run.timer disabled inactive || return 1
  in_host systemctl enable --now dkimroll-keeper.socket dkimroll-run.timer
}
# Where the package has a daemon, it runs on after an update if it ran before, and only then.
daemon_is_restarted() {
  [[ -e $root/lib/systemd/system/dkimroll.service ]] || return 0
  unit_is dkimroll.service disabled inactive || return 1
  in_host systemctl disable --now dkimroll-run.timer
  in_host systemctl enable --now dkimroll.service || return 1
  local before after
  before=$(in_host systemctl show -P MainPID dkimroll.service)
  package_install 0.0.9 && package_install "$version" || return 1
  after=$(in_host systemctl show -P MainPID dkimroll.service)
  [[ $after != 0 && $after != "$before" ]] && unit_is dkimroll.service enabled active || return 1
  in_host systemctl disable --now dkimroll.service
  package_install 0.0.9 && package_install "$version" || return 1
  unit_is dkimroll.service disabled inactive || return 1
  in_host systemctl enable --now dkimroll-run.timer
}

keys_and_tables() { find "$root/etc/dkimkeys" -type f -exec sha256sum {} + | sort; }
none_runs() { ! in_host pgrep -a dkimroll && nothing_failed && ! in_host systemctl list-units --all --no-legend --plain --state=active | grep 'dkimroll.*\.\(service\|socket\|timer\) '; }
removed() {
  keys_and_tables >"$work/keys"
  apt_get remove dkimroll || return 1
  none_runs && [[ -s $root/var/lib/dkimroll/state.db && -s $root/etc/dkimroll/policy.yaml && ! -e $root/usr/sbin/dkimroll ]] &&
    diff "$work/keys" <(keys_and_tables) && mail_signed "$second" mail_by_sendmail
}
# Also if it was removed before.
purged_in_use() {
  says 'keys that it made .* still there' apt_get purge dkimroll || return 1
  [[ -s $root/var/lib/dkimroll/state.db && -s $root/etc/dkimroll/policy.yaml && -s $root/var/lib/dkimroll-keeper/grants ]] || return 1
  [[ ! -e $root/etc/systemd/system/timers.target.wants/dkimroll-run.timer ]] || return 1
  diff "$work/keys" <(keys_and_tables) && mail_signed "$second" mail_by_sendmail
}
goes_on() {
  package_install "$version" && [[ $(active_selector) == "$second" ]] && run_unit && in_host dkimroll prove && mail_rotated_by by_hand
}
# As those that were taken over may lie.
purged_in_use_elsewhere() {
  in_host sh -ec 'mv /etc/dkimkeys/keys /etc/dkimkeys/elsewhere; sed -i "s|/etc/dkimkeys/keys/|/etc/dkimkeys/elsewhere/|" /etc/dkimkeys/KeyTable'
  says 'keys that it made .* still there' apt_get purge dkimroll && [[ -s $root/var/lib/dkimroll/state.db ]]
  local status=$?
  in_host sh -ec 'mv /etc/dkimkeys/elsewhere /etc/dkimkeys/keys; sed -i "s|/etc/dkimkeys/elsewhere/|/etc/dkimkeys/keys/|" /etc/dkimkeys/KeyTable'
  package_install "$version" && run_unit && return "$status"
}
# Somebody signs with a key of his own from now on.
purged_unused() {
  in_host sh -ec "opendkim-genkey -D /etc/dkimkeys -d $zone -s own; chown opendkim:opendkim /etc/dkimkeys/own.private
    echo 'own $zone:own:/etc/dkimkeys/own.private' >/etc/dkimkeys/KeyTable; echo '*@$zone own' >/etc/dkimkeys/SigningTable; rm -r /etc/dkimkeys/keys; systemctl restart opendkim"
  keys_and_tables >"$work/keys"
  apt_get purge dkimroll >"$work/said" 2>&1 || { cat "$work/said"; return 1; }
  cat "$work/said"
  ! grep -q 'still there' "$work/said" && [[ -z $(package_version) || $(package_version) == un* ]] || return 1
  diff "$work/keys" <(keys_and_tables) || return 1
  ! find "$root/etc" "$root/var/lib" "$root/lib/systemd" "$root/usr" "$root/run" -xdev -name '*dkimroll*' -not -path "$root/var/lib/dpkg/*" -not -path "$root/var/lib/apt/*" \
    -not -name dkimroll.key | grep .
}
fresh_again() { package_install "$version" && is_fresh; }

package_last_tests() {
  say "the package is updated"
  test_that "an update keeps what is known, keys and tables" update_keeps
  test_that "and lets a run that is under way end" update_under_way
  test_that "and leaves disabled what somebody disabled" disabled_stays_disabled
  test_that "and restarts the daemon only where it runs" daemon_is_restarted
  say "and goes"
  second=$(active_selector)
  test_that "removed, it stops what ran, and leaves keys, tables and what it knows; mail is signed" removed
  test_that "purged, it leaves all of that as long as there are keys" purged_in_use
  test_that "installed again, it goes on" goes_on
  test_that "purged while tables name keys of it in another place, it leaves what it knows" purged_in_use_elsewhere
  test_that "purged when no key is left, it leaves nothing but the keys and tables of others" purged_unused
  test_that "installed again, it is as new" fresh_again
}
