"""An MCP server for tests: `python -m tests.fakes.mcp_server FOLDER [OPTIONS]`.

It writes its process id to FOLDER/pid, a line to FOLDER/starts at each start, and one to
FOLDER/calls for each call. With `--port` it serves streamable HTTP (`--sse`: the older transport)
on loopback, otherwise its standard output; then the server is a small one, unless `--sdk` asks for
that of the SDK.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from tests.fakes.mcp_stdio import serve


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int)
    parser.add_argument("--sse", action="store_true")
    parser.add_argument("--sdk", action="store_true", help="serve stdio with the SDK, too")
    parser.add_argument("--hang", action="store_true", help="never answer anything")
    parser.add_argument("--hang-list", action="store_true", help="never list the tools")
    parser.add_argument("--broken", action="store_true", help="list tools that cannot be used")
    parser.add_argument("--fail", action="store_true", help="end with an error")
    parser.add_argument("--stubborn", action="store_true", help="go on without standard input")
    options = parser.parse_args()
    (options.folder / "pid").write_text(str(os.getpid()))
    with (options.folder / "starts").open("a") as file:
        file.write("start\n")
    if options.fail:
        sys.exit(f"no licence for {os.environ.get('API_KEY', 'nobody')}")
    if options.hang:
        time.sleep(600)
    if options.port is None and not (options.sdk or options.broken):
        serve(options.folder, lists=not options.hang_list)
    else:
        _serve_with_sdk(options)
    if options.stubborn:
        time.sleep(600)


def _serve_with_sdk(options: argparse.Namespace) -> None:
    from tests.fakes.mcp_tools import server  # It takes a second to import.

    made = server(options.folder, breaks=options.broken)
    if options.port is None:
        made.run("stdio")
    elif options.sse:
        made.run("sse", host="127.0.0.1", port=options.port)
    else:
        made.run("streamable-http", host="127.0.0.1", port=options.port)


if __name__ == "__main__":
    main()
