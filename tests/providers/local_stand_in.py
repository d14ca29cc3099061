"""A child program that needs no model: it keeps the protocol of `local_child`, or breaks it.

    python local_stand_in.py MODE DIARY

MODE says how it behaves at its start, the words of a message how it behaves in a call. Each
start adds its process id to the file DIARY.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FOREVER = 60.0
"""Seconds after which a forgotten stand-in is gone in any case."""


class Answering(BaseHTTPRequestHandler):
    key = ""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {self.key}":
            self.send_error(401)
            return
        words = body["messages"][-1]["content"]
        if words == "refuse me":
            self.send_error(400)
            return
        if words == "die":
            crash()
        if words == "hang up":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.say({"delta": {"content": f"{os.getpid()} "}})
        if words == "die halfway":
            crash()
        self.say({"delta": {"content": json.dumps(body)}})
        self.say({"delta": {}, "finish_reason": "stop"})
        self.wfile.write(b"data: [DONE]\n\n")

    def say(self, choice: dict[str, Any]) -> None:
        chunk = {"choices": [{"index": 0, **choice}]}
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        print(format % args, file=sys.stderr)


def crash() -> None:
    """End as native code does; the signal may take another thread, so this one waits for it."""
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(FOREVER)


def leave_at_end() -> None:
    sys.stdin.read()
    os._exit(0)


def main(mode: str, diary: Path) -> None:
    with diary.open("a") as book:
        book.write(f"{os.getpid()}\n")
    if mode == "dies at once":
        sys.exit("no floor under my feet")
    if mode == "dies strangely":
        os.kill(os.getpid(), 40)  # A signal without a name.
        time.sleep(FOREVER)
    settings = json.loads(sys.stdin.readline())
    if mode == "refuses":
        print(json.dumps({"failed": f"No model in {settings['file']}."}), flush=True)
        sys.exit(1)
    if mode == "babbles":
        print(json.dumps({"hello": "?"}), flush=True)
        leave_at_end()
    if mode == "is silent":
        leave_at_end()
    if mode == "talks a lot":
        print("x" * 1_000_000, file=sys.stderr, flush=True)
    Answering.key = settings["apiKey"]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    address = f"http://127.0.0.1:{server.server_port}"
    ready = {"address": address, "context": settings["context"], "slots": 2}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps(ready), flush=True)
    if mode == "stays":
        time.sleep(FOREVER)
    leave_at_end()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
