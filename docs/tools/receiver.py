#!/usr/bin/env python3
"""Receives the tools of Tandem's agents. Needs nothing but Python 3.9.

    export TANDEM_TOOLS_KEY=$(openssl rand -hex 32)      # the same for Tandem
    python3 receiver.py --port 8080

Each tool is a function below: it takes the arguments and what is known of the call, and returns what the caller is told.
"""

import argparse
import hashlib
import hmac
import json
import os
import sys
import threading
import time
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = os.environ.get("TANDEM_TOOLS_KEY", "").encode()
LONGEST_BODY = 1024 * 1024  # bytes
OLDEST = 300  # seconds: older requests may be repeated by somebody who listened
KEPT_ANSWERS = 10_000


def leave_message(args, call):
    print(f"message for {args.get('for_person', 'anybody')}: {args['message']}", flush=True)
    return {"status": "saved", "message": f"Thank you, {args['caller_name']}. I have passed that on."}


def check_policy_status(args, call):
    if args["policy_number"] != "P-100":
        return {"status": "not_found", "message": "I can't find a policy with that number."}
    return {"status": "found", "message": "Your policy is active until June.", "renewal": "2027-06-30"}


def schedule_appointment(args, call):
    when = " at ".join(filter(None, [args["date"], args.get("time")]))
    return {"status": "scheduled", "message": f"You are booked for {when}.", "metadata": {"booked": when}}


TOOLS = {tool.__name__: tool for tool in (leave_message, check_policy_status, schedule_appointment)}


def wrong_with(headers, body):
    """Why a request is not from Tandem, or None. Compares in constant time."""
    bearer = headers.get("Authorization", "").encode()
    if not hmac.compare_digest(bearer, b"Bearer " + KEY):
        return "the key is wrong"
    timestamp = headers.get("X-Webhook-Timestamp", "")
    if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > OLDEST:
        return "the timestamp is too old"
    signed = hmac.new(KEY, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    given = headers.get("X-Webhook-Signature", "").encode()
    if not hmac.compare_digest(given, b"sha256=" + signed.encode()):
        return "the signature is wrong"
    return None


class Answers:
    """One answer for each invocation: a request that comes twice is carried out once, also when it comes at the same time."""

    def __init__(self):
        self.lock = threading.Lock()
        self.kept = OrderedDict()

    def of(self, invocation, carry_out):
        with self.lock:
            known = invocation in self.kept
            entry = self.kept.setdefault(invocation, {"done": threading.Event(), "answer": None})
            while len(self.kept) > KEPT_ANSWERS:
                self.kept.popitem(last=False)
        if not known:
            try:
                entry["answer"] = carry_out()
            finally:
                entry["done"].set()
        entry["done"].wait(timeout=10)
        return entry["answer"] or (500, {"status": "error"})


ANSWERS = Answers()


def carry_out(request):
    tool = TOOLS.get(request["function"])
    if tool is None:
        return 404, {"status": "unavailable", "message": "I can't do that here."}
    if request.get("test"):
        print(f"a test of {request['function']}", flush=True)
    try:
        return 200, tool(request["args"], request)
    except Exception as error:  # Whatever it is, the caller is told that something is wrong.
        print(f"{request['function']} failed: {error!r}", file=sys.stderr, flush=True)
        return 500, {"status": "error"}


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # Connections stay open: the next request is faster.
    timeout = 120  # Longer than Tandem keeps an idle connection, so that none is closed while it is used.

    def do_HEAD(self):  # Tandem connects in advance.
        self.send_response(204)
        self.end_headers()

    def do_POST(self):
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            length = -1
        if not 0 <= length <= LONGEST_BODY:
            self.close_connection = True  # What follows is not read, so it must not be taken for a request.
            return self.answer(413, {"status": "error"})
        body = self.rfile.read(length)
        wrong = wrong_with(self.headers, body)
        if wrong:
            print(f"refused: {wrong}", file=sys.stderr, flush=True)
            return self.answer(401, {"status": "error"})
        try:
            request = json.loads(body)
            invocation = request["invocation_id"]
            request["function"], request["args"]
        except (ValueError, KeyError, TypeError):
            return self.answer(400, {"status": "error"})
        self.answer(*ANSWERS.of(invocation, lambda: carry_out(request)))

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--port", type=int, default=8080)
    port = options.parse_args().port
    if len(KEY) < 16:
        sys.exit("set TANDEM_TOOLS_KEY to 16 characters or more: openssl rand -hex 32")
    server = ThreadingHTTPServer(("127.0.0.1", port), Receiver)
    print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
