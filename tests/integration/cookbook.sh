# The recipes of docs/cookbook.md, run as they stand there. Sourced by scenario-cookbook-*.sh, after which nothing of a recipe is written down twice: configuration, commands and
# what she sees are taken from the page.
#
# In the page each fenced block has a line before it that names it:
#   <!-- test: NAME -->          configuration or commands, used by a scenario
#   <!-- shown: NAME -->         what the commands before it print; `...` stands for lines that are left out
#   <!-- not run: REASON -->     what no test can run, and why
#
# What is substituted in a block before it is used, and nothing else (see in_this_world):
#   files        /etc/dkimroll, /etc/dkimkeys, /var/lib/dkimroll, /var/backups: folders below $host; /etc/bind, /var/lib/bind, /etc/knot, /var/lib/knot: $world/primary
#   addresses    192.0.2.53 (the primary), 198.51.100.53 (the secondary), 203.0.113.53 (a dead one), 192.0.2.25 (the mail host): loopback, with the ports of this world
#   servers      a publisher that names none gets the list of both servers, because the ports of this world cannot be found in DNS
#   reload       {unit: opendkim.service}: the pid file of this world's opendkim
#   group        dkimroll: root, because a machine that runs tests need not have the group
#   days         20261124 in a selector: today
#   TTLs         3600, and 300 in a SOA record: 1
#   rules        a policy that a recipe shows gets short times and Ed25519 beside what it says (COOKBOOK_RULES), and parts that it does not show
#   programs     dkimroll gets -p and a budget, rndc and knotc their configuration, systemctl is played (see below)
#
# Parts of what she sees that differ from day to day (moments, days in selectors, ports, numbers of processes, public keys) are masked on both sides.
. "$(dirname "${BASH_SOURCE[0]}")/world.sh"
cookbook=$top/docs/cookbook.md
COOKBOOK_RULES=$(sed 's/\(safety\|queue-backoff\|verify-window\): 1s/\1: 0s/g' <<<"$SHORT_RULES")

# cookbook_world NAME: a folder, ports and TSIG-less name servers to be; opendkim of one mail host.
cookbook_world() {
  local ports
  world_begin "cookbook-$1"
  mapfile -t ports < <(free_ports 127.0.0.1 127.0.0.2 127.0.0.1 127.0.0.1 127.0.0.1)
  primary_port=${ports[0]} secondary_port=${ports[1]} rndc_port=${ports[2]} milter_port=${ports[3]}
  primary=127.0.0.1:$primary_port secondary=127.0.0.2:$secondary_port
  mkdir -p "$world/primary" "$world/secondary"
  cookbook_host host "$milter_port"
}

# cookbook_host NAME PORT: a mail host, in the folder $host: its opendkim, ready for keys of Ed25519.
cookbook_host() {
  host=$world/$1 milter=inet:$2@127.0.0.1
  mkdir -p "$host/etc" "$host/opendkim" "$host/backups"
  chmod 755 "$host"
  opendkim_start "$host/opendkim" "$2" "SignatureAlgorithm ${OPENDKIM_ALGORITHM:-ed25519-sha256}" || exit 1
}

# ---- blocks of the page ----

block_raw() { # KIND NAME
  awk -v marker="<!-- $1: $2 -->" '
    $0 == marker { found = 1; next }
    found == 1 && /^```/ { found = 2; next }
    found == 2 && /^```/ { exit }
    found == 2 { print }
    END { if (found != 2) exit 1 }' "$cookbook" || { echo "docs/cookbook.md has no block <!-- $1: $2 -->" >&2; exit 1; }
}

in_this_world() {
  sed -e "s|/etc/dkimroll|$host/etc|g; s|/etc/dkimkeys|$host/opendkim|g; s|/var/lib/dkimroll|$host/state|g; s|/var/backups|$host/backups|g" \
    -e "s|/etc/bind|$world/primary|g; s|/var/lib/bind|$world/primary|g; s|/etc/knot|$world/primary|g; s|/var/lib/knot|$world/primary|g" \
    -e "s|server 192\.0\.2\.53\$|server 127.0.0.1 $primary_port|; s|@192\.0\.2\.53|@127.0.0.1 -p $primary_port|; s|@198\.51\.100\.53|@127.0.0.2 -p $secondary_port|" \
    -e "s|also-notify { 198\.51\.100\.53; }|also-notify { 127.0.0.2 port $secondary_port; }|; s|\"192\.0\.2\.53\"|\"$primary\"|g; s|\"198\.51\.100\.53\"|\"$secondary\"|g" \
    -e "s|ignore-servers: \[\"203\.0\.113\.53\"\]|ignore-servers: [\"127.0.0.9\"]|" -e "s|\"203\.0\.113\.53\"|\"127.0.0.9:$secondary_port\"|g" \
    -e "s|192\.0\.2\.53|127.0.0.1|g; s|198\.51\.100\.53|127.0.0.2|g; s|192\.0\.2\.25|127.0.0.1|g" \
    -e "s|inet:8891@127.0.0.1|$milter|; s|reload: {unit: opendkim.service}|reload: {pid-file: $host/opendkim/opendkim.pid}|; s|-g dkimroll|-g root|g" \
    -e "s|-20261124|-$(date -u +%Y%m%d)|g; s| 3600 | 1 |; s|TTL 3600\$|TTL 1|; s| 1209600 300\$| 1209600 1|"
}
block() {
  local text
  text=$(block_raw test "$1") || return 1
  in_this_world <<<"$text"
}

# What this world printed, in the words of the page.
in_the_page() {
  sed -E -e "s|$host/etc|/etc/dkimroll|g; s|$host/opendkim|/etc/dkimkeys|g; s|$host/state|/var/lib/dkimroll|g; s|$host/backups|/var/backups|g; s|$world/primary|/etc/bind|g" \
    -e "s/$primary/192.0.2.53:53/g; s/$secondary/198.51.100.53:53/g; s/127\.0\.0\.9:$secondary_port/203.0.113.53:53/g; s/127\.0\.0\.1#$primary_port/192.0.2.53#53/g; s/inet:$milter_port@/inet:8891@/g"
}
masked() {
  sed -E -e 's/20[0-9]{2}-[0-9]{2}-[0-9]{2}[T ][0-9:]{8}( UTC|Z)?/<moment>/g; s/20[0-9]{2}-[0-9]{2}-[0-9]{2}/<day>/g; s/-20[0-9]{6}\b/-<day>/g; s/p=[A-Za-z0-9+\/]+=*/p=<key>/g' \
    -e 's/(process|pid|user) [0-9]+/\1 <number>/g; s/[[:space:]]+/ /g; s/^ //; s/ $//'
}

# shows NAME: what the last recipe printed has these lines, in this order; where there is no line of `...` between them, nothing else. In a line `...` stands for anything.
# With COOKBOOK_PRINT set, what it printed is shown whole, in the words of the page: for whoever writes a recipe.
shows() {
  [[ -z ${COOKBOOK_PRINT:-} ]] || { echo "--- $1"; in_the_page <"$world/run.log"; }
  block_raw shown "$1" | masked >"$world/shown.want"
  in_the_page <"$world/run.log" | masked >"$world/shown.got"
  "$python" - "$world/shown.want" "$world/shown.got" <<'PY' || fail "it does not show what docs/cookbook.md shows as $1"
import re, sys
want, got = ([line for line in open(name).read().splitlines() if line] for name in sys.argv[1:])
at, free = 0, False
for line in want:
    if line == "...":
        free = True
        continue
    pattern = re.compile(".*".join(map(re.escape, line.split("..."))))
    here = next((i for i in range(at, len(got) if free else min(at + 1, len(got))) if pattern.fullmatch(got[i])), None)
    if here is None:
        print("the page:  %s\nthe world: %s" % (line, "\n           ".join(got[at:at + 30]) or "(nothing more)"), file=sys.stderr)
        sys.exit(1)
    at, free = here + 1, False
if not free and at < len(got):
    print("not in the page: %s" % got[at], file=sys.stderr)
    sys.exit(1)
PY
}

# recipe NAME: runs the commands of a block in a shell of their own, as she would paste them; what they print is in $world/run.log, their exit status the function's.
recipe() {
  local text
  text=$(block "$1") || fail "no block $1"
  (eval "$text") >"$world/run.log" 2>&1 </dev/null
}

# ---- the policy ----

# policy_of BLOCK...: writes the host's policy: the sections that the blocks show, the others as a small server has them, with short times.
policy_of() {
  local name
  for name in "$@"; do block "$name" || exit 1; done >"$host/policy.parts"
  COOKBOOK_RULES=$COOKBOOK_RULES "$python" - "$host/policy.parts" "$host" "$primary" "$milter" "${servers:-\"$primary\", \"$secondary\"}" >"$host/etc/policy.yaml" <<'PY' || fail "policy of $*"
import os, re, sys
text, host, primary, milter, servers = open(sys.argv[1]).read(), *sys.argv[2:]
sections = {}
for part in re.split(r"(?m)^(?=[a-z][a-z-]*:)", text):
    if part.strip():
        sections[part.partition(":")[0]] = part.rstrip() + "\n"
short = os.environ["COOKBOOK_RULES"].splitlines()
def quick(match):
    own = match.group(2)
    named = set(re.findall(r"(?m)^    ([a-z-]+):", own))
    return match.group(1) + own + "".join(line + "\n" for line in short if line.split(":")[0].strip() not in named)
policies = sections.get("policies", "policies:\n  standard:\n")
sections["policies"] = re.sub(r"(?m)^(  [a-z]+:\n)((?:    .*\n)*)", quick, policies)
sections.setdefault("publishers", 'publishers:\n  primary:\n    server: "%s"\n    tsig-file: %s/etc/tsig.key\n' % (primary, host))
if "servers:" not in sections["publishers"]:
    sections["publishers"] = re.sub(r"(?m)^    server: .*\n", lambda m: m.group(0) + "    servers: [%s]\n" % servers, sections["publishers"])
sections.setdefault("signers", 'signers:\n  local:\n    key-table: {0}/opendkim/KeyTable\n    signing-table: "refile:{0}/opendkim/SigningTable"\n'
    '    key-directory: {0}/opendkim/keys/%d\n    reload: {{pid-file: {0}/opendkim/opendkim.pid}}\n    milter: "{1}"\n'.format(host, milter))
sections.setdefault("domains", "domains:\n  example.com: {policy: standard, publisher: primary, signers: [local]}\n")
print("state: %s/state/state.db" % host)
for name in sorted(sections, key=lambda name: name == "domains"):
    print(sections[name], end="")
PY
}

# fresh_host: nothing was ever signed here.
fresh_host() {
  rm -rf "$host/state" "$host/opendkim/keys"/*
  : >"$host/opendkim/KeyTable"
  : >"$host/opendkim/SigningTable"
  kill -USR1 "$opendkim_pid"
}

# ---- what she calls ----

dkimroll() {
  case $1 in
  run | rotate) "$DKIMROLL" "$1" -p "$host/etc/policy.yaml" --budget "${BUDGET:-6s}" "${@:2}" ;;
  *) "$DKIMROLL" "$1" -p "$host/etc/policy.yaml" "${@:2}" ;;
  esac
}
runs() { BUDGET=$1 dkimroll run >"$world/run.log" 2>&1; }
rndc() { command rndc -s 127.0.0.1 -p "$rndc_port" -k "$world/rndc.key" "$@"; }
named-checkconf() { command named-checkconf "$world/primary/named.conf"; }
knotc() { command knotc -c "$world/primary/knot.conf" "$@"; }
# There is no systemd in this world: what its units would do is done here, and written down.
systemctl() {
  echo "$*" >>"$host/systemctl"
  case "$*" in
  "start dkimroll-run.service") dkimroll run ;;
  "enable --now dkimroll-run.timer" | "disable --now dkimroll-run.timer" | "stop dkimroll-run.timer" | "start dkimroll-run.timer" | "disable --now dkimroll-keeper.socket") ;;
  "reload opendkim") kill -USR1 "$(cat "$host/opendkim/opendkim.pid")" ;;
  *) echo "systemctl $*: nobody plays this" >&2; return 1 ;;
  esac
}
sqlite_query() { "$python" - "$host/state/state.db" "$1" <<'PY'
import sqlite3, sys
for row in sqlite3.connect("file:%s?mode=ro" % sys.argv[1], uri=True).execute(sys.argv[2]):
    print(*row)
PY
}

# ---- name servers ----

# bind_local BLOCK...: these blocks of the page are named.conf.local.
bind_local() {
  local name
  for name in "$@"; do block "$name" || exit 1; done >"$world/primary/named.conf.local"
}
# bind_primary ZONE: named with what is in named.conf.local, among it ZONE.
bind_primary() {
  (umask 077 && tsig-keygen -a hmac-sha256 rndc-key >"$world/rndc.key")
  NAMED_OPTIONS="also-notify { 127.0.0.2 port $secondary_port; }; notify-delay 0; allow-transfer { 127.0.0.0/8; };" \
    named_start "$world/primary" 127.0.0.1 "$primary_port" "# zone \"$1\"
include \"$world/rndc.key\";
controls { inet 127.0.0.1 port $rndc_port allow { 127.0.0.1; } keys { rndc-key; }; };
include \"$world/primary/named.conf.local\";" || exit 1
}

# knot_secondary ZONE...: the secondary of these zones.
knot_secondary() { secondary_start "$(usual_secondary_zones "$@")" "$1" || exit 1; }

# tsig_shared: the key that the recipe made, at dkimroll and at the primary.
tsig_shared() { (umask 077 && tsig-keygen -a hmac-sha256 dkimroll >"$host/etc/tsig.key" && cp "$host/etc/tsig.key" "$world/primary/dkimroll.key"); }

# bind_world: example.com at BIND as recipe 1 has it.
bind_world() {
  zone_file example.com 1 1 >"$world/primary/example.com.zone"
  tsig_shared
  bind_local bind-named.conf
  bind_primary example.com
}

# whole_life: a first key, its successor, and the first one's record in its revoked form, or gone already.
signs() { runs 1s; [[ $(states) == server-*' 4' ]]; }
revoked() { runs 1s; states | head -n 1 | grep -q ' [67]$'; }
whole_life() {
  deadline 30 signs || fail "no key signs: $(states)"
  first=$(states)
  BUDGET=1s dkimroll rotate example.com >"$world/run.log" 2>&1 || fail rotate
  deadline 30 revoked || fail "the first key is not revoked: $(states)"
}

# rights OPTION...: tries each line of standard input by nsupdate with these options, which name the TSIG key, and compares the answer with its first word, "can" or "cannot".
rights() {
  local word try
  while read -r word try; do
    if printf 'server 127.0.0.1 %s\ncheck-names off\nupdate %s\nsend\n' "$primary_port" "$try" | nsupdate "$@" >"$world/run.log" 2>&1; then
      [[ $word == can ]] || fail "the key can: $try"
    else
      grep -qE 'update failed: (REFUSED|NOTAUTH)' "$world/run.log" || fail "no answer to: $try"
      [[ $word == cannot ]] || fail "the key cannot: $try"
    fi
  done
}

txt() { dig +tcp +time=2 +tries=1 +short @127.0.0.1 -p "$primary_port" "$1" TXT; }
signed_by() { # SENDER [SERVER]: the selector that signs her mail, and it verifies at the secondary
  mail sign "$milter" "$1" >"$world/proof.eml" || fail "opendkim did not sign for $1"
  mail verify "${2:-$secondary}" "$world/proof.eml" >"$world/selector" || fail "the signature for $1 does not verify"
  cat "$world/selector"
}
