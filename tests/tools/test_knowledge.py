"""What an agent is to know, read from the file system."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from opensoul.adapters.tools import WorkspaceKnowledge
from opensoul.domain.knowledge import Knowledge, KnownFile, Skill

LONG_AGO = 1_000_000_000


class Place:
    """A workspace, the shared skills, and a secret beside them."""

    def __init__(self, path: Path) -> None:
        self.workspace = path / "workspace"
        self.shared = path / "state" / "skills"
        self.secret = path / "secret.md"
        self.secret.write_text("---\ndescription: secret\n---")
        self.source = WorkspaceKnowledge(str(self.shared))

    def write(self, name: str, text: str) -> Path:
        path = self.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def skill(self, name: str, description: str, *, shared: bool = False) -> None:
        folder = (self.shared if shared else self.workspace / "skills") / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "SKILL.md").write_text(f"---\ndescription: {description}\n---\nDo it.")

    async def find(self, *, skills: bool = False) -> Knowledge:
        return await self.source.find(str(self.workspace), skills=skills)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_the_files_are_found_in_their_order(place: Place) -> None:
    for name in ("MEMORY", "TOOLS", "USER", "IDENTITY", "SOUL", "AGENTS", "HEARTBEAT", "README"):
        place.write(f"{name}.md", f"\ufeff  {name}\n")

    found = await place.find()
    assert found == Knowledge(
        tuple(
            KnownFile(f"{name}.md", name)
            for name in ("AGENTS", "SOUL", "IDENTITY", "USER", "TOOLS", "MEMORY")
        )
    )


async def test_nothing_is_known_where_nothing_is_and_nothing_is_made(
    place: Place, tmp_path: Path
) -> None:
    assert await place.find() == await place.find(skills=True) == Knowledge()
    assert await place.source.find("", skills=True) == Knowledge()
    assert os.listdir(tmp_path) == ["secret.md"]


@pytest.mark.parametrize("text", ["", " \n\t\n"])
async def test_an_empty_file_counts_as_missing(place: Place, text: str) -> None:
    place.write("SOUL.md", text)

    assert await place.find() == Knowledge()


async def test_the_second_spelling_of_the_memory_counts_where_the_first_is_missing(
    place: Place,
) -> None:
    place.write("memory.md", "second")
    assert (await place.find()).files == (KnownFile("MEMORY.md", "second"),)
    place.write("MEMORY.md", "first")
    assert (await place.find()).files == (KnownFile("MEMORY.md", "first"),)


async def test_each_change_of_a_file_is_found_at_once(place: Place) -> None:
    texts = [f"text {number}" for number in range(50)]
    found = []
    for text in texts:
        place.write("AGENTS.md", text)  # The same size, and often the same time.
        found.append((await place.find()).files[0].text)
    (place.workspace / "AGENTS.md").unlink()

    assert found == texts
    assert await place.find() == Knowledge()


async def test_a_file_that_appears_in_an_empty_workspace_is_found(place: Place) -> None:
    place.workspace.mkdir()
    assert await place.find() == Knowledge()
    place.write("AGENTS.md", "new")
    assert (await place.find()).files == (KnownFile("AGENTS.md", "new"),)


def at_once(place: Place) -> Knowledge:
    """What is found without suspending."""
    finding = place.find()
    try:
        finding.send(None)
    except StopIteration as end:
        found: Knowledge = end.value
        return found
    finally:
        finding.close()
    raise AssertionError("find has suspended")


async def test_a_workspace_without_any_of_the_files_costs_no_thread(place: Place) -> None:
    place.source = WorkspaceKnowledge(str(place.shared), clock=lambda: time.time() + 3_600)
    assert at_once(place) == Knowledge()
    place.write("notes.txt", "x")
    assert await place.find() == Knowledge()
    assert at_once(place) == Knowledge()

    place.write("AGENTS.md", "new")
    os.utime(place.workspace, (LONG_AGO, LONG_AGO))  # Certainly another stamp.
    await asyncio.sleep(0)  # It is known in the next turn of the event loop.
    assert (await place.find()).files == (KnownFile("AGENTS.md", "new"),)


async def test_the_same_object_is_returned_until_something_changes(place: Place) -> None:
    place.write("AGENTS.md", "one")
    place.skill("pdf", "Reads.")
    first = await place.find(skills=True)
    (place.workspace / "AGENTS.md").touch()
    again = await place.find(skills=True)
    place.skill("pdf", "Reads well.")
    changed = await place.find(skills=True)

    assert again is first
    assert changed.skills == (Skill("pdf", "Reads well.", "skills/pdf/SKILL.md"),)


async def test_a_skill_of_the_workspace_replaces_a_shared_one(place: Place) -> None:
    place.skill("zip", "Packs.")
    place.skill("pdf", "Mine.")
    place.skill("PDF", "Shared.", shared=True)
    place.skill("mail", "Sends.", shared=True)

    assert await place.find(skills=True) == Knowledge(
        skills=(
            Skill("mail", "Sends.", f"{place.shared}/mail/SKILL.md"),
            Skill("pdf", "Mine.", "skills/pdf/SKILL.md"),
            Skill("zip", "Packs.", "skills/zip/SKILL.md"),
        )
    )
    assert (await place.find()).skills == ()


async def test_skills_are_found_without_a_workspace(place: Place) -> None:
    place.skill("mail", "Sends.", shared=True)

    assert [skill.name for skill in (await place.find(skills=True)).skills] == ["mail"]


async def test_other_entries_beside_the_skills_are_no_problem(place: Place) -> None:
    place.write("skills/README.md", "About the skills.")
    place.write("skills/.git/SKILL.md", "x")
    place.write("skills/half done!/notes.md", "x")
    (place.workspace / "skills" / "empty").mkdir()

    assert await place.find(skills=True) == Knowledge()


async def test_a_link_within_the_workspace_is_followed(place: Place) -> None:
    place.write("docs/rules.md", "Be kind.")
    (place.workspace / "AGENTS.md").symlink_to("docs/rules.md")

    assert await place.find() == Knowledge((KnownFile("AGENTS.md", "Be kind."),))


def link(place: Place, name: str, target: str = "") -> None:
    path = place.workspace / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target or place.secret)


def a_fifo(place: Place) -> None:
    place.workspace.mkdir()
    os.mkfifo(place.workspace / "AGENTS.md")


def skills_elsewhere(place: Place) -> None:
    place.workspace.mkdir()
    folder = place.secret.with_name("elsewhere")
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "SKILL.md").write_text("---\ndescription: secret\n---")
    (place.workspace / "skills").symlink_to(folder)


OUTSIDE = "is not a regular file, or a link that leads out"


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda place: link(place, "AGENTS.md"), f"AGENTS.md {OUTSIDE}"),
        (a_fifo, f"AGENTS.md {OUTSIDE}"),
        (lambda place: (place.workspace / "SOUL.md").mkdir(parents=True), f"SOUL.md {OUTSIDE}"),
        (
            lambda place: place.write("USER.md", "").write_bytes(b"\xff\xfe"),
            "USER.md is not valid UTF-8 text",
        ),
        (lambda place: place.write("USER.md", "a\0b"), "USER.md is not a text file"),
        (
            lambda place: place.write("USER.md", "x" * (1024 * 1024 + 1)),
            "USER.md is longer than 1048576 bytes",
        ),
        (
            lambda place: link(place, "AGENTS.md", "missing.md"),
            "AGENTS.md cannot be read: no such file or directory",
        ),
        (
            lambda place: link(place, "AGENTS.md", "AGENTS.md"),
            "AGENTS.md cannot be read: too many levels of symbolic links",
        ),
        (
            lambda place: place.write("skills", "a file"),
            "skills cannot be read: not a directory",
        ),
        (lambda place: link(place, "skills/a/SKILL.md"), f"skills/a/SKILL.md {OUTSIDE}"),
        (skills_elsewhere, "skills is not a folder, or a link that leads out"),
        (
            lambda place: place.write("skills/a/SKILL.md", "# A"),
            "skills/a/SKILL.md has no front matter: its first line is not `---`",
        ),
        (
            lambda place: place.write("skills/a\n# b/SKILL.md", "# A"),
            r"skills/a\x0a# b has a name with other characters than letters, digits and `_ .-`",
        ),
    ],
)
async def test_what_cannot_be_used_is_named_and_left_out(
    place: Place, make: Callable[[Place], object], problem: str
) -> None:
    make(place)
    place.write("TOOLS.md", "Good.")
    expected = Knowledge((KnownFile("TOOLS.md", "Good."),), (), (f"{problem}; it is left out.",))

    assert await place.find(skills=True) == expected
    assert await place.find(skills=True) == expected


async def test_of_very_many_skills_the_first_ones_are_looked_at(place: Place) -> None:
    for number in range(502):
        place.skill(f"s{number:03}", "d", shared=True)

    found = await place.find(skills=True)
    assert [skill.name for skill in found.skills] == [f"s{number:03}" for number in range(500)]
    (problem,) = found.problems
    assert problem == f"{place.shared} has more than 500 entries; the others are left out."


async def test_a_long_body_of_a_skill_is_not_read(place: Place) -> None:
    place.skill("a", "d")
    path = place.workspace / "skills" / "a" / "SKILL.md"
    path.write_bytes(path.read_bytes() + "ü".encode() * 100_000 + b"\xff")

    assert [skill.name for skill in (await place.find(skills=True)).skills] == ["a"]


async def test_a_workspace_that_is_no_directory_is_no_obstacle(place: Place) -> None:
    place.workspace.write_text("a file")

    assert await place.find() == Knowledge()


async def test_two_skills_of_one_name_in_one_place_are_a_problem(place: Place) -> None:
    place.write("skills/a/SKILL.md", "---\nname: mail\ndescription: A.\n---")
    place.write("skills/b/SKILL.md", "---\nname: Mail\ndescription: B.\n---")

    found = await place.find(skills=True)
    assert found.skills == (Skill("mail", "A.", "skills/a/SKILL.md"),)
    assert found.problems == (
        "skills/b/SKILL.md has the name of skills/a/SKILL.md; it is left out.",
    )


async def test_a_link_that_leads_out_is_found_also_where_it_replaces_a_file(place: Place) -> None:
    path = place.write("AGENTS.md", "Be kind.")
    os.utime(path, (LONG_AGO, LONG_AGO))
    assert (await place.find()).files
    path.unlink()
    path.symlink_to(place.secret)

    found = await place.find()
    assert found.files == ()
    assert found.problems == (f"AGENTS.md {OUTSIDE}; it is left out.",)
