"""A service manager's ear: binds a datagram socket and writes each message that comes (sd_notify) as one line, its parts separated by blanks."""
import os, socket, sys

path, log = sys.argv[1:]
ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
ear.bind(path)
with open(log, "a", buffering=1) as lines:
    while True:
        lines.write(ear.recv(65536).decode(errors="replace").replace("\n", " | ") + "\n")
