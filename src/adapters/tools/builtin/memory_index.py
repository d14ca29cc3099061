"""A full-text index of the memory files of workspaces, in SQLite.

An index is derived: it is brought up to date before each search, and made anew where it is damaged.
It lies outside of the workspace, because SQLite is not meant to open a file that others have made.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Event

from ....domain.ports import Clock
from .tool import ToolFailed
from .workspace import Workspace

LARGEST_FILE = 1024 * 1024
"""Bytes of a memory file; longer ones are not searched."""
MOST_BYTES = 64 * 1024 * 1024
"""Bytes of all memory files of a workspace that are searched."""
MOST_FILES = 5_000
MOST_WORDS = 32
"""Words of a query."""
SECONDS = 20.0
"""For the index to be brought up to date, and for a query."""

IsOver = Callable[[], bool]

_ROOTS = ("MEMORY.md", "memory.md")
_FOLDER = "memory"
_DEEPEST = 16
_SECTION = 1_200
"""Characters of a section, unless its one line is longer."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_STEPS = 10_000
"""Of SQLite's virtual machine, between two looks at the time."""
_TICK = 2_000_000_000
"""Nanoseconds between two times of a file that differ, on any file system."""
_VERSION = 1
_SCHEMA = f"""
CREATE TABLE files (path TEXT PRIMARY KEY, version TEXT NOT NULL);
CREATE TABLE sections (id INTEGER PRIMARY KEY, path TEXT NOT NULL, first INTEGER, last INTEGER);
CREATE INDEX sections_by_path ON sections (path);
CREATE VIRTUAL TABLE texts USING fts5 (text, tokenize = 'porter unicode61 remove_diacritics 2');
PRAGMA user_version = {_VERSION};
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a file: its lines, counted from 1, and their text."""

    path: str
    first: int
    last: int
    text: str


@dataclass(frozen=True, slots=True)
class Found:
    """The best sections, and how many files were too long or too many to be searched."""

    sections: tuple[Section, ...]
    left_out: int


class MemoryIndex:
    """Searches the memory files of workspaces. `folder`: where the indexes are kept.

    The methods block. They may be called in several threads and processes at the same time: one
    after another uses the index of a workspace. `monotonic` measures time.
    """

    def __init__(self, folder: Path, monotonic: Clock = time.monotonic) -> None:
        self._folder = folder
        self._monotonic = monotonic

    def search(self, workspace: str, query: str, limit: int, stop: Event | None = None) -> Found:
        """The sections that contain any word of the query, the best first; without one, those that
        contain the query itself. `stop` ends the search. Raises ToolFailed, OSError."""
        limits = _Limits(self._monotonic, stop or Event())
        name = sha256(os.fsencode(os.path.realpath(workspace))).hexdigest()[:32]
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{name}.sqlite3"
        with _locked(self._folder / f"{name}.lock", limits.over()):
            try:
                return _search(path, workspace, query, limit, limits)
            except sqlite3.Error as error:
                if _is_interrupted(error):
                    raise _too_slow() from None
            for damaged in (path, path.with_name(f"{path.name}-journal")):
                damaged.unlink(missing_ok=True)
            try:
                return _search(path, workspace, query, limit, limits)
            except sqlite3.Error as error:
                if _is_interrupted(error):
                    raise _too_slow() from None
                raise ToolFailed(f"The index of the memory cannot be used: {error}.") from None


def sections_of(path: str, text: str) -> Iterator[Section]:
    """The text in sections: a heading begins one, and a blank line may end one."""
    lines: list[str] = []
    size, first = 0, 1
    for number, line in enumerate(text.splitlines(), 1):
        if lines and (line.startswith("#") or size + len(line) > _SECTION):
            yield from _section(path, first, lines)
            lines, size = [], 0
        if not lines:
            first = number
        while len(line) > _SECTION:
            yield Section(path, number, number, line[:_SECTION])
            line = line[_SECTION:]
        lines.append(line)
        size += len(line) + 1
        if not line.strip() and size > _SECTION // 2:
            yield from _section(path, first, lines)
            lines, size = [], 0
    yield from _section(path, first, lines)


def _section(path: str, first: int, lines: list[str]) -> Iterator[Section]:
    """The lines without blank ones around them; nothing where there is nothing else."""
    last = first + len(lines) - 1
    begin, end = 0, len(lines)
    while begin < end and not lines[begin].strip():
        begin += 1
    while end > begin and not lines[end - 1].strip():
        end -= 1
    if begin < end:
        last = first + end - 1
        yield Section(path, first + begin, last, "\n".join(lines[begin:end]))


@dataclass(frozen=True, slots=True)
class _Limits:
    """When a part of a search has to end."""

    monotonic: Clock
    stop: Event

    def over(self) -> IsOver:
        """Says from now on whether the time of a part is over."""
        deadline = self.monotonic() + SECONDS
        return lambda: self.stop.is_set() or self.monotonic() > deadline


def _search(path: Path, workspace: str, query: str, limit: int, limits: _Limits) -> Found:
    with closing(_opened(path)) as database:
        left_out = _update(database, workspace, limits.over())
        database.set_progress_handler(limits.over(), _STEPS)
        return Found(tuple(_matching(database, query, limit)), left_out)


def _opened(path: Path) -> sqlite3.Connection:
    # Made by us, so that nobody else can read it.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    database = sqlite3.connect(path, isolation_level=None)
    try:
        _prepare(database)
    except BaseException:
        database.close()
        raise
    return database


def _prepare(database: sqlite3.Connection) -> None:
    """Make the tables of a new index. Raises sqlite3.DatabaseError for one of another version."""
    # What is lost with the machine's power is indexed again, if SQLite finds it damaged.
    database.execute("PRAGMA synchronous = OFF")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version == 0:
        database.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
    elif version != _VERSION:
        raise sqlite3.DatabaseError(f"an index of version {version}")


def _update(database: sqlite3.Connection, workspace: str, is_over: IsOver) -> int:
    """Index what has changed; how many files are left out.

    Raises ToolFailed where that takes too long; the next search goes on from there.
    """
    known: Mapping[str, str] = dict(database.execute("SELECT path, version FROM files"))
    seen: set[str] = set()
    left_out, room, is_late = 0, MOST_BYTES, False
    database.execute("BEGIN IMMEDIATE")
    try:
        for path, name, directory in _memory_files(Workspace(workspace)):
            if is_late := is_over():
                break
            found = _stat(name, directory)
            if found is None:
                continue
            if found.st_size > min(LARGEST_FILE, room) or len(seen) == MOST_FILES:
                left_out += 1
                continue
            room -= found.st_size
            if known.get(path) != _version(found):
                content = _content(name, directory)
                if content is None:
                    continue
                _remove(database, path)
                _add(database, path, *content)
            seen.add(path)
        for path in () if is_late else known.keys() - seen:
            _remove(database, path)
    except BaseException:
        # A damaged file may leave no transaction to roll back.
        with suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
    if is_late:
        raise ToolFailed("The memory is large, and its index is not complete yet. Search again.")
    return left_out


def _memory_files(workspace: Workspace) -> Iterator[tuple[str, str, int]]:
    """The path of each memory file, its name, and the descriptor of its folder. Links are not
    followed, except the folder `memory` itself to a place in the workspace."""
    root = workspace.open_directory(".")
    try:
        names = set(os.listdir(root))
        yield from ((name, name, root) for name in _ROOTS if name in names)
    finally:
        os.close(root)
    try:
        folder = workspace.open_directory(_FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        for top, folders, files, directory in os.fwalk(".", dir_fd=folder):
            deep = top.count("/") >= _DEEPEST
            folders[:] = [] if deep else sorted(one for one in folders if _is_plain(one))
            for name in sorted(files):
                if name.endswith(".md") and _is_plain(name):
                    yield os.path.normpath(os.path.join(_FOLDER, top, name)), name, directory
    finally:
        os.close(folder)


def _is_plain(name: str) -> bool:
    """Whether the name is not hidden, and text that SQLite can hold."""
    with suppress(UnicodeEncodeError):
        return bool(name.encode()) and not name.startswith(".")
    return False


def _stat(name: str, directory: int) -> os.stat_result | None:
    """None for what is no regular file (any more)."""
    with suppress(FileNotFoundError):
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        return found if stat.S_ISREG(found.st_mode) else None
    return None


def _content(name: str, directory: int) -> tuple[str, str] | None:
    """The version and the text of a file; None where it cannot be read."""
    try:
        file = os.open(name, _READ, dir_fd=directory)
    except OSError:
        return None
    with open(file, "rb") as opened:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            return None
        version = _version(found)
        if time.time_ns() - found.st_mtime_ns < _TICK:
            version = ""  # It may be changed again without another time: read it the next time.
        return version, opened.read(LARGEST_FILE).decode("utf-8", "replace")


def _version(found: os.stat_result) -> str:
    """Another one whenever the file has been changed."""
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


def _remove(database: sqlite3.Connection, path: str) -> None:
    database.execute(
        "DELETE FROM texts WHERE rowid IN (SELECT id FROM sections WHERE path = ?)", (path,)
    )
    database.execute("DELETE FROM sections WHERE path = ?", (path,))
    database.execute("DELETE FROM files WHERE path = ?", (path,))


def _add(database: sqlite3.Connection, path: str, version: str, text: str) -> None:
    database.execute("INSERT INTO files VALUES (?, ?)", (path, version))
    insert = "INSERT INTO sections (path, first, last) VALUES (?, ?, ?)"
    for one in sections_of(path, text):
        number = database.execute(insert, (path, one.first, one.last)).lastrowid
        database.execute("INSERT INTO texts (rowid, text) VALUES (?, ?)", (number, one.text))


def _matching(database: sqlite3.Connection, query: str, limit: int) -> list[Section]:
    columns = "path, first, last, text FROM texts JOIN sections ON id = texts.rowid"
    order = "path DESC, first LIMIT ?"
    # In quotes, nothing in a word is an operator of FTS5.
    words = list(dict.fromkeys(re.findall(r"\w+", query.lower())))[:MOST_WORDS]
    rows: list[tuple[str, int, int, str]] = []
    if words:
        expression = " OR ".join(f'"{word}"' for word in words)
        select = f"SELECT {columns} WHERE texts MATCH ? ORDER BY rank, {order}"
        rows = database.execute(select, (expression, limit)).fetchall()
    if not rows and query.strip():
        # For languages that put no spaces between words, and for signs.
        literal = re.sub(r"([\\%_])", r"\\\1", query.strip())
        select = rf"SELECT {columns} WHERE text LIKE ? ESCAPE '\' ORDER BY {order}"
        rows = database.execute(select, (f"%{literal}%", limit)).fetchall()
    return [Section(*row) for row in rows]


@contextmanager
def _locked(path: Path, is_over: IsOver) -> Iterator[None]:
    """Hold the lock file; also against other threads of this process. Raises ToolFailed."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if is_over():
                    raise _too_slow() from None
                time.sleep(0.01)
            else:
                break
        yield
    finally:
        os.close(lock)


def _is_interrupted(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT


def _too_slow() -> ToolFailed:
    return ToolFailed(f"The search of the memory was ended after {SECONDS:g} seconds.")
