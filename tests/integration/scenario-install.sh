#!/usr/bin/env bash
# What `make install` puts where, and that it fits together: the units verify, users and directories can be made, the completion completes, and the manual knows each
# command, option and exit status that the program tells of, and no others.
. "$(dirname "$0")/world.sh"
world_begin install
root=$world/root
# Relative, as the dependencies of the objects in it are.
build=$(realpath --relative-to="$top" "$(dirname "$DKIMROLL")")
install_to() { make --no-print-directory -s -C "$top" BUILD="$build" install "$@" >"$world/run.log" 2>&1 || fail "make install $*"; }
installed() { (cd "$1" && find . -type f | sort); }

echo "- a package's installation"
install_to DESTDIR="$root" PREFIX=/usr
cat >"$world/expected" <<'FILES'
./lib/systemd/system/dkimroll-keeper.socket
./lib/systemd/system/dkimroll-keeper@.service
./lib/systemd/system/dkimroll-run.service
./lib/systemd/system/dkimroll-run.timer
./lib/systemd/system/dkimroll.service
./usr/lib/sysusers.d/dkimroll.conf
./usr/lib/tmpfiles.d/dkimroll.conf
./usr/sbin/dkimroll
./usr/share/bash-completion/completions/dkimroll
./usr/share/doc/dkimroll/CHANGELOG.md
./usr/share/doc/dkimroll/LICENSE
./usr/share/doc/dkimroll/README.md
./usr/share/doc/dkimroll/architecture.md
./usr/share/doc/dkimroll/cookbook.md
./usr/share/doc/dkimroll/examples/customers.list
./usr/share/doc/dkimroll/examples/dkimroll-alerts.yaml
./usr/share/doc/dkimroll/examples/hook-mail.sh
./usr/share/doc/dkimroll/examples/provider.yaml
./usr/share/doc/dkimroll/examples/publisher-nsupdate.sh
./usr/share/doc/dkimroll/examples/publisher-rest.sh
./usr/share/doc/dkimroll/examples/reload-zone.sh
./usr/share/doc/dkimroll/examples/several-domains.yaml
./usr/share/doc/dkimroll/examples/small-server.yaml
./usr/share/man/man5/dkimroll-policy.5
./usr/share/man/man8/dkimroll.8
FILES
installed "$root" | comm -13 - "$world/expected" >"$world/missing"
[[ ! -s $world/missing ]] || fail "not installed: $(cat "$world/missing")"
# Whoever copies a script as the manual says can run it.
for script in "$root"/usr/share/doc/dkimroll/examples/*.sh; do [[ -x $script ]] || fail "$script cannot be run"; done
grep -q '^ExecStart=/usr/sbin/dkimroll run --keeper /run/dkimroll/keeper.sock$' "$root/lib/systemd/system/dkimroll-run.service" || fail "the unit starts another program"
grep -q '^ExecStart=/usr/sbin/dkimroll keeper$' "$root/lib/systemd/system/dkimroll-keeper@.service" || fail "the keeper's unit starts another program"
# The timer alone suffices: the run that it starts brings the way to the keeper up.
grep -q '^Requires=dkimroll-keeper.socket$' "$root/lib/systemd/system/dkimroll-run.service" || fail "a run does without the keeper"
[[ $("$root/usr/sbin/dkimroll" --version) == "dkimroll "* ]] || fail "the installed program does not run"

echo "- users and directories"
mkdir -p "$root/etc"
printf 'root:x:0:\nmail:x:8:\n' >"$root/etc/group"
printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
systemd-sysusers --root="$root" dkimroll.conf 2>"$world/run.log" || fail "systemd-sysusers"
grep -q '^dkimroll:' "$root/etc/group" || fail "no group dkimroll"
sed "s| /| $root/|" "$root/usr/lib/tmpfiles.d/dkimroll.conf" | grep -v '^#' >"$world/tmpfiles"
grep -q "$root/etc/dkimroll\|$root/var/lib/dkimroll" "$world/tmpfiles" || fail "tmpfiles.d makes no directory"

echo "- units"
install_to PREFIX="$world/usr" SYSCONFDIR="$world/etc"
for unit in "$world"/etc/systemd/system/*.{service,socket,timer}; do
  systemd-analyze verify --man=no --recursive-errors=no "$unit" >"$world/run.log" 2>&1 || fail "systemd-analyze verify $unit"
  [[ ! -s $world/run.log ]] || fail "systemd-analyze verify $unit"
done

echo "- units are exposed by at most 1.5, also with all that drop-ins of dkimroll units and of the manual may add"
exposed() { # UNIT [LINE...]
  local unit=$world/exposed/$(basename "$1") figure
  mkdir -p "$world/exposed"
  { cat "$1"; printf '%s\n' '[Service]' "${@:2}"; } >"$unit"
  figure=$(systemd-analyze --no-pager security --offline=yes "$unit" 2>&1 | sed -n 's/.*Overall exposure level for .*: \([0-9.]*\) .*/\1/p')
  [[ -n $figure ]] && awk "BEGIN {exit !($figure <= 1.5)}" || fail "the exposure of $* is ${figure:-not told}"
}
for unit in "$world"/etc/systemd/system/*.service; do
  exposed "$unit"
  case $unit in
  *keeper*) exposed "$unit" ReadWritePaths=-/srv/mail ;;
  *) exposed "$unit" SupplementaryGroups=opendkim LoadCredential=key:/etc/key ReadWritePaths=-/srv/zones InaccessiblePaths=-/srv/mail RestrictAddressFamilies=AF_NETLINK ;;
  esac
done

echo "- completion"
complete_words() { # WORD...: what the last word is completed to
  bash -c '. "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _dkimroll; printf "%s\n" "${COMPREPLY[@]}"' \
    "$world/usr/share/bash-completion/completions/dkimroll" "$@"
}
[[ $(complete_words dkimroll rot) == rotate ]] || fail "rot is not completed: $(complete_words dkimroll rot)"
[[ $(complete_words dkimroll rotate --no) == --no-wait ]] || fail "--no is not completed"
[[ -z $(complete_words dkimroll run --js) ]] || fail "run has no --json"
[[ $(complete_words dkimroll "" | grep -cx 'run\|rotate\|status\|plan\|check\|prove\|import\|hold\|release\|forget\|history\|completion\|daemon\|reload\|units\|metrics\|revoke') == 17 ]] || fail "not all commands are offered"

echo "- the manual and --help"
manual() { mandoc -Tutf8 "$top/docs/dkimroll.8" | sed 's/.\x08//g'; }
manual >"$world/manual"
sed -n '/^SYNOPSIS/,/^DESCRIPTION/p' "$world/manual" >"$world/synopsis"
sed -n '/^EXIT STATUS/,/^EXAMPLES/p' "$world/manual" >"$world/exits"
commands=$("$DKIMROLL" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
[[ $(wc -w <<<"$commands") -ge 14 ]] || fail "help lists too few commands: $commands"
for command in $commands; do
  grep -qE "^ {5}$command( |$)" <(sed -n '/^   Commands/,/^   Options/p' "$world/manual") || fail "the manual does not tell of $command"
  # The lines of this command in the synopsis, which may be broken.
  usage=$(awk -v c="$command" '$1 == "dkimroll" {on = $2 == c} on' "$world/synopsis")
  "$DKIMROLL" "$command" --help >"$world/help" || fail "$command --help"
  for option in $(sed -n 's/^  \(--[a-z-]*\) .*/\1/p' "$world/help"); do
    case $option in
    --help) continue ;;
    --policy) grep -q -- '-p file' <<<"$usage" || fail "the synopsis of $command lacks -p" ;;
    *) grep -q -- "$option" <<<"$usage" || fail "the synopsis of $command lacks $option" ;;
    esac
  done
  for option in $(grep -oE -- '--[a-z-]+' <<<"$usage"); do
    grep -q -- "^  $option " "$world/help" || fail "$command has no $option, which the manual tells of"
  done
done
told=$("$DKIMROLL" --help | sed -n '/^Exit status/,$p' | grep -oE '\b(0|6[4-9]|7[0-8])\b' | sort -u)
documented=$(grep -oE '^ {5}[0-9]+ ' "$world/exits" | tr -d ' ' | sort -u)
[[ $told == "$documented" ]] || fail "exit status of --help: $told, of the manual: $documented"
exit 0
