# A mail host and its name servers on loopback, in a temporary folder: named (primary), knotd (secondary) or the reverse, opendkim.
# Sourced by the demo, the integration scenarios and the benchmark. Nothing is written outside of the folder.
#
#   world_begin NAME          makes $world (a temporary folder), removed at the end unless the script fails
#   world_end_on_exit         is done by world_begin: every server is ended by its pid, however the script ends
#   named_start, knotd_start, opendkim_start ...  each waits until the server answers, with a deadline
#
# Variables that callers may set before: DKIMROLL (the program), WORLD_KEEP (keep the folder).

set -u
export LC_ALL=C.UTF-8 TZ=UTC
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
DKIMROLL=${DKIMROLL:-$top/build/dkimroll}
export PATH=$PATH:/usr/sbin:/sbin
python=${PYTHON:-/usr/bin/python3}
mail() { "$python" "$here/mail.py" "$@"; }
world_pids=()
world_failed=0

world_begin() {
  # Below /run, because opendkim accepts no key below a directory that everybody may write to, and /tmp is one.
  world=$(mktemp -d "/run/dkimroll-$1.XXXXXX") || exit 1
  chmod 755 "$world"
  trap world_end EXIT
  trap 'exit 130' INT TERM
}

world_end() {
  local status=$? pid
  for pid in "${world_pids[@]}"; do kill "$pid" 2>/dev/null; done
  for pid in "${world_pids[@]}"; do world_wait_gone "$pid"; done
  if ((status != 0)) && [[ -z ${WORLD_QUIET:-} ]]; then
    echo "--- it failed (exit $status); the servers' logs:" >&2
    tail -n 30 "$world"/*/log "$world"/*.log >&2 2>/dev/null
  fi
  if [[ -n ${WORLD_KEEP:-} ]]; then echo "kept: $world" >&2; else rm -rf "$world"; fi
  exit "$status"
}

# A child of ours that was told to end gets five seconds.
world_wait_gone() {
  local i
  for ((i = 0; i < 100; i++)); do
    kill -0 "$1" 2>/dev/null || return 0
    [[ $(ps -o stat= -p "$1" 2>/dev/null) == Z* ]] && return 0
    read -rt 0.05 <> <(:) || :
  done
  kill -KILL "$1" 2>/dev/null
}

# deadline SECONDS COMMAND...: repeats COMMAND until it succeeds.
deadline() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || { echo "not in time: $*" >&2; return 1; }
    read -rt 0.05 <> <(:) || :
  done
}

# Ports that nobody uses now, chosen by the kernel.
free_ports() {
  "$python" - "$@" <<'PY'
import socket, sys
taken = []
for host in sys.argv[1:]:
    while True:
        tcp, udp = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp.bind((host, 0))
        try:
            udp.bind((host, tcp.getsockname()[1]))
        except OSError:
            continue
        taken += [tcp, udp]
        print(tcp.getsockname()[1])
        break
PY
}

world_spawn() { # FOLDER COMMAND...: runs in the background with its output in FOLDER/log; the pid is in $spawned
  local folder=$1
  shift
  "$@" >>"$folder/log" 2>&1 &
  spawned=$!
  world_pids+=("$spawned")
}

# dig prints its complaints as comments, with ";".
soa_answers() { dig +tcp +time=1 +tries=1 +short @"$1" -p "$2" "$3" SOA | grep -qv '^;'; }

# zone_file ZONE TTL MINIMUM [NS...]: a zone with the records that a mail domain has.
zone_file() {
  local zone=$1 ttl=$2 minimum=$3
  echo "\$TTL $ttl"
  echo "@ $ttl IN SOA ns1.$zone. hostmaster.$zone. 1 60 30 86400 $minimum"
  echo "@ IN NS ns1.$zone."
  echo "@ IN NS ns2.$zone."
  echo "ns1 IN A 127.0.0.1"
  echo "ns2 IN A 127.0.0.1"
  echo "@ IN MX 10 mail.$zone."
  echo "mail IN A 127.0.0.1"
}

tsig_secret() { head -c 32 /dev/urandom | base64; }

# named_start FOLDER ADDRESS PORT ZONES-CONFIG (named listens on configured addresses only: 127.0.0.1): named with what is in ZONES-CONFIG; the first zone in it is asked for readiness.
named_start() {
  local folder=$1 address=$2 port=$3 zones=$4 first
  mkdir -p "$folder"
  cat >"$folder/named.conf" <<CONF
options {
  directory "$folder"; pid-file none; session-keyfile none; lock-file none; managed-keys-directory "$folder";
  listen-on port $port { $address; }; listen-on-v6 { none; }; recursion no; dnssec-validation no; notify explicit;
  ${NAMED_OPTIONS:-}
};
controls { };
$zones
CONF
  first=$(sed -n 's/.*zone "\([^"]*\)".*/\1/p' "$folder/named.conf" | head -n 1)
  world_spawn "$folder" named -g -c "$folder/named.conf" -n 1
  named_pid=$spawned
  deadline 20 soa_answers "$address" "$port" "$first"
}

# knotd_start FOLDER ADDRESS PORT CONFIG ZONE
knotd_start() {
  local folder=$1 address=$2 port=$3 config=$4 zone=$5
  mkdir -p "$folder"
  cat >"$folder/knot.conf" <<CONF
server:
    listen: $address@$port
    rundir: $folder
    udp-workers: 1
    tcp-workers: 1
database:
    storage: $folder
log:
  - target: stdout
    any: info
$config
CONF
  world_spawn "$folder" knotd -c "$folder/knot.conf"
  knotd_pid=$spawned
  deadline 20 soa_answers "$address" "$port" "$zone"
}

# opendkim_start FOLDER PORT [MORE-CONFIG]: tables in FOLDER/KeyTable and FOLDER/SigningTable (refile), run as user opendkim.
opendkim_start() {
  local folder=$1 port=$2 more=${3:-}
  mkdir -p "$folder/keys"
  touch "$folder/KeyTable" "$folder/SigningTable"
  chmod 755 "$folder"
  chown opendkim:opendkim "$folder/keys"
  chmod 750 "$folder/keys"
  cat >"$folder/opendkim.conf" <<CONF
Socket inet:$port@127.0.0.1
UserID opendkim
Mode s
Syslog no
LogResults no
Canonicalization relaxed/simple
KeyTable $folder/KeyTable
SigningTable ${OPENDKIM_SIGNING_TABLE:-refile}:$folder/SigningTable
RequireSafeKeys yes
PidFile $folder/opendkim.pid
Background no
AutoRestart no
$more
CONF
  world_spawn "$folder" opendkim -f -x "$folder/opendkim.conf"
  opendkim_pid=$spawned
  deadline 20 milter_listens "$port"
}
milter_listens() { "$python" -c 'import socket,sys; socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1)' "$1"; }

# secondary_start ZONES ZONE: knotd at $secondary_port, with the primary at $primary_port for its master; ZONES as they stand in its configuration.
secondary_start() {
  knotd_start "$world/secondary" 127.0.0.2 "$secondary_port" "
remote:
  - id: primary
    address: 127.0.0.1@$primary_port
    via: 127.0.0.2
acl:
  - id: notify
    address: 127.0.0.0/8
    action: notify
zone:
$1" "$2"
}

# What named.conf and knot.conf say of zones that take our updates and go to the secondary.
usual_primary_zones() { # ZONE...
  local name
  echo "include \"$tsig_file\";"
  for name in "$@"; do
    cat <<ZONE
zone "$name" {
  type primary; file "$name.zone"; notify explicit; notify-delay 0; also-notify { 127.0.0.2 port $secondary_port; };
  allow-transfer { 127.0.0.0/8; };
  update-policy { grant dkim-key wildcard *._domainkey.$name. TXT; };
};
ZONE
  done
}
usual_secondary_zones() { # ZONE...
  local name
  for name in "$@"; do
    cat <<ZONE
  - domain: $name
    storage: $world/secondary
    master: primary
    acl: notify
ZONE
  done
}

# The usual world: $zone on named ($primary) and knotd ($secondary, AXFR and NOTIFY), TSIG key in $tsig_file, opendkim at $milter.
# Arguments: ZONE TTL SOA-MINIMUM
usual_world() {
  zone=$1
  local ttl=$2 minimum=$3 ports
  mapfile -t ports < <(free_ports 127.0.0.1 127.0.0.2 127.0.0.1)
  primary_port=${ports[0]} secondary_port=${ports[1]} milter_port=${ports[2]}
  primary=127.0.0.1:$primary_port secondary=127.0.0.2:$secondary_port milter=inet:$milter_port@127.0.0.1
  mkdir -p "$world/primary" "$world/secondary" "$world/opendkim"
  tsig_file=$world/tsig.key
  (umask 077 && tsig-keygen -a hmac-sha256 dkim-key >"$tsig_file")
  zone_file "$zone" "$ttl" "$minimum" >"$world/primary/$zone.zone"
  named_start "$world/primary" 127.0.0.1 "$primary_port" "$(usual_primary_zones "$zone")" || return 1
  secondary_start "$(usual_secondary_zones "$zone")" "$zone" || return 1
  opendkim_start "$world/opendkim" "$milter_port" || return 1
}

# usual_policy RULES DOMAINS: a policy for the usual world. RULES: the lines of policies.standard, indented by 4.
usual_policy() {
  cat <<POLICY
state: $world/state/state.db
policies:
  standard:
$1
publishers:
  primary:
    type: rfc2136
    server: "$primary"
    tsig-file: $tsig_file
    servers: ["$primary", "$secondary"]
signers:
  local:
    type: opendkim
    key-table: $world/opendkim/KeyTable
    signing-table: refile:$world/opendkim/SigningTable
    key-directory: $world/opendkim/keys/%d
    owner: opendkim:opendkim
    reload: {pid-file: $world/opendkim/opendkim.pid}
    milter: "$milter"
domains:
$2
POLICY
}

# ---- what scenarios share ----

# Short times, Ed25519 (milliseconds instead of a tenth of a second a key), opendkim told so.
SHORT_RULES='    selector: "server-%Y%m%d"
    keys: {main: {algorithm: ed25519}}
    rotate-every: 1h
    publish: {ttl: 1s, safety: 1s}
    confirm: {sightings: 2, every: 1s, warn-after: 1m}
    retire: {queue-lifetime: 1s, queue-backoff: 1s, drain: 1s, verify-window: 1s, safety: 1s, tombstone: 2s, private-key: destroy}'

# scenario NAME: begins, brings up the usual world for $zone with short times and writes the policy for it.
scenario() {
  world_begin "$1"
  usual_world example.test 1 1 || exit 1
  world_stop "$opendkim_pid"
  opendkim_start "$world/opendkim" "$milter_port" "SignatureAlgorithm ed25519-sha256" || exit 1
  usual_policy "$SHORT_RULES" "  example.test: {policy: standard, publisher: primary, signers: [local]}" >"$world/policy.yaml"
}
world_stop() { kill "$1"; world_wait_gone "$1"; }

dkimroll() { "$DKIMROLL" "$1" -p "$world/policy.yaml" "${@:2}"; }
# runs BUDGET: `dkimroll run`, its output in $world/run.log; its exit status.
runs() { dkimroll run --budget "$1" >"$world/run.log" 2>&1; }

fail() { echo "FAILED: $*" >&2; [[ -e $world/run.log ]] && tail -n 20 "$world/run.log" >&2; exit 1; }
expect() { "$@" || fail "$*"; } # COMMAND...
expect_not() { ! "$@" || fail "not expected: $*"; }
expect_log() { grep -qE -- "$1" "$world/run.log" || fail "the output does not say: $1"; }
expect_status() { local want=$1; shift; "$@"; local got=$?; ((got == want)) || fail "exit $got instead of $want: $*"; }

# Which selector signs now, proved by a message that verifies against the secondary.
signing_selector() {
  mail sign "$milter" "anna@$zone" >"$world/proof.eml" || fail "opendkim did not sign"
  mail verify "$secondary" "$world/proof.eml" || fail "a signature does not verify"
}
states() { sqlite_query "SELECT selector || ' ' || state FROM key ORDER BY id"; }
sqlite_query() { "$python" - "$world/state/state.db" "$1" <<'PY'
import sqlite3, sys
for row in sqlite3.connect("file:%s?mode=ro" % sys.argv[1], uri=True).execute(sys.argv[2]):
    print(*row)
PY
}
