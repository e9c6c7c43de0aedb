#!/usr/bin/env python3
"""load.py MILTER SECONDARY SECONDS CONNECTIONS KEEP DOMAIN...

Sends messages through the milter without pause over CONNECTIONS connections: the odd ones keep each milter connection open for KEEP seconds, across
reloads of the signer; the even ones open a new one for every few messages. The receiver looks at every message: was it accepted, is it signed, does the
secondary serve a key record at the selector, not revoked? Every 20th is verified in full by python3-dkim against the secondary. Prints counts; exit 1 if one
message was lost.
"""
import collections
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import mail


def main(arguments):
    milter, secondary, seconds, connections, keep = arguments[0], arguments[1], float(arguments[2]), int(arguments[3]), float(arguments[4])
    domains = arguments[5:]
    counts, problems, selectors = collections.Counter(), [], set()
    lock = threading.Lock()
    end = time.monotonic() + seconds
    txt = mail.lookup(secondary)
    served = {}  # name -> (asked at, record); an answer is believed for half a second, far less than any window of the test

    def serves(name):
        now = time.monotonic()
        with lock:
            asked, record = served.get(name, (0, None))
        if now - asked > 0.5 or not record:
            record = txt(name)
            with lock:
                served[name] = (now, record)
        return record and b"p=" in record and not record.rstrip().endswith(b"p=")

    def judge(verdict, headers, added, serial):
        if verdict != "accepted":
            return verdict
        message = mail.text_of(headers, added)
        selector = mail.selector_of(message)
        if not selector:
            return "unsigned"
        domain = headers[0][1].strip("<>").partition("@")[2]
        with lock:
            selectors.add((domain, selector))
        if not serves("%s._domainkey.%s" % (selector, domain)):
            return "key not served: %s of %s" % (selector, domain)
        if serial % 20 == 0 and not mail.verify(message, secondary):
            return "does not verify: %s of %s" % (selector, domain)
        return "good"

    def worker(number):
        rng = random.Random(number)
        serial = number
        kept = number % 2 == 1
        while time.monotonic() < end:
            connection = mail.Milter(milter)
            opened, sent = time.monotonic(), 0
            while time.monotonic() < end and (time.monotonic() - opened < keep if kept else sent < 3):
                outcome = judge(*connection.message("user%d@%s" % (number, rng.choice(domains))), serial)
                serial += 1
                sent += 1
                with lock:
                    counts[outcome.partition(":")[0]] += 1
                    if outcome != "good" and len(problems) < 20:
                        problems.append(outcome)
            connection.close()

    def guarded(number):
        try:
            worker(number)
        except Exception as problem:  # a connection that breaks is a message lost
            with lock:
                counts["broken"] += 1
                problems.append("connection %d: %r" % (number, problem))

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("%d messages over %d connections: %s; %d keys of %d domains seen" %
          (sum(counts.values()), connections, dict(counts), len(selectors), len(domains)))
    for problem in problems:
        print("  " + problem)
    return 0 if counts and set(counts) == {"good"} else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
