#!/usr/bin/env python3
"""A mail system in miniature for tests and the demo, independent of dkimroll's own code.

mail.py sign SOCKET SENDER            sends one message through the milter at SOCKET (inet:PORT@HOST or unix:PATH) and prints it
                                      with the headers that the milter added; exit 1: no signature, 75: tempfail, 69: no connection
mail.py verify HOST:PORT [FILE]       verifies the message in FILE (default: standard input) with python3-dkim against the DNS
                                      server at HOST:PORT alone; prints the selector; exit 1: the signature does not verify
mail.py selector [FILE]               prints s= of the message's signature
mail.py txt HOST:PORT NAME            prints the TXT records at NAME, one a line
"""
import re
import socket
import struct
import sys
import time

import dkim
import dns.exception
import dns.message
import dns.query
import dns.rdatatype

TIMEOUT = 20


class Milter:
    """The client side of the milter protocol (version 6), as far as a signer needs it."""

    def __init__(self, where):
        kind, _, rest = where.partition(":")
        if kind in ("unix", "local"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(TIMEOUT)
            self.socket.connect(rest)
        else:
            port, _, host = rest.partition("@")
            self.socket = socket.create_connection((host, int(port)), TIMEOUT)
        self.command(b"O", struct.pack("!III", 6, 0x1FF, 0), b"O")
        self.command(b"C", b"localhost\0" + b"4" + struct.pack("!H", 25) + b"127.0.0.1\0")
        self.command(b"H", b"localhost\0")

    def send(self, code, data=b""):
        self.socket.sendall(struct.pack("!I", len(data) + 1) + code + data)

    def octets(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise ConnectionError("the milter closed the connection")
            data += part
        return data

    def receive(self):
        size = struct.unpack("!I", self.octets(4))[0]
        data = self.octets(size)
        return data[:1], data[1:]

    def command(self, code, data=b"", *good):
        self.send(code, data)
        answer, rest = self.receive()
        if answer not in (good or (b"c",)):
            raise RuntimeError("%r was answered by %r %r" % (code, answer, rest))
        return rest

    def message(self, sender, body=b"Hello.\r\n"):
        """Returns (verdict, headers, added): verdict is "accepted", "tempfail" or "rejected"."""
        headers = [
            ("From", "<%s>" % sender),
            ("To", "<somebody@example.net>"),
            ("Subject", "a test"),
            ("Date", time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime())),
            ("Message-ID", "<%f.test@%s>" % (time.time(), sender.partition("@")[2])),
        ]
        steps = [(b"M", b"<%s>\0" % sender.encode()), (b"R", b"<somebody@example.net>\0"), (b"T", b"")]
        steps += [(b"L", b"%s\0%s\0" % (n.encode(), v.encode())) for n, v in headers]
        steps += [(b"N", b""), (b"B", body)]
        for code, data in steps:
            self.send(code, data)
            answer, rest = self.receive()
            if answer == b"t" or (answer == b"y" and rest[:1] == b"4"):
                return "tempfail", headers, []
            if answer == b"a":  # "no more of it": OpenDKIM does not sign for this sender
                return "accepted", headers, []
            if answer not in (b"c", b"s"):
                return "rejected", headers, []
        self.send(b"E")
        added = []
        while True:
            answer, rest = self.receive()
            if answer == b"h":
                name, value = rest.rstrip(b"\0").split(b"\0", 1)
                added.append((name.decode(), value.decode()))
            elif answer == b"i":
                name, value = rest[4:].rstrip(b"\0").split(b"\0", 1)
                added.insert(0, (name.decode(), value.decode()))
            elif answer in (b"a", b"c"):
                return "accepted", headers, added
            elif answer == b"t" or (answer == b"y" and rest[:1] == b"4"):
                return "tempfail", headers, []
            elif answer in (b"r", b"y", b"d"):
                return "rejected", headers, []

    def close(self):
        try:
            self.send(b"Q")
        except OSError:
            pass
        self.socket.close()


def text_of(headers, added, body=b"Hello.\r\n"):
    lines = ["%s:%s%s" % (n, "" if v.startswith(" ") else " ", v.replace("\r\n", "\n").replace("\n", "\r\n")) for n, v in added + headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def lookup(server):
    host, _, port = server.rpartition(":")

    def txt(name, timeout=5, aliases=0):
        query = dns.message.make_query(name.decode() if isinstance(name, bytes) else name, dns.rdatatype.TXT)
        query.flags &= ~0x0100
        try:
            answer = dns.query.tcp(query, host.strip("[]"), port=int(port), timeout=timeout)
        except (dns.exception.DNSException, OSError):
            return None
        # An alias into another zone: Knot leaves the rest of the way to the resolver.
        if answer.answer and answer.answer[-1].rdtype == dns.rdatatype.CNAME and aliases < 8:
            return txt(answer.answer[-1][0].target.to_text(), timeout, aliases + 1)
        found = [b"".join(r.strings) for rrset in answer.answer if rrset.rdtype == dns.rdatatype.TXT for r in rrset]
        return found[0] if len(found) == 1 else None

    def all_txt(name):
        query = dns.message.make_query(name, dns.rdatatype.TXT)
        answer = dns.query.tcp(query, host.strip("[]"), port=int(port), timeout=5)
        return [b"".join(r.strings) for rrset in answer.answer if rrset.rdtype == dns.rdatatype.TXT for r in rrset]

    txt.all = all_txt
    return txt


def selector_of(message):
    found = re.search(rb"DKIM-Signature:.*?[;\s]s=([^;\s]+)", message, re.S)
    return found.group(1).decode() if found else None


def verify(message, server):
    try:
        return dkim.verify(message, dnsfunc=lookup(server), minkey=1024)
    except Exception as problem:  # a verifier that trips over a record has not verified it
        print("verify: %s" % problem, file=sys.stderr)
        return False


def main(arguments):
    command = arguments[0] if arguments else ""
    if command == "sign":
        try:
            milter = Milter(arguments[1])
        except OSError as problem:
            print("sign: %s" % problem, file=sys.stderr)
            return 69
        verdict, headers, added = milter.message(arguments[2])
        milter.close()
        if verdict != "accepted":
            print("sign: %s" % verdict, file=sys.stderr)
            return 75 if verdict == "tempfail" else 69
        sys.stdout.buffer.write(text_of(headers, added))
        return 0 if any(n.lower() == "dkim-signature" for n, _ in added) else 1
    if command == "verify":
        message = open(arguments[2], "rb").read() if len(arguments) > 2 else sys.stdin.buffer.read()
        good = verify(message, arguments[1])
        print(selector_of(message) or "no signature")
        return 0 if good else 1
    if command == "selector":
        message = open(arguments[1], "rb").read() if len(arguments) > 1 else sys.stdin.buffer.read()
        print(selector_of(message) or "no signature")
        return 0
    if command == "txt":
        for text in lookup(arguments[1]).all(arguments[2]):
            print(text.decode())
        return 0
    print(__doc__, file=sys.stderr)
    return 64


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
