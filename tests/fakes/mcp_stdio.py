"""A small MCP server on standard input and output, without the SDK, which takes long to import.

It answers one request after the other. The server with all tools and on all transports is the one
in `mcp_tools`, which is made of the SDK.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_VERSION = "2026-07-28"
_INTEGERS = {"a": "integer", "b": "integer"}


class _Invalid(Exception):
    """The arguments of a call do not fit; the message is for the model."""


@dataclass(frozen=True)
class _Tool:
    run: Callable[..., str]
    parameters: Mapping[str, str]
    annotations: Mapping[str, bool]

    def described(self, name: str) -> dict[str, Any]:
        types = {parameter: {"type": kind} for parameter, kind in self.parameters.items()}
        schema = {"type": "object", "properties": types, "required": list(types)}
        return {
            "name": name,
            "description": self.run.__doc__,
            "inputSchema": schema,
            "annotations": dict(self.annotations),
        }

    def call(self, arguments: Mapping[str, Any]) -> str:
        if arguments.keys() != self.parameters.keys():
            raise _Invalid(f"no valid arguments: {sorted(arguments)}")
        return self.run(**arguments)


def serve(folder: Path, *, lists: bool) -> None:
    """Answer until standard input ends; without `lists`, requests for the tools stay open."""
    _Server(folder, lists=lists).run()


class _Server:
    def __init__(self, folder: Path, *, lists: bool) -> None:
        self._folder = folder
        self._lists = lists
        self._hanging: set[object] = set()
        self._tools = {
            "add": _Tool(self._add, _INTEGERS, {"readOnlyHint": True}),
            "store": _Tool(_store, {"value": "string"}, {"idempotentHint": True}),
            "fail": _Tool(_fail, {}, {}),
            "die": _Tool(self._die, {}, {}),
            "environment": _Tool(_environment, {}, {}),
            "where": _Tool(os.getcwd, {}, {}),
            "look": _Tool(_look, {"path": "string"}, {}),
            "fork": _Tool(_fork, {}, {}),
            "hang": _Tool(str, {}, {}),
        }

    def run(self) -> None:
        for line in sys.stdin.buffer:
            message = json.loads(line)
            params = message.get("params", {})
            if message["method"] == "notifications/cancelled":
                if params["requestId"] in self._hanging:
                    self._note("hang cancelled")
            elif "id" in message:
                self._answer(message["id"], message["method"], params)

    def _answer(self, request: object, method: str, params: Mapping[str, Any]) -> None:
        match method:
            case "server/discover":
                info = {"io.modelcontextprotocol/serverInfo": {"name": "fake", "version": "1.2"}}
                capabilities = {"tools": {"listChanged": True}}
                versions = {"supportedVersions": [_VERSION], "capabilities": capabilities}
                self._result(request, _meta=info, ttlMs=0, cacheScope="private", **versions)
            case "subscriptions/listen":
                meta = {"io.modelcontextprotocol/subscriptionId": request}
                subscribed = {"_meta": meta, "notifications": params["notifications"]}
                _send(method="notifications/subscriptions/acknowledged", params=subscribed)
            case "tools/list" if self._lists:
                tools = [tool.described(name) for name, tool in self._tools.items()]
                self._result(request, tools=tools, ttlMs=0, cacheScope="private")
            case "tools/list":
                pass
            case "tools/call" if params["name"] == "hang":
                self._note("hang begun")
                self._hanging.add(request)
                working = {"progress": 1, "total": 3, "message": "working"}
                token = params["_meta"]["progressToken"]
                _send(method="notifications/progress", params={"progressToken": token, **working})
            case "tools/call":
                text, is_error = self._called(params["name"], params.get("arguments") or {})
                content = [{"type": "text", "text": text}]
                self._result(request, content=content, isError=is_error)
            case _:
                error = {"code": -32601, "message": f"There is no method {method}."}
                _send(id=request, error=error)

    def _called(self, name: str, arguments: Mapping[str, Any]) -> tuple[str, bool]:
        try:
            return self._tools[name].call(arguments), False
        except _Invalid as invalid:
            return str(invalid), True

    def _result(self, request: object, **result: Any) -> None:
        _send(id=request, result={"resultType": "complete", **result})

    def _note(self, text: str) -> None:
        with (self._folder / "calls").open("a") as file:
            file.write(f"{text}\n")

    def _add(self, a: int, b: int) -> str:
        """Add two numbers."""
        self._note("add")
        return str(a + b)

    def _die(self) -> str:
        """End the process in the middle of the call."""
        self._note("die")
        os._exit(3)


def _send(**message: Any) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def _store(value: str) -> str:
    """Store a value."""
    return f"stored {value}"


def _fail() -> str:
    """An error."""
    raise _Invalid("out of paper")


def _environment() -> str:
    """The names and values of all variables."""
    return "\n".join(f"{name}={value}" for name, value in sorted(os.environ.items()))


def _look(path: str) -> str:
    """The text of a file, or why there is none."""
    try:
        return Path(path).read_text()
    except OSError as error:
        return os.strerror(error.errno or 0)


def _fork() -> str:
    """Leave a process behind; its id."""
    return str(subprocess.Popen(["sleep", "300"]).pid)
