# A Debian 12 of its own in a folder, with systemd as its first process, for tests/host/check-host.sh. It takes root, debootstrap and unshare, and no network but
# that of this host's own apt.
#
#   host_prepare ROOT PACKAGE...        a system with these packages as they configure themselves, in the folder ROOT; it is made once, and lent afterwards
#   host_boot                           boots it in namespaces of its own, also of the network, which has nothing but lo; sets $init
#   in_host COMMAND...                  in it
#   beside COMMAND...                   a program of this host, in the network of the other
#   host_stop                           ends it, and what was mounted for it
#   host_is_possible                    whether this machine lets it: root, namespaces, control groups
#
# The base lies in $HOST_BASE, default /var/tmp/dkimroll-check-host/bookworm, 360 MB. give_up MESSAGE comes from who includes this.
HOST_BASE=${HOST_BASE:-/var/tmp/dkimroll-check-host/bookworm}
init='' host_wrapper='' host_root='' host_memory='' host_group=''

# What "a Debian 12" is here: the least that debootstrap makes, and what every installation has.
host_install_base() { # BASE PACKAGE...
  local base=$1 mirror
  shift
  # Where this host's apt has its packages from, and how it gets there.
  apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' | grep ' bookworm[^ ]* ' | sort -u >"$base.sources"
  mirror=$(awk '$3 == "bookworm" {print $2; exit}' "$base.sources")
  [[ -n $mirror ]] || { echo "apt of this host has no packages of Debian 12"; return 1; }
  # Without waiting for the disk for each file: what is half made after a crash is made again.
  DPKG_FORCE=unsafe-io debootstrap --variant=minbase --include=ca-certificates,systemd,systemd-sysv,dbus bookworm "$base" "$mirror" || return 1
  cp "$base.sources" "$base/etc/apt/sources.list"
  apt-config dump | grep -E '^Acquire::(https?|Check|Retries)' >"$base/etc/apt/apt.conf.d/90host"
  cp /etc/resolv.conf "$base/etc/resolv.conf"
  echo "127.0.0.1 localhost" >"$base/etc/hosts"
  echo mail >"$base/etc/hostname"
  # Nothing is started in the folder (invoke-rc.d(8)); what is enabled starts with the system.
  printf '#!/bin/sh\nexit 101\n' >"$base/usr/sbin/policy-rc.d"
  chmod 755 "$base/usr/sbin/policy-rc.d"
  # With /proc, from which Postfix tells which protocols there are.
  unshare --mount --pid --fork --propagation private sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" /usr/bin/env -i \
    PATH=/usr/sbin:/usr/bin:/sbin:/bin DPKG_FORCE=unsafe-io LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive sh -c "apt-get update && exec apt-get install -y --no-install-recommends \"\$@\"" sh "$@"' \
    "$base" "$@" || return 1
  rm "$base/usr/sbin/policy-rc.d"
  chroot "$base" apt-get clean
}

# What is written goes to memory: dpkg and databases wait for the disk at every step.
host_prepare() { # ROOT PACKAGE...
  local root=$1 stamp
  shift
  mkdir -p "$(dirname "$HOST_BASE")"
  stamp=$( (declare -f host_install_base && echo "$*") | sha256sum | cut -c 1-16)
  # Shared as long as it is used, alone for who makes it.
  exec 9>"$HOST_BASE.lock"
  flock --shared 9
  if [[ ! -e $HOST_BASE/.dkimroll-$stamp ]]; then
    flock 9
    if [[ ! -e $HOST_BASE/.dkimroll-$stamp ]]; then
      rm -rf --one-file-system "$HOST_BASE"
      host_install_base "$HOST_BASE" "$@" >"$HOST_BASE.log" 2>&1 </dev/null || { tail -n 20 "$HOST_BASE.log" >&2; give_up "no base system could be made; all of it: $HOST_BASE.log"; }
      touch "$HOST_BASE/.dkimroll-$stamp"
    fi
    flock --shared 9
  fi
  host_memory=$root.memory
  mkdir "$root" "$host_memory"
  mount -t tmpfs -o mode=755 tmpfs "$host_memory" && mkdir "$host_memory/upper" "$host_memory/work" &&
    mount -t overlay -o "lowerdir=$HOST_BASE,upperdir=$host_memory/upper,workdir=$host_memory/work" overlay "$root" || give_up "no file system for the host"
  host_root=$root
}

# Control groups of its own: with those of the whole machine, two hosts at once would mistake one another's services for their own.
host_in_control_groups() { # FOLDER COMMAND...: in a mount namespace of its own
  mkdir -p "$1/v1" "$1/v2"
  mount -t cgroup -o none,name=systemd cgroup "$1/v1" && mount -t cgroup2 cgroup2 "$1/v2" || return 1
  "${@:2}"
}
host_join_control_groups() { # FOLDER NAME
  local tree
  for tree in "$1/v1" "$1/v2"; do
    mkdir "$tree/$2" && echo 0 >"$tree/$2/cgroup.procs" || return 1
  done
}
host_remove_control_groups() { # FOLDER NAME
  find "$1/v1/$2" "$1/v2/$2" -depth -type d -exec rmdir {} +
}
host_is_possible() {
  local folder status
  [[ $(id -u) == 0 ]] || return 1
  folder=$(mktemp -d)
  unshare --mount --net --pid --uts --ipc --cgroup --fork --propagation private bash -c "$(host_functions); host_in_control_groups \"\$1\" true" bash "$folder" 2>/dev/null
  status=$?
  rm -rf --one-file-system "$folder"
  return "$status"
}
host_begin() { # FOLDER NAME ROOT
  host_in_control_groups "$1" host_join_control_groups "$1" "$2" || return 1
  exec unshare --net --pid --uts --ipc --cgroup --fork bash -c "$(declare -f host_enter); host_enter \"\$1\"" bash "$3"
}
host_functions() { declare -f host_in_control_groups host_join_control_groups host_remove_control_groups host_begin host_enter; }

# In the new namespaces: the file systems that systemd wants to find, then systemd.
host_enter() { # ROOT
  set -e
  cd "$1"
  mount --bind . .
  cd "$1"
  mount -t proc proc proc
  mount -t sysfs -o ro sysfs sys
  mount -t tmpfs -o mode=755 tmpfs run
  mount -t tmpfs -o mode=1777 tmpfs tmp
  mount -t tmpfs -o mode=755 tmpfs dev
  mkdir dev/pts dev/shm
  mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
  ln -s pts/ptmx dev/ptmx
  ln -s /proc/self/fd dev/fd
  local device
  for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
  done
  mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
  mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
  mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
  mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
  ip link set lo up
  hostname "$(cat etc/hostname)"
  mkdir -p .old
  pivot_root . .old
  umount -l /.old
  # LoadCredential= needs it.
  mount --make-rshared /
  exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb /lib/systemd/systemd --log-target=console
}

host_is_up() { in_host systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'; }
host_boot() {
  host_group=dkimroll-host-$$
  # The first process of the new PID namespace is the child of what this becomes.
  unshare --mount --propagation private bash -c "$(host_functions); host_begin \"\$@\"" bash "$host_root.cgroup" "$host_group" "$host_root" >"$host_root.boot.log" 2>&1 </dev/null 9>&- &
  host_wrapper=$!
  first_process() { init=$(pgrep -P "$host_wrapper") && [[ -n $init ]]; }
  deadline 10 first_process && deadline 60 host_is_up || { tail -n 20 "$host_root.boot.log" >&2; give_up "it did not boot"; }
}
in_host() { nsenter --target "$init" --all "$@"; }
beside() { nsenter --target "$init" --net "$@"; }
host_stop() {
  if [[ -n $init ]]; then
    in_host systemctl --no-block poweroff 2>/dev/null
    host_is_down() { ! kill -0 "$init"; }
    deadline 20 host_is_down || kill -KILL "$init"
    wait "$host_wrapper"
    init=''
    unshare --mount --propagation private bash -c "$(host_functions); host_in_control_groups \"\$1\" host_remove_control_groups \"\$@\"" bash "$host_root.cgroup" "$host_group"
  fi
  [[ -z $host_root ]] || umount -l "$host_root" "$host_memory"
  host_root=''
}
