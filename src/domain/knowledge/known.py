"""What was found in a workspace."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file of the workspace with its text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Skill:
    """Instructions for a kind of task, which an agent reads when it needs them. `path`: as the tool
    `read` takes it."""

    name: str
    description: str
    path: str


@dataclass(frozen=True, slots=True)
class Knowledge:
    """The files and skills that an agent is to know. `problems`: a sentence for each one that is
    left out because it cannot be used."""

    files: tuple[KnownFile, ...] = ()
    skills: tuple[Skill, ...] = ()
    problems: tuple[str, ...] = ()


NOTHING_KNOWN = Knowledge()
