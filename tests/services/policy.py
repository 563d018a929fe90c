"""Decides MinIO's requests (its "policy plugin"): all are allowed but the actions that a file lists at that moment.

policy.py --deny FILE --asked FILE --address-file FILE

FILE of --deny holds one action a line (`s3:PutObject`); an optional second word limits it to keys with that prefix. A test revokes
and grants a permission by writing the file. FILE of --asked gets a line `action key` for each request, so that a test can count them.
Ends when the address file is removed.
"""

import argparse
import http.server
import json
import os
import threading
import time


def denied(path: str, action: str, key: str) -> bool:
    try:
        with open(path, encoding="utf-8") as lines:
            rules = [line.split() for line in lines]
    except FileNotFoundError:
        return False
    return any(rule and rule[0] == action and (len(rule) == 1 or key.startswith(rule[1])) for rule in rules)


def main() -> None:
    args = argparse.ArgumentParser()
    args.add_argument("--deny", required=True)
    args.add_argument("--asked", required=True)
    args.add_argument("--address-file", required=True)
    args = args.parse_args()
    # One unbuffered write a line: requests are served side by side.
    log = open(args.asked, "ab", buffering=0)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked = json.loads(body).get("input", {}) if body else {}
            action, key = asked.get("action", ""), asked.get("object", "")
            log.write(f"{action} {key}\n".encode())
            allow = not denied(args.deny, action, key)
            answer = json.dumps({"result": allow}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with open(args.address_file + ".new", "w", encoding="utf-8") as out:
        out.write(f"127.0.0.1:{server.server_address[1]}")
    os.rename(args.address_file + ".new", args.address_file)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while os.path.exists(args.address_file):
        time.sleep(0.5)


if __name__ == "__main__":
    main()
