#!/usr/bin/env python3
"""crash.py --world FOLDER --dkimroll PROGRAM --killer PROGRAM --ports NAMED MILTER... -- [OPTIONS]        (crash.sh calls it, with the servers up)

  --all               every point; else --sample COUNT (100) of them, chosen by --seed N, of the lives that are sampled
  --memory COUNT      besides, so many of the allocations fail (short.c): in libraries, too; --all: one in MEMORY_STRIDE of them
  --life NAME         points of that life alone (one of LIVES)
  --replay POINT      one point, as it is printed when it fails: LIFE:CALL:before, LIFE:CALL:after or LIFE:ALLOCATION:memory

A life of a key is cut into short ones (LIVES). Each begins with prepared folders and records; a first, undisturbed run counts its system calls that change
something, and its end is the measure. A point is one such call: the program and its keeper are killed there, before it or after it took effect, then
`dkimroll run` is called until it is done. The end has to be that of the undisturbed run: states, transitions (each once), tables, files with owners and rights,
records, nothing open, nothing left over. A life of the daemon has its head, its life, their keeper, a hook and metrics killed together, while a key is revoked, and the daemon is
started again; every transition was told to the hook. All the time mail flows through a new milter connection and one that stays open: accepted, signed, and with a key that
is served. Where memory runs out, the run itself may fail, or even die in a library; then `dkimroll run` comes to the same end.
"""
import argparse
import glob
import multiprocessing
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback

import dns.name
import dns.query
import dns.rdatatype
import dns.tsigkeyring
import dns.update

import mail

KILLED = 137
KEPT_SECONDS = 0.8  # how long a milter connection stays open; the policy's drain is longer
PAUSE_SECONDS = 0.04  # between two messages
RESTARTS_MAX = 12
COPIES_MAX = 20
RESTART_SECONDS = 40
REVOKED = (0, 75)  # done, or asked for
MEMORY_STRIDE = 50
CALL_SECONDS = 180  # an operation whose end could not be told for want of memory ends at its deadline
OLD_SECONDS = 11  # longer than drain and tombstone of the policies, and than the pause between two proofs: what begins a life waits for no time any more

# Selectors by the year, so that what was lived before midnight is what is lived after it.
RULES = """    selector: "server-%%Y"
    keys: {main: {algorithm: ed25519}}
    rotate-every: 90d
    standby: %d
    publish: {ttl: 1s, safety: 0s}
    confirm: {sightings: 1, every: 1s, warn-after: 1m}
    retire: {queue-lifetime: 0s, queue-backoff: 0s, verify-window: 0s, safety: 0s, %s}
"""
POLICY = """state: %(folder)s/state/state.db
policies:
  standard:
%(rules)spublishers:
  primary: %(publisher)s
signers:
  local:
    type: opendkim
    key-table: %(folder)s/KeyTable
    signing-table: refile:%(folder)s/SigningTable
    key-directory: %(folder)s/keys/%%d
    owner: opendkim:opendkim
    reload: {pid-file: %(folder)s/opendkim.pid}
    milter: "inet:%(milter)d@127.0.0.1"
domains:
  %(zone)s: {policy: standard, publisher: primary, signers: [local]}
"""
# Of a life that has hooks and metrics, too.
TELLING = """hooks: {transition: [/bin/sh, -c, "echo $DKIMROLL_NUMBER >>%(folder)s/hook.log"]}
metrics: {file: %(folder)s/metrics/dkimroll.prom}
"""

# Of a life whose records are published by a tool of somebody else's, which the runner calls.
RFC2136 = '{type: rfc2136, server: "127.0.0.1:%(named)d", tsig-file: %(tsig)s, servers: ["127.0.0.1:%(named)d"]}'
COMMAND = '{type: command, command: [/bin/sh, %(tool)s, %(tsig)s, 127.0.0.1, "%(named)d"], servers: ["127.0.0.1:%(named)d"], wait: 10s}'

# What becomes of a retired key, by policy; a life names one of these. In one a key waits as standby, and people are told; in the last two a tool publishes.
STANDBY = "standby"
TOOL = "tool"
TOOL_LONG = "tool-long"
ENDINGS = {
    "never": "drain: 7d, tombstone: 30d, private-key: destroy",
    "long": "drain: 2s, tombstone: 30d, private-key: destroy",
    "short": "drain: 2s, tombstone: 2s, private-key: destroy",
    "none": "drain: 2s, tombstone: 0s, private-key: destroy",
    "archive": "drain: 2s, tombstone: 2s, private-key: archive, archive-directory: %(folder)s/archive/%%d",
    STANDBY: "drain: 2s, tombstone: 30d, private-key: destroy",
    TOOL: "drain: 2s, tombstone: 2s, private-key: destroy",
    TOOL_LONG: "drain: 2s, tombstone: 30d, private-key: destroy",
}


class Life:
    daemon, troubles = False, 0

    """begin: states of all keys before it; command: what is killed; end: states after it. signed: mail has to be signed from the beginning. lost: the database is gone, and the
    command makes it anew. sampled: a sample of all points has some of it, which costs its preparation."""

    def __init__(self, name, ending, begin, command, end, repeated=False, lost=False, sampled=True):
        self.lost, self.sampled = lost, sampled
        self.name, self.ending, self.begin, self.command, self.end = name, ending, begin, command, end
        self.repeated = repeated  # the command is a wish: killed before it was written down, it has to be said again
        self.signed = "active" in begin


class DaemonLife(Life):
    """The daemon works, the key that signs is revoked beside it, and it ends when the end is reached."""
    daemon, troubles = True, 1  # opendkim cannot be restarted here, which is told


LIVES = [
    Life("first", "never", [], ["run", "--budget", "5s"], ["active"]),
    Life("rotate", "never", ["active"], ["rotate", "ZONE", "--budget", "1s"], ["retired", "active"], repeated=True),
    Life("revoke", "long", ["retired", "active"], ["run", "--budget", "1s"], ["revoked", "active"]),
    Life("remove", "short", ["revoked", "active"], ["run", "--budget", "1s"], ["removed", "active"]),
    Life("remove-at-once", "none", ["retired", "active"], ["run", "--budget", "1s"], ["removed", "active"]),
    Life("archive", "archive", ["revoked", "active"], ["run", "--budget", "1s"], ["removed", "active"]),
    Life("import", "never", ["active"], ["import", "--apply"], ["active"], repeated=True, lost=True, sampled=False),
    Life("tool-first", TOOL, [], ["run", "--budget", "5s"], ["active"], sampled=False),
    Life("tool-revoke", TOOL_LONG, ["retired", "active"], ["run", "--budget", "1s"], ["revoked", "active"], sampled=False),
    Life("tool-remove", TOOL, ["revoked", "active"], ["run", "--budget", "1s"], ["removed", "active"], sampled=False),
    DaemonLife("daemon", STANDBY, ["active", "ready"], ["daemon"], ["revoked", "active", "ready"]),
]
STATES = ["reserved", "generated", "published", "ready", "active", "retired", "revoked", "removed"]

# Where a crash once did harm; always among the points. Life, its call (the first that matches), after it?
FOUND = [
    ("first", r"unlink .*/state\.db-journal", "before"),  # the store could not be opened for reading any more, and `run` reads first
    ("first", r"fsync .*/keys/", "before"),  # a private key file under a temporary name stayed for ever
    ("first", r"mkdirat \.w\d+\.test\.dkimroll-", "after"),  # and so did a directory
    ("daemon", r"renameat \.dkimroll\.prom\.dkimroll-", "before"),  # and metrics
]


class Wrong(Exception):
    """The world is not as it should be."""


def wanted(arguments, life):
    """Whether there are points of that life."""
    if arguments.replay:
        return any(point.split(":")[0] == life.name for point in arguments.replay)
    return life.name == arguments.life if arguments.life else arguments.all or life.sampled


class World:
    """One zone, one opendkim, one dkimroll."""

    def __init__(self, arguments, number):
        self.number, self.zone = number, "w%d.test" % number
        self.folder = os.path.join(arguments.world, "w%d" % number)
        self.named, self.milter = arguments.ports[0], arguments.ports[number + 1]
        self.dkimroll, self.killer = arguments.dkimroll, arguments.killer
        self.tsig = os.path.join(arguments.world, "tsig.key")
        self.lives = [life for life in LIVES if wanted(arguments, life)]
        text = open(self.tsig).read()
        self.keyring = dns.tsigkeyring.from_text({"dkim-key": text.split('secret "')[1].split('"')[0]})
        self.server = "127.0.0.1:%d" % self.named
        self.database = os.path.join(self.folder, "state", "state.db")
        self.beginnings = {}  # name of a life -> (records, when it was made)
        self.policy, self.log = None, os.path.join(self.folder, "run.log")
        os.makedirs(os.path.join(self.folder, "metrics"), exist_ok=True)
        for name, ending in ENDINGS.items():
            values = {"folder": self.folder, "named": self.named, "tsig": self.tsig, "milter": self.milter, "zone": self.zone}
            values["tool"] = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "policies", "publisher-nsupdate.sh")
            values["publisher"] = (COMMAND if name in (TOOL, TOOL_LONG) else RFC2136) % values
            values["rules"] = RULES % (name == STANDBY, ending % {"folder": self.folder} if "%" in ending else ending)
            with open(self.policy_of(name), "w") as file:
                file.write((POLICY + (TELLING if name == STANDBY else "")) % values)

    def policy_of(self, ending):
        return os.path.join(self.folder, "policy-%s.yaml" % ending)

    # ---- dkimroll ----

    def command(self, words):
        return [self.dkimroll] + [self.zone if word == "ZONE" else word for word in words] + ["-p", self.policy]

    def preloaded(self, *libraries):
        """A tool cannot attest the clock, and the kernel of a container may not."""
        libraries += ("synchronised.so",) if self.policy in (self.policy_of(TOOL), self.policy_of(TOOL_LONG)) else ()
        return ["env", "LD_PRELOAD=" + ":".join(os.path.join(os.path.dirname(self.killer), library) for library in libraries)] if libraries else []

    def call(self, words, prefix=()):
        with open(self.log, "a") as log:
            log.write("$ %s\n" % " ".join(words))
            log.flush()
            try:
                return subprocess.run([*(prefix or self.preloaded()), *self.command(words)], stdout=log, stderr=log, stdin=subprocess.DEVNULL, timeout=CALL_SECONDS).returncode
            except subprocess.TimeoutExpired:
                raise Wrong("%s did not end within %d s" % (" ".join(words), CALL_SECONDS))

    # ---- the daemon ----

    def wait_for(self, process, condition, seconds):
        """False: the process has ended before."""
        end = time.monotonic() + seconds
        while not condition():
            if process.poll() is not None:
                return False
            if time.monotonic() > end:
                raise Wrong("the daemon is at %s and does not go on" % self.states())
            time.sleep(0.05)
        return True

    def is_awake(self):
        """Whether a daemon listens."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            listener.connect(self.database + ".wake")
            return True
        except OSError:
            return False
        finally:
            listener.close()

    def has_come_to(self, life):
        try:
            return self.states() == life.end and not self.query("SELECT 1 FROM key WHERE intent_open")
        except sqlite3.DatabaseError:
            return False  # copied while it was written

    def live(self, life, prefix=()):
        """The daemon, until the end of the life is reached or something ends it. Returns its status."""
        with open(self.log, "a") as log:
            log.write("$ daemon\n")
            log.flush()
            process = subprocess.Popen([*prefix, *self.command(["daemon"])], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            if self.wait_for(process, self.is_awake, RESTART_SECONDS):
                # By its name, so that it may be said again.
                status = self.call(["revoke", self.compromised, "--yes", "--no-wait", "--reason", "read on the host"])
                if status not in REVOKED and process.poll() is None:
                    raise Wrong("revoke ends with status %d" % status)
                if self.wait_for(process, lambda: self.has_come_to(life), RESTART_SECONDS):
                    subprocess.run(["pkill", "-TERM", "-P", str(process.pid), "-x", "dkimroll"] if prefix else ["kill", str(process.pid)], check=not prefix)
            return process.wait(timeout=CALL_SECONDS)
        except subprocess.TimeoutExpired:
            raise Wrong("the daemon did not end within %d s" % CALL_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def check_told(self, short):
        """The hook heard of every transition, and the metrics are whole. short: memory ran out, and a call of the hook that failed for that, or for a keeper that ended by it, is a warning, and no more."""
        told = open(os.path.join(self.folder, "hook.log")).read().split()
        missing = [row[0] for row in self.query("SELECT id FROM event WHERE kind = 'state' AND id > %d" % self.last_event) if str(row[0]) not in told]
        if missing and not (short and re.search(r"^warning: .*(out of memory|the keeper .* has ended)", open(self.log).read(), re.MULTILINE)):
            raise Wrong("the hook was not told of the events %s; it was of %s" % (missing, told))
        metrics = open(os.path.join(self.folder, "metrics", "dkimroll.prom")).read()
        if "\ndkimroll_domains_signed 1\n" not in metrics or not metrics.endswith("\n"):
            raise Wrong("the metrics are not whole: %s" % metrics)

    def short(self, *settings):
        """Prefix of a command whose memory runs out."""
        return [*self.preloaded("short.so"), *settings]

    def query(self, sql):
        """Asks a copy, since the first who opens what a dead process left repairs it, and that shall be dkimroll. The last who closes it takes its log away, maybe just now."""
        for _ in range(COPIES_MAX):
            try:
                return self.query_copy(sql)
            except FileNotFoundError:
                pass
        raise Wrong("the files of the state do not stay for as long as it takes to copy them")

    def query_copy(self, sql):
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="copy-") as folder:
            for path in glob.glob(self.database + "*"):
                if not path.endswith(("-shm", ".wake", ".lock")):
                    shutil.copy(path, folder)
            connection = sqlite3.connect(os.path.join(folder, "state.db"))
            try:
                return connection.execute(sql).fetchall()
            except sqlite3.OperationalError:
                return []  # killed before there were tables
            finally:
                connection.close()

    def states(self):
        return [STATES[row[0]] for row in self.query("SELECT state FROM key ORDER BY id")]

    # ---- DNS and signer ----

    def records(self):
        found = {}
        for message in dns.query.xfr("127.0.0.1", self.zone, port=self.named, timeout=10, lifetime=20, relativize=False):
            for rrset in message.answer:
                if rrset.rdtype == dns.rdatatype.TXT:
                    found.setdefault(rrset.name.to_text(), []).extend(b"".join(rdata.strings).decode() for rdata in rrset)
        return found

    def set_records(self, wanted):
        update = dns.update.Update(self.zone, keyring=self.keyring, keyname="dkim-key", keyalgorithm="hmac-sha256")
        for name in self.records():
            update.delete(dns.name.from_text(name), "TXT")
        for name, texts in wanted.items():
            for text in texts:
                update.add(dns.name.from_text(name), 1, "TXT", '"%s"' % text)
        answer = dns.query.tcp(update, "127.0.0.1", port=self.named, timeout=10)
        if answer.rcode():
            raise Wrong("named refuses the prepared records: %s" % answer.rcode())

    def reload(self):
        """Until new connections follow the tables: the signal only sets a flag, which is looked at when one comes."""
        with open(os.path.join(self.folder, "opendkim.pid")) as file:
            os.kill(int(file.read()), signal.SIGUSR1)
        active = [row[0] for row in self.query("SELECT selector FROM key WHERE state = 4")] or [None]
        end = time.monotonic() + 10
        while [self.signing_selector()] != active:
            if time.monotonic() > end:
                raise Wrong("opendkim does not follow the prepared tables")
            time.sleep(0.02)

    def signing_selector(self):
        """Of a message on a new connection; None: accepted without a signature; "tempfail" or "rejected"."""
        connection = mail.Milter("inet:%d@127.0.0.1" % self.milter)
        verdict, headers, added = connection.message("anna@" + self.zone)
        connection.close()
        return mail.selector_of(mail.text_of(headers, added)) if verdict == "accepted" else verdict

    # ---- prepared beginnings ----

    PARTS = ["state", "keys", "archive", "KeyTable", "SigningTable"]

    def copy(self, source, target):
        os.makedirs(target, exist_ok=True)
        for part in self.PARTS:
            there = os.path.join(target, part)
            if os.path.isdir(there):
                shutil.rmtree(there)
            elif os.path.exists(there):
                os.unlink(there)
            if os.path.exists(os.path.join(source, part)):
                subprocess.run(["cp", "-a", os.path.join(source, part), there], check=True)
        for left in glob.glob(os.path.join(target, ".*dkimroll-*")):
            os.unlink(left)

    def save(self, name):
        self.copy(self.folder, os.path.join(self.folder, "saved", name))
        return self.records()

    def restore(self, life):
        name = life.name
        records, made = self.beginnings[name]
        while time.monotonic() < made + OLD_SECONDS:
            time.sleep(0.05)
        self.copy(os.path.join(self.folder, "saved", name), self.folder)
        self.set_records(records)
        self.reload()
        self.compromised, self.last_event = self.query("SELECT (SELECT selector FROM key WHERE state = 4), (SELECT max(id) FROM event)")[0] if self.states() else (None, 0)
        for told in glob.glob(os.path.join(self.folder, "hook.log")) + glob.glob(os.path.join(self.folder, "metrics", "*")) + glob.glob(os.path.join(self.folder, "metrics", ".*")):
            os.unlink(told)
        if life.lost:
            for left in glob.glob(self.database + "*"):
                os.unlink(left)
        open(self.log, "w").close()

    def clear(self):
        shutil.rmtree(os.path.join(self.folder, "state"), ignore_errors=True)
        shutil.rmtree(os.path.join(self.folder, "archive"), ignore_errors=True)
        for entry in os.listdir(os.path.join(self.folder, "keys")):
            shutil.rmtree(os.path.join(self.folder, "keys", entry))
        for table in ("KeyTable", "SigningTable"):
            open(os.path.join(self.folder, table), "w").close()
        self.set_records({})
        self.reload()

    def prepare(self, life):
        """Drives an empty world to the beginning of the life."""
        self.policy = self.policy_of(life.ending)
        self.clear()
        open(self.log, "w").close()
        end = time.monotonic() + 60
        while self.states() != life.begin:
            states = self.states()
            words = ["rotate", "ZONE", "--budget", "1s"] if states == ["active"] and life.ending != STANDBY else ["run", "--budget", "5s" if not states else "1s"]
            if time.monotonic() > end or self.call(words):
                raise Wrong("the beginning of %s cannot be prepared; it is at %s" % (life.name, states))
        self.beginnings[life.name] = (self.save(life.name), time.monotonic())

    # ---- what is there ----

    def files(self):
        """Path, mode, owner, group of everything that dkimroll may have made. The log of SQLite belongs to the store; who only looks leaves it."""
        found = []
        for top, folders, names in os.walk(self.folder):
            if top == self.folder:
                folders[:] = [name for name in folders if name != "saved"]
                names = [name for name in names if name.endswith("Table") or "dkimroll" in name]
            for name in folders + names:
                if name in ("state.db-wal", "state.db-shm"):
                    continue
                status = os.lstat(os.path.join(top, name))
                found.append((os.path.relpath(os.path.join(top, name), self.folder), oct(status.st_mode), status.st_uid, status.st_gid))
        return sorted(found)

    def picture(self):
        """Everything that has to be the same however often it was killed."""
        tables = {name: open(os.path.join(self.folder, name)).read() for name in ("KeyTable", "SigningTable")}
        records = {name: ["revoked" if text.rstrip().endswith("p=") else "key" for text in texts] for name, texts in self.records().items()}
        return {
            "keys": self.query("SELECT selector, state, intent_open FROM key ORDER BY id"),
            "placements": self.query("SELECT key_id, file_made, switched_at IS NOT NULL, proved_at IS NOT NULL, drained_at IS NOT NULL, destroyed, failure "
                                     "FROM placement ORDER BY key_id, position"),
            "transitions": self.query("SELECT selector, from_state, to_state FROM event WHERE kind = 'state' ORDER BY id"),
            "troubles": [(kind, selector, reason.split(" until ")[0]) for kind, selector, reason in
                         self.query("SELECT kind, selector, reason FROM event WHERE kind IN ('failed', 'alarm', 'lost', 'clock') ORDER BY id")],
            "lineage": self.query("SELECT domain, managed, held, rotate_requested, failures, failure FROM lineage"),
            "open requests": self.query("SELECT kind, domain FROM request"),
            "integrity": self.query("SELECT integrity_check FROM pragma_integrity_check UNION ALL SELECT 'foreign key ' || \"table\" FROM pragma_foreign_key_check"),
            "tables": tables,
            "records": records,
            "files": self.files(),
        }

    def check_records(self):
        """What the store says of living keys is what is served."""
        served = self.records()
        for selector, record, state in self.query("SELECT selector, record, state FROM key"):
            texts = served.get("%s._domainkey.%s." % (selector, self.zone), [])
            if STATES[state] in ("published", "ready", "active", "retired") and texts != [record]:
                raise Wrong("%s is %s, its record is %r, and served is %r" % (selector, STATES[state], record, texts))

    def check_signature(self):
        connection = mail.Milter("inet:%d@127.0.0.1" % self.milter)
        verdict, headers, added = connection.message("anna@" + self.zone)
        connection.close()
        message = mail.text_of(headers, added)
        active = [row[0] for row in self.query("SELECT selector FROM key WHERE state = 4")]
        if verdict != "accepted" or [mail.selector_of(message)] != active:
            raise Wrong("mail is %s, signed with %s instead of %s" % (verdict, mail.selector_of(message), active))
        if not mail.verify(message, self.server):
            raise Wrong("the signature of %s does not verify" % active)


class Sender(threading.Thread):
    """Sends mail all the time: one connection that stays open for a while, across reloads, and new ones."""

    def __init__(self, world, signed):
        super().__init__()
        self.world, self.signed, self.over = world, signed, threading.Event()
        self.sent, self.problem = 0, None
        self.serves = mail.lookup(world.server)

    waived = None  # a selector that is being revoked: what is signed with it is lost, which is told
    undone = False  # the switch to a first key may be taken back, if its proof fails for want of memory

    def judge(self, signed, verdict, headers, added):
        """signed: the connection was opened when mail was signed already; an older one keeps the old tables."""
        self.sent += 1
        if verdict != "accepted":
            return "a message was answered by %s" % verdict
        selector = mail.selector_of(mail.text_of(headers, added))
        if not selector:
            return "a message was not signed" if signed and not self.undone else None
        self.signed = True
        record = self.serves("%s._domainkey.%s" % (selector, self.world.zone))
        if selector != self.waived and (not record or record.rstrip().endswith(b"p=") or not mail.verify(mail.text_of(headers, added), self.world.server)):
            return "a message was signed with %s, whose record is %r" % (selector, record)
        return None

    def run(self):
        where, sender = "inet:%d@127.0.0.1" % self.world.milter, "berta@" + self.world.zone
        kept, opened = None, 0
        try:
            while not self.over.is_set() and not self.problem:
                if kept is None or time.monotonic() - opened > KEPT_SECONDS:
                    if kept:
                        kept.close()
                    kept, opened, kept_signed = mail.Milter(where), time.monotonic(), self.signed
                fresh, fresh_signed = mail.Milter(where), self.signed
                self.problem = self.judge(kept_signed, *kept.message(sender)) or self.judge(fresh_signed, *fresh.message(sender))
                fresh.close()
                self.over.wait(PAUSE_SECONDS)
        except Exception as problem:
            self.problem = "a milter connection broke: %r" % problem

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, value, trace):
        self.over.set()
        self.join()
        if kind is None and self.problem:
            raise Wrong(self.problem)


def differences(golden, found):
    lines = []
    for part in golden:
        if golden[part] == found[part]:
            continue
        if isinstance(golden[part], list):
            lines += ["%s: missing %r" % (part, row) for row in golden[part] if row not in found[part]]
            lines += ["%s: too much %r" % (part, row) for row in found[part] if row not in golden[part] or found[part].count(row) > golden[part].count(row)]
        if not lines or not lines[-1].startswith(part):
            lines.append("%s: %r instead of %r" % (part, found[part], golden[part]))
    return lines


class Runner:
    def __init__(self, world):
        self.world, self.prepared = world, {}

    def begin(self, life):
        """Puts the beginning of life in place; the first time it is made, and the life is lived undisturbed once."""
        world = self.world
        if not world.beginnings:
            for each in world.lives:
                world.prepare(each)
        world.policy = world.policy_of(life.ending)
        if life.name not in self.prepared:
            world.restore(life)
            calls = os.path.join(world.folder, "calls-" + life.name)
            allocations = os.path.join(world.folder, "allocations")
            with self.sender(life):
                status = (world.live if life.daemon else world.call)(life if life.daemon else life.command, [world.killer, "--calls", calls] + world.short("SHORT_CALLS=" + allocations))
                self.settle(life)
            if status or world.states() != life.end:
                raise Wrong("%s ends undisturbed with status %d at %s instead of %s:\n%s" % (life.name, status, world.states(), life.end, open(world.log).read()))
            world.check_signature()
            world.check_records()
            golden = world.picture()
            if len(golden["troubles"]) != life.troubles or golden["integrity"] != [("ok",)]:
                raise Wrong("%s is troubled undisturbed: %s" % (life.name, golden))
            self.prepared[life.name] = (golden, [line.split(None, 3) for line in open(calls)], int(open(allocations).read()))
        world.restore(life)
        return self.prepared[life.name]

    def sender(self, life):
        sender = Sender(self.world, life.signed)
        sender.waived = self.world.compromised if life.daemon else None
        return sender

    def settle(self, life, short=False):
        """What the daemon had no time for at its end: the hook, and, where memory ran out, what is tried again after the back-off."""
        if life.daemon:
            if self.world.call(["run", "--budget", "90s" if short else "1s"]):
                raise Wrong("a run after the daemon fails")
            self.world.check_told(short)

    def again(self, life, golden, short):
        """The daemon is started again, until it comes to the end."""
        status = self.world.live(life)
        if status:
            raise Wrong("started again, the daemon ends with status %d" % status)
        if self.world.states() != life.end or differences({"keys": golden["keys"]}, {"keys": self.world.picture()["keys"]}):
            raise Wrong("started again, the daemon comes to %s instead of %s" % (self.world.states(), life.end))
        self.settle(life, short)

    def restart(self, life, golden, budget):
        """`dkimroll run` until it is done; a wish that was not written down is said again."""
        world, end, runs = self.world, time.monotonic() + RESTART_SECONDS, 0
        wished = not life.repeated or world.query("SELECT 1 FROM request") or world.query("SELECT 1 FROM lineage WHERE rotate_requested") or \
            world.states() != ([] if life.lost else life.begin)
        while True:
            words = ["run", "--budget", budget] if wished else life.command
            wished = True
            status = world.call(words)
            runs += 1
            if status:
                raise Wrong("started again, dkimroll ends with status %d" % status)
            if world.states() == life.end and not differences({"keys": golden["keys"]}, {"keys": world.picture()["keys"]}):
                return runs
            if runs >= RESTARTS_MAX or time.monotonic() > end:
                raise Wrong("started again %d times, it comes to %s instead of %s" % (runs, world.states(), life.end))

    def disturb(self, life, number, when):
        """Lives it until it is killed, or memory runs out. Returns whether that happened."""
        world, calls = self.world, os.path.join(self.world.folder, "calls")
        call, command = (world.live, life) if life.daemon else (world.call, life.command)
        if when == "memory":
            status = call(command, world.short("SHORT_AT=%d" % number))
            # What a signal ended died in a library, or is a defect of dkimroll: whoever runs this shall see it.
            if status < 0:
                print("%s: ended by signal %d" % (point_name(life.name, number, when), -status), flush=True)
            return True
        status = call(command, [world.killer, "--calls", calls, "--at", str(number)] + (["--after"] if when == "after" else []) + world.preloaded())
        if status != KILLED and status != 0:
            raise Wrong("the run ends with status %d" % status)
        return status == KILLED

    def point(self, life, number, when):
        """Returns (disturbed, seconds until the end). Raises Wrong."""
        world = self.world
        golden = dict(self.begin(life)[0])
        begun = time.monotonic()
        with self.sender(life) as sender:
            sender.undone = when == "memory" and not life.signed
            disturbed = self.disturb(life, number, when)
            if when == "memory":
                del golden["troubles"]  # a step that failed for want of memory is told, and tried again after the back-off
            if life.daemon:
                self.again(life, golden, when == "memory")
            else:
                self.restart(life, golden, "90s" if when == "memory" else "1s" if life.begin else "5s")
            if sender.problem:
                raise Wrong(sender.problem)
        world.check_signature()
        world.check_records()
        picture = world.picture()
        if when == "memory":  # which of two steps is put off is left to chance
            golden["transitions"], picture["transitions"] = sorted(golden["transitions"]), sorted(picture["transitions"])
        wrong = differences(golden, picture)
        if wrong:
            raise Wrong("\n    ".join(wrong))
        return disturbed, time.monotonic() - begun

    def explain(self):
        calls = os.path.join(self.world.folder, "calls")
        last = open(calls).read().splitlines()[-3:] if os.path.exists(calls) else []
        return ["the last calls:"] + last + ["the output:"] + open(self.world.log).read().splitlines()[-15:]


def work(arguments, number, tasks, results):
    """One worker: takes points until there are no more."""
    try:
        runner = Runner(World(arguments, number))
        for life_name, call, when in iter(tasks.get, None):
            life = next(life for life in LIVES if life.name == life_name)
            try:
                disturbed, seconds = runner.point(life, call, when)
                results.put((life_name, call, when, disturbed, seconds, None))
            except Wrong as problem:
                results.put((life_name, call, when, True, 0, [str(problem)] + runner.explain()))
    except Exception as problem:
        results.put((None, 0, "", False, 0, ["worker %d: %r" % (number, problem), traceback.format_exc()]))


def point_name(life, call, when):
    return "%s:%d:%s" % (life, call, when)


def all_points(arguments):
    """Counts the calls of each life in the first world. Returns the points at calls, those of them that are always tried, and those of memory."""
    runner, points, found, memory = Runner(World(arguments, 0)), [], [], []
    for life in runner.world.lives:
        _, calls, allocations = runner.begin(life)
        print("%-15s %4d calls that change something, %6d allocations, %d processes" %
              (life.name, len(calls), allocations, len({pid for _, pid, *_ in calls})), flush=True)
        points += [(life.name, number, when) for number in range(1, len(calls) + 1) for when in ("before", "after")]
        memory += [(life.name, number, "memory") for number in range(1, allocations + 1)]
        for name, pattern, when in FOUND:
            found += [(name, number, when) for number, line in enumerate(calls, 1) if name == life.name and re.match(pattern, " ".join(line[2:]))][:1]
    return points, found, memory


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--world", required=True)
    parser.add_argument("--dkimroll", required=True)
    parser.add_argument("--killer", required=True)
    parser.add_argument("--ports", type=int, nargs="+", required=True)
    ours, _, own = (lambda words: (words[:words.index("--")], "--", words[words.index("--") + 1:]))(sys.argv[1:])
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--sample", type=int, default=100)
    parser.add_argument("--memory", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED") or 20260124))
    parser.add_argument("--life", choices=[life.name for life in LIVES])
    parser.add_argument("--replay", action="append", default=[])
    return parser.parse_args(ours + own)


def choose(arguments, points, found, memory):
    if arguments.replay:
        return [(life, int(call), when) for life, call, when in (text.split(":") for text in arguments.replay)]
    rng = random.Random(arguments.seed)
    if arguments.all:
        return points + memory[rng.randrange(MEMORY_STRIDE)::MEMORY_STRIDE]
    # Those of memory first: some of them wait for a back-off, and the others are done meanwhile.
    chosen = found + rng.sample([point for point in points if point not in found], arguments.sample - len(found))
    return rng.sample(memory, arguments.memory) + chosen


def main():
    arguments = options()
    try:
        points, found, memory = ([], [], []) if arguments.replay else all_points(arguments)
    except Wrong as problem:
        print("crash: %s" % problem)
        return 1
    chosen = choose(arguments, points, found, memory)
    print("%d of %d points and %d allocations, seed %d" % (len(chosen), len(points), len(memory), arguments.seed), flush=True)
    tasks, results = multiprocessing.Queue(), multiprocessing.Queue()
    workers = min(len(arguments.ports) - 1, len(chosen))
    for point in chosen + [None] * workers:
        tasks.put(point)
    processes = [multiprocessing.Process(target=work, args=(arguments, number, tasks, results)) for number in range(workers)]
    for process in processes:
        process.start()
    failed = killed = done = 0
    slowest, begun = (0, ""), time.monotonic()
    for done in range(1, len(chosen) + 1):
        life, call, when, disturbed, seconds, problem = results.get(timeout=2 * CALL_SECONDS + 60)
        killed += disturbed
        slowest = max(slowest, (seconds, point_name(life, call, when) if life else ""))
        if problem:
            failed += 1
            print("FAILED %s: %s" % (point_name(life, call, when) if life else "a worker", "\n    ".join(problem)))
            print("    again: make crash POINT=%s" % (life and point_name(life, call, when)), flush=True)
            if not life:  # the others go on without it; what it had taken is not known
                break
        if done % 50 == 0:
            print("%d of %d points, %d failed, %.0f s" % (done, len(chosen), failed, time.monotonic() - begun), flush=True)
    for process in processes:
        process.join()
    print("disturbed at %d points in %.0f s; the slowest, %s, was done after %.1f s" % (killed, time.monotonic() - begun, slowest[1], slowest[0]))
    print("[  PASSED  ] %d test(s)." % (done - failed))
    if failed:
        print(" %d FAILED TEST(S)" % failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
