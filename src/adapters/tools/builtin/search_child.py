"""The program that searches files for a regular expression.

A file of its own that imports the standard library only: it is run by its path. Standard input is a
line of JSON, `{"directory" or "file": a descriptor, "prefix", "pattern", "glob", "most", "longest",
"largest", "seconds"}`. Standard output is `{"lines", "more", "skipped"}`, or `{"invalid"}`, the
reason.
"""

from __future__ import annotations

import json
import os
import re
import resource
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Any

_SKIPPED_FOLDERS = frozenset({".git", "node_modules", "__pycache__", ".venv"})
_DEEPEST = 100
"""Folders. Each is an open file while those in it are searched."""
_MEMORY = 2 * 1024**3
Matches = Callable[[str], object]
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def main() -> None:
    request = json.loads(sys.stdin.buffer.readline())
    limit = int(request["seconds"]) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))  # Also without the Gateway.
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    try:
        pattern, matches = re.compile(request["pattern"]), matcher(request["glob"])
    except (re.error, OverflowError, RecursionError) as error:
        answer: dict[str, object] = {"invalid": str(error)}
    else:
        answer = search(request, pattern, matches)
    sys.stdout.write(json.dumps(answer))


def search(
    request: dict[str, Any], pattern: re.Pattern[str], matches: Matches
) -> dict[str, object]:
    lines: list[str] = []
    skipped = 0
    for name, file in _files(request, matches):
        with open(file, "rb") as opened:
            data = opened.read(request["largest"] + 1)
        if len(data) > request["largest"]:
            skipped += 1
            continue
        if b"\0" in data[:8_192]:
            continue
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
            if pattern.search(line):
                if len(lines) == request["most"]:
                    return {"lines": lines, "more": True, "skipped": skipped}
                cut = line[: request["longest"]]
                lines.append(f"{name}:{number}: {cut}{'...' if cut != line else ''}")
    return {"lines": lines, "more": False, "skipped": skipped}


def _files(request: dict[str, Any], matches: Matches) -> Iterator[tuple[str, int]]:
    """The names and descriptors of the files to search; without those that cannot be opened."""
    if "file" in request:
        yield request["prefix"], request["file"]
        return
    # fwalk opens each folder relative to the one above, and compares it with what it listed: it
    # follows no links, also if a folder becomes one meanwhile.
    for top, folders, names, directory in os.fwalk(".", dir_fd=request["directory"]):
        deep = top.count("/") >= _DEEPEST
        folders[:] = [] if deep else sorted(set(folders) - _SKIPPED_FOLDERS)
        for name in sorted(names):
            path = os.path.normpath(os.path.join(top, name))
            if not matches(path):
                continue
            try:
                file = os.open(name, _OPEN, dir_fd=directory)
            except OSError:
                continue
            if stat.S_ISREG(os.fstat(file).st_mode):
                yield os.path.normpath(os.path.join(request["prefix"], path)), file
            else:
                os.close(file)


def matcher(glob: str) -> Matches:
    """Whether a path matches. `*` stays within a name, `**/` is any number of folders, and a glob
    without a slash is one of the file's name."""
    if not glob:
        return lambda path: True
    pattern = re.compile("".join(map(_translated, re.findall(r"\*\*/|\[[^]/]+\]|.", glob, re.S))))
    if "/" not in glob:
        return lambda path: pattern.fullmatch(os.path.basename(path))
    return pattern.fullmatch


def _translated(piece: str) -> str:
    if len(piece) > 1:
        if piece == "**/":
            return r"(?:[^/]+/)*"
        inner = piece[1:-1].replace("\\", r"\\").replace("[", r"\[")
        return f"[{'^' + inner[1:] if inner[0] in '!^' else inner}]"
    return {"*": "[^/]*", "?": "[^/]"}.get(piece, re.escape(piece))


if __name__ == "__main__":
    main()
