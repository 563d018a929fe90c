"""A token endpoint for OAUTHBEARER (OAuth 2.0 client credentials) that issues unsecured JWTs.

token.py --address-file FILE [--lifetime SECONDS]

Ends when FILE is removed.

POST /token with the account `catchment` / `catchment-secret` (HTTP Basic, or client_id and client_secret in the form) answers a token;
another account answers 401. The broker's unsecured validator takes tokens without a signature that name a subject and have
not expired. `--lifetime` is in seconds; below zero every token is born expired, which the broker must refuse.
"""

import argparse
import base64
import http.server
import json
import os
import threading
import time
import urllib.parse

ACCOUNT = ("catchment", "catchment-secret")


def part(claims: dict) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")


def token(lifetime: int) -> str:
    now = int(time.time())
    issued = min(now, now + lifetime - 60)
    claims = {"sub": ACCOUNT[0], "iat": issued, "exp": now + lifetime, "scope": "kafka"}
    return f'{part({"alg": "none", "typ": "JWT"})}.{part(claims)}.'


def account(authorization: str, form: dict) -> tuple:
    if authorization.startswith("Basic "):
        name, _, secret = base64.b64decode(authorization[6:]).decode().partition(":")
        return urllib.parse.unquote(name), urllib.parse.unquote(secret)
    return form.get("client_id", [""])[0], form.get("client_secret", [""])[0]


def main() -> None:
    args = argparse.ArgumentParser()
    args.add_argument("--address-file", required=True)
    args.add_argument("--lifetime", type=int, default=300)
    args = args.parse_args()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            form = urllib.parse.parse_qs(body)
            if account(self.headers.get("Authorization", ""), form) != ACCOUNT:
                self.answer(401, {"error": "invalid_client", "error_description": "unknown client or wrong secret"})
            else:
                self.answer(200, {"access_token": token(args.lifetime), "token_type": "Bearer", "expires_in": args.lifetime})

        def answer(self, status: int, content: dict) -> None:
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

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
