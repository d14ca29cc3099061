"""Reads what an agent is to know: files of its workspace, and skills."""

from __future__ import annotations

import asyncio
import errno
import heapq
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ...domain.concurrency import ThisTurn
from ...domain.knowledge import (
    KNOWLEDGE_FILES,
    NOTHING_KNOWN,
    InvalidSkill,
    Knowledge,
    KnownFile,
    Skill,
    is_skill_name,
    skill_of,
)
from ...domain.ports import Clock
from ...domain.text import escape_line
from .builtin import ToolFailed, Workspace

LARGEST_FILE = 1024 * 1024
"""Bytes of a file of the workspace."""
MOST_FOLDERS = 500
"""Folders of skills that are looked at."""
_FRONT_MATTER = 16 * 1024
"""Bytes of a `SKILL.md` that are read."""
_SKILLS, _SKILL = "skills", "SKILL.md"
_SPELLINGS = {"MEMORY.md": ("MEMORY.md", "memory.md")}
_SETTLED = 100_000_000
"""Nanoseconds after a change in which another one may get the same time from the file system."""

_Stamp = tuple[int, ...]


class WorkspaceKnowledge:
    """The KnowledgeSource on the file system.

    Each call looks, in a thread, whether a file or the set of skills has changed, and only then
    reads again. `skills`: the folder of the skills that all agents share. A skill of the workspace
    replaces a shared one of the same name. `clock` is Unix time.
    """

    def __init__(self, skills: str, *, clock: Clock = time.time) -> None:
        self._shared = skills
        self._clock = clock
        self._known: dict[tuple[str, bool], _Known] = {}
        self._empty: dict[str, _Stamp] = {}
        """The stamps of workspaces without any of the files. An entry that is added to a directory
        changes its stamp."""
        self._looked = ThisTurn()
        self._found_empty: set[str] = set()
        """The workspaces that were looked at in this turn, and have none of the files."""

    async def find(self, workspace: str, *, skills: bool) -> Knowledge:
        if not skills and self._is_empty(workspace):
            return NOTHING_KNOWN
        return await asyncio.to_thread(self.read, workspace, skills=skills)

    def _is_empty(self, workspace: str) -> bool:
        """Whether there is nothing to know, as far as that can be said without a thread: by one
        call of the system in each turn of the event loop."""
        if not self._looked.done:
            self._found_empty.clear()
        elif workspace in self._found_empty:
            return True
        stamp = _stamp_of(workspace)
        if len(stamp) > 1 and stamp != self._empty.get(workspace):
            return False
        self._found_empty.add(workspace)
        if not self._looked.done:
            self._looked.mark()
        return True

    def read(self, workspace: str, *, skills: bool) -> Knowledge:
        """The same as `find`, blocking."""
        now, directory = int(self._clock() * 1e9), _stamp_of(workspace)
        seen = self._seen(workspace, skills)
        if not seen.files and _is_settled(directory, now):
            self._empty[workspace] = directory
        known = self._known.get((workspace, skills))
        if known is not None and known.seen == seen and known.is_settled:
            return known.knowledge
        found = _read(seen)
        if known is not None and known.knowledge == found:
            found = known.knowledge
        self._known[workspace, skills] = _Known(seen, found, seen.is_settled(now))
        return found

    def _seen(self, workspace: str, skills: bool) -> _Seen:
        files = []
        for name in KNOWLEDGE_FILES if workspace else ():
            spellings = (_File(workspace, one, name) for one in _SPELLINGS.get(name, (name,)))
            files += [file for file in spellings if file.is_there()][:1]
        found: list[_File] = []
        problems: list[str] = []
        if skills:
            for root, folder in ((workspace, _SKILLS), (self._shared, ".")):
                names, wrong = _folders(root, folder) if root else ([], [])
                prefix = "" if root == workspace else f"{root}/"
                for name in names:
                    path = os.path.normpath(f"{folder}/{name}/{_SKILL}")
                    found.append(_File(root, path, f"{prefix}{path}"))
                problems += wrong
        present = [skill for skill in found if skill.is_there()]
        stamps = tuple(file.stamp() for file in (*files, *present))
        return _Seen(tuple(files), tuple(present), tuple(problems), stamps)


@dataclass(frozen=True, slots=True)
class _File:
    """A file `path` below `root`. `name`: what the prompt calls it."""

    root: str
    path: str
    name: str

    def is_there(self) -> bool:
        """Whether there is something of that name, also if it cannot be used."""
        try:
            os.lstat(os.path.join(self.root, self.path))
        except OSError as error:
            return error.errno not in (errno.ENOENT, errno.ENOTDIR)
        return True

    def stamp(self) -> _Stamp:
        return _stamp_of(os.path.join(self.root, self.path))

    def text(self, length: int, *, is_part: bool = False) -> str:
        """The text, or with `is_part` its beginning. Raises _Unusable."""
        try:
            with (
                Workspace(self.root).file(self.path) as opened,
                open(opened, "rb", closefd=False) as file,
            ):
                data = file.read(length + 1)
            if len(data) > length and not is_part:
                raise _Unusable(f"is longer than {length} bytes")
            text = data[:length].decode("utf-8", "ignore" if is_part else "strict")
        except UnicodeDecodeError:
            raise _Unusable("is not valid UTF-8 text") from None
        except ToolFailed:
            raise _Unusable("is not a regular file, or a link that leads out") from None
        except OSError as error:
            raise _Unusable(f"cannot be read: {(error.strerror or '').lower()}") from None
        if "\0" in text:
            raise _Unusable("is not a text file")
        return text


def _stamp_of(path: str) -> _Stamp:
    """What differs after a change; the number of the error where there is none."""
    try:
        found = os.stat(path)
    except OSError as error:
        return (error.errno or 0,)
    return found.st_ctime_ns, found.st_mtime_ns, found.st_dev, found.st_ino, found.st_size


def _is_settled(stamp: _Stamp, now: int) -> bool:
    """Whether every later change makes another stamp. `now`: a time before the stamp was made."""
    return now - stamp[0] > _SETTLED


class _Unusable(Exception):
    """A file cannot be used; the message says why, as a predicate."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """The files that are there, without their content."""

    files: tuple[_File, ...]
    skills: tuple[_File, ...]
    problems: tuple[str, ...]
    stamps: tuple[_Stamp, ...]

    def is_settled(self, now: int) -> bool:
        return all(_is_settled(stamp, now) for stamp in self.stamps)


@dataclass(frozen=True, slots=True)
class _Known:
    seen: _Seen
    knowledge: Knowledge
    is_settled: bool


def _read(seen: _Seen) -> Knowledge:
    files, problems = [], list(seen.problems)
    skills: dict[str, tuple[str, Skill]] = {}
    for file in seen.files:
        try:
            text = file.text(LARGEST_FILE).removeprefix("\ufeff").strip()
        except _Unusable as error:
            problems.append(_left_out(file.name, str(error)))
            continue
        if text:
            files.append(KnownFile(file.name, text))
    for file in seen.skills:
        folder = os.path.basename(os.path.dirname(file.path))
        try:
            text = file.text(_FRONT_MATTER, is_part=True)
            skill = skill_of(text, folder=folder, path=file.name)
        except (_Unusable, InvalidSkill) as error:
            problems.append(_left_out(file.name, str(error)))
            continue
        root, first = skills.setdefault(skill.name.casefold(), (file.root, skill))
        if root == file.root and first is not skill:
            problems.append(_left_out(file.name, f"has the name of {first.path}"))
    ordered = tuple(skill for _, (_, skill) in sorted(skills.items()))
    return Knowledge(tuple(files), ordered, tuple(problems))


def _folders(root: str, folder: str) -> tuple[list[str], Sequence[str]]:
    """The names of the folders in which skills may be, and problems."""
    shown = folder if folder != "." else root
    try:
        directory = Workspace(root).open_directory(folder)
        try:
            with os.scandir(directory) as entries:
                names = (entry.name for entry in entries if not entry.name.startswith("."))
                found = heapq.nsmallest(MOST_FOLDERS + 1, names)
        finally:
            os.close(directory)
    except FileNotFoundError:
        return [], ()
    except ToolFailed:
        return [], [_left_out(shown, "is not a folder, or a link that leads out")]
    except OSError as error:
        return [], [_left_out(shown, f"cannot be read: {(error.strerror or '').lower()}")]
    problems = []
    if len(found) > MOST_FOLDERS:
        problems.append(f"{shown} has more than {MOST_FOLDERS} entries; the others are left out.")
    names_of_skills = []
    for name in found[:MOST_FOLDERS]:
        if is_skill_name(name):
            names_of_skills.append(name)
        elif os.path.lexists(os.path.join(root, folder, name, _SKILL)):
            problems.append(
                _left_out(
                    f"{shown}/{escape_line(name)}",
                    "has a name with other characters than letters, digits and `_ .-`",
                )
            )
    return names_of_skills, problems


def _left_out(name: str, why: str) -> str:
    return f"{escape_line(name)} {why}; it is left out."
