#!/usr/bin/python3
"""A DNS provider with a REST interface, on loopback: what policies/publisher-rest.sh talks to. Its records go to the name servers that the world asks, by nsupdate.

provider.py PORT TOKEN-FILE KEY-FILE SERVER PORT-OF-SERVER FOLDER

Each call is a line in FOLDER/calls. While FOLDER/limit exists, every call is answered by 429."""
import http.server
import json
import os
import subprocess
import sys
import urllib.parse

port, token_file, key_file, server, server_port, folder = sys.argv[1:7]
with open(token_file, encoding="ascii") as file:
    TOKEN = file.read().strip()
records = {}
numbers = iter(range(1, 1 << 30))


def update(zone, words):
    text = f"server {server} {server_port}\nzone {zone}.\n{words}\nsend\n"
    subprocess.run(["nsupdate", "-t", "5", "-k", key_file], input=text.encode(), check=True)


def line(zone, record):
    strings = " ".join('"%s"' % record["content"][i:i + 255] for i in range(0, len(record["content"]), 255))
    return "%s.%s. %%sTXT %s" % (record["name"], zone, strings)


class Provider(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body=None):
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def asked(self):
        """The zone and the number behind it, if the call may be made."""
        with open(os.path.join(folder, "calls"), "a", encoding="ascii") as calls:
            calls.write("%s %s\n" % (self.command, self.path))
        if os.path.exists(os.path.join(folder, "limit")):
            self.answer(429, {"error": "too many calls"})
        elif self.headers.get("Authorization") != "Bearer " + TOKEN:
            self.answer(401, {"error": "who are you?"})
        else:
            parts = urllib.parse.urlsplit(self.path).path.split("/")
            if parts[1:3] == ["v1", "zones"] and parts[4:5] == ["records"]:
                return parts[3], int(parts[5]) if len(parts) > 5 else 0
            self.answer(400, {"error": "no such path"})
        return None, 0

    def do_GET(self):
        zone, _ = self.asked()
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        if zone:
            self.answer(200, {"records": [r for r in records.values() if r["name"] == query["name"][0] and r["zone"] == zone and r["type"] == query["type"][0]]})

    def do_POST(self):
        zone, _ = self.asked()
        if not zone:
            return
        record = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if set(record) != {"type", "name", "ttl", "content"} or record["type"] != "TXT" or not isinstance(record["ttl"], int):
            self.answer(422, {"error": "no record"})
            return
        record.update(zone=zone, id=next(numbers))
        update(zone, "update add " + line(zone, record) % ("%d " % record["ttl"]))
        records[record["id"]] = record
        self.answer(201, record)

    def do_DELETE(self):
        zone, number = self.asked()
        if not zone:
            return
        if number not in records:
            self.answer(404, {"error": "no such record"})
            return
        update(zone, "update delete " + line(zone, records.pop(number)) % "")
        self.answer(204)

    def log_message(self, *_):
        pass


http.server.HTTPServer(("127.0.0.1", int(port)), Provider).serve_forever()
