"""The folder of shared skills, outside of all workspaces: only `read` reaches it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.builtin.calls import Caller, caller

SECRET = "the secret outside"


@pytest.fixture
def files(tmp_path: Path) -> Caller:
    state = tmp_path / "state"
    skill = state / "skills" / "mail"
    (skill / "parts").mkdir(parents=True)
    (skill / "SKILL.md").write_text("one\ntwo")
    (skill / "parts" / "a.txt").write_text("a part")
    for outside in (state / "gateway-token", state / "skills-too", tmp_path / "secret"):
        outside.write_text(SECRET)
    (skill / "token").symlink_to("../../gateway-token")
    (skill / "state").symlink_to(state)
    (skill / "inside").symlink_to("parts/a.txt")
    one = caller(tmp_path, skills=str(state / "skills"))
    one.workspace.mkdir()
    return one


def in_state(files: Caller, path: str) -> str:
    return path.format(state=files.workspace.parent / "state")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("{state}/skills/mail/SKILL.md", "one\ntwo"),
        ("{state}/skills/mail/parts/a.txt", "a part"),
        ("{state}/skills/mail/parts/../SKILL.md", "one\ntwo"),
        ("{state}/skills/mail/inside", "a part"),
    ],
)
async def test_files_of_shared_skills_are_read(files: Caller, path: str, text: str) -> None:
    assert await files.text("read", path=in_state(files, path)) == text


async def test_lines_of_a_shared_skill(files: Caller) -> None:
    path = in_state(files, "{state}/skills/mail/SKILL.md")

    assert await files.text("read", path=path, offset=2) == "two"


@pytest.mark.parametrize(
    "path",
    [
        "{state}/gateway-token",
        "{state}/skills/../gateway-token",
        "{state}/skills/mail/../../gateway-token",
        "{state}/skills/mail/token",
        "{state}/skills/mail/state/gateway-token",
        "{state}/skills-too",
        "{state}/skills/../../secret",
        "{state}/skills//../gateway-token",
        "{state}/skills/" + "../" * 40 + "etc/passwd",
        "{state}/./skills/../gateway-token",
        "../state/gateway-token",
        "../state/skills/mail/SKILL.md",
        "skills/mail/SKILL.md",
        "{state}/skills",
        "{state}/skills/",
        "{state}/skills/mail",
    ],
)
async def test_nothing_else_of_the_state_directory_is_read(files: Caller, path: str) -> None:
    error = await files.error("read", path=in_state(files, path))

    assert SECRET not in error
    assert "root:" not in error


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("write", {"path": "{state}/skills/mail/SKILL.md", "content": "x"}),
        ("write", {"path": "{state}/skills/new/SKILL.md", "content": "x"}),
        ("edit", {"path": "{state}/skills/mail/SKILL.md", "oldText": "one", "newText": "x"}),
        ("list", {"path": "{state}/skills"}),
        ("search", {"pattern": "one", "path": "{state}/skills"}),
        ("exec", {"command": "ls", "workdir": "{state}/skills"}),
    ],
)
async def test_other_tools_do_not_reach_shared_skills(
    files: Caller, tool: str, arguments: dict[str, str]
) -> None:
    state = files.workspace.parent / "state"
    filled = {name: value.format(state=state) for name, value in arguments.items()}

    assert "leads out of the workspace" in await files.error(tool, **filled)
    assert (state / "skills" / "mail" / "SKILL.md").read_text() == "one\ntwo"
    assert not (state / "skills" / "new").exists()


async def test_without_a_folder_of_skills_no_absolute_path_is_read(files: Caller) -> None:
    plain = caller(files.workspace.parent)

    for path in ("{state}/skills/mail/SKILL.md", "/etc/passwd"):
        error = await plain.error("read", path=in_state(files, path))
        assert "leads out of the workspace" in error
