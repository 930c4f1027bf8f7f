"""An MCP server that misbehaves, with nothing but Python's standard library.

    odd_server.py MODE           over standard input and output
    odd_server.py MODE PORT      over streamable HTTP at http://127.0.0.1:PORT/mcp

What it gets is written to the file JOURNAL, one line each.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODE = sys.argv[1]
PORT = int(sys.argv[2]) if len(sys.argv) > 2 else None
ANY = {"type": "object"}


def journal(line: str) -> None:
    if path := os.environ.get("JOURNAL"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def tools(cursor: str | None) -> dict:
    if MODE == "endless-list":
        page = int(cursor or 0)
        names = [f"tool_{page * 50 + number}" for number in range(50)]
        listed = [{"name": name, "inputSchema": ANY} for name in names]
        return {"tools": listed, "nextCursor": str(page + 1)}
    if MODE == "odd-list":
        deep: dict = {"type": "string"}
        for _ in range(40):
            deep = {"type": "object", "properties": {"x": deep}}
        return {
            "tools": [
                {"name": "good", "description": "d" * 5000, "inputSchema": ANY},
                {"name": "large", "inputSchema": {"type": "object", "description": "x" * 40_000}},
                {"name": "deep", "inputSchema": deep},
                {"name": "no.object", "inputSchema": {"type": "array"}},
                {"name": "wrong", "inputSchema": {"type": "object", "properties": {"a": {"type": 5}}}},
                {"name": "go\u0000od", "inputSchema": ANY},
                {"name": "go_od", "inputSchema": ANY},
                {"name": "...", "inputSchema": ANY},
                {"name": "end_call", "inputSchema": ANY},
                {"name": "pbx.hold", "inputSchema": ANY},
                {"name": "pause recording", "inputSchema": ANY},
                {"name": "2nd", "title": "The second", "inputSchema": ANY},
            ]
        }
    return {"tools": [{"name": "do", "description": "Does it.", "inputSchema": ANY}]}


def answer(message: dict) -> dict | None:
    """The answer to `message`, or nothing."""
    method, params = message.get("method"), message.get("params") or {}
    if method in ("tools/call", "notifications/cancelled"):
        journal(method)
    if "id" not in message:
        return None

    def result(value: dict) -> dict:
        return {"jsonrpc": "2.0", "id": message["id"], "result": value}

    if method == "server/discover" and MODE == "newest-only":
        journal(method)
        versions, info = ["2026-07-28"], {"name": "odd", "version": "0"}
        known = {"supportedVersions": versions, "capabilities": {"tools": {}}, "serverInfo": info}
        return result({"resultType": "complete", "ttlMs": 0, "cacheScope": "private", **known})
    if method == "initialize" and MODE != "newest-only":
        info = {"name": "odd", "version": "0"}
        version = params.get("protocolVersion")
        return result({"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info})
    if method == "tools/list":
        return result(tools(params.get("cursor")))
    if method != "tools/call":
        return {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "Method not found"}}
    if MODE == "hang":
        return None
    if MODE == "error":
        return {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32602, "message": "no\nway"}}
    if MODE == "wrong-shape":
        return result({"tools": "none", "content": 5})
    if MODE == "large-answer":
        return result({"content": [{"type": "text", "text": "x" * 100_000}]})
    if MODE == "huge-answer":
        return result({"content": [{"type": "text", "text": "x" * (7 << 20)}]})
    if MODE == "wants-input":
        return result({"resultType": "input_required", "requestState": "s"})
    return result({"content": [{"type": "text", "text": "done"}]})


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def stdio() -> None:
    if MODE == "crash":
        print("no licence found", file=sys.stderr)
        sys.exit(3)
    if MODE == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        journal(f"child {subprocess.Popen(['sleep', '1000'], stdin=subprocess.DEVNULL).pid}")
    if MODE == "polite":
        signal.signal(signal.SIGTERM, lambda *_: (journal("terminated"), os._exit(0)))
    if MODE == "noisy":
        print(("complaint " * 1000 + "\n") * 2000, file=sys.stderr)
    for line in sys.stdin:
        if MODE == "silent":
            continue
        if MODE == "stall" and '"tools/call"' in line:
            time.sleep(1000)
        message = json.loads(line)
        if message.get("method") == "tools/call":
            if MODE == "die":
                journal("tools/call")
                write('{"jsonrpc":"2.0","id":')
                os._exit(7)
            if MODE == "babble":
                write('hello\n{"jsonrpc":\n\n[]\n{"jsonrpc":"2.0","id":"unknown","result":{}}\n\xff\n')
        if reply := answer(message):
            write(json.dumps(reply) + "\n")
    while MODE in ("stubborn", "polite"):
        time.sleep(1)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        journal(f"GET {self.path}")
        self.reply(405, b"")

    def do_POST(self) -> None:
        journal(f"POST {self.path} {self.headers.get('authorization')} {self.headers.get('x-tenant')}")
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        call = message.get("method") == "tools/call"
        if MODE == "unauthorized":
            return self.reply(401, b"{}")
        if MODE == "redirect":
            return self.reply(307, b"", Location="/elsewhere")
        if MODE == "page":
            return self.reply(200, b"<h1>It works!</h1>", "text/html")
        if MODE == "500" and call:
            return self.reply(500, b"oh")
        if MODE == "drop" and call:
            return self.connection.shutdown(socket.SHUT_RDWR)
        reply = answer(message)
        if reply is None and call:
            time.sleep(600)
        if reply is None:
            return self.reply(202, b"")
        if MODE == "garbage" and call:
            return self.reply(200, b'{"jsonrpc":')
        self.reply(200, json.dumps(reply).encode())


journal(f"started {os.getpid()}")
if PORT is None:
    stdio()
else:
    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
