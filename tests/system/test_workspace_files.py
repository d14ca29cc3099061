"""Files in workspaces: whole, private, and never anywhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from opensoul.adapters.system.files.workspaces import WorkspaceFiles
from opensoul.domain.errors import InvalidRequest
from opensoul.domain.ports.workspaces import MAX_FILE_BYTES, WorkspaceFailed, Workspaces

NAME = "MEMORY.md"


@pytest.fixture
def workspace(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "workspace-a")


@pytest.fixture
def files(tmp_path: Path) -> Workspaces:
    return WorkspaceFiles(tmp_path / "state", lambda: 0.0)


def test_a_workspace_is_made_once_for_its_owner(files: Workspaces, workspace: str) -> None:
    assert files.ensure(workspace)
    assert not files.ensure(workspace)
    assert os.stat(workspace).st_mode & 0o777 == 0o700


def test_nothing_is_found_where_nothing_is(files: Workspaces, workspace: str) -> None:
    assert files.find(workspace, NAME) is None
    assert files.read(workspace, NAME) is None
    files.ensure(workspace)
    assert files.find(workspace, NAME) is None
    assert files.read(workspace, NAME) is None


def test_what_was_written_is_read_and_nothing_else_is_left(
    files: Workspaces, workspace: str
) -> None:
    for text in ("first", "", "ä" * 1_000):
        written = files.write(workspace, NAME, text)
        assert files.read(workspace, NAME) == (written, text)
        assert files.find(workspace, NAME) == written
    assert os.listdir(workspace) == [NAME]
    assert os.stat(f"{workspace}/{NAME}").st_mode & 0o777 == 0o600


def test_a_text_that_is_too_long_or_none_is_refused(files: Workspaces, workspace: str) -> None:
    files.write(workspace, NAME, "x" * MAX_FILE_BYTES)
    with pytest.raises(InvalidRequest, match="would be longer"):
        files.write(workspace, NAME, "x" * (MAX_FILE_BYTES + 1))
    with pytest.raises(InvalidRequest, match="surrogate"):
        files.write(workspace, NAME, "\ud83d")
    file = Path(workspace, NAME)
    file.write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    with pytest.raises(InvalidRequest, match="longer than"):
        files.read(workspace, NAME)
    file.write_bytes(b"\xff")
    with pytest.raises(InvalidRequest, match="UTF-8"):
        files.read(workspace, NAME)


@pytest.mark.parametrize("name", ["../x", "other.md", "", "MEMORY.md/"])
def test_other_names_are_an_error(files: Workspaces, workspace: str, name: str) -> None:
    for use in (files.find, files.read):
        with pytest.raises(ValueError, match="not a file of a workspace"):
            use(workspace, name)
    with pytest.raises(ValueError, match="not a file of a workspace"):
        files.write(workspace, name, "x")


def test_links_pipes_and_directories_are_left_alone(
    files: Workspaces, workspace: str, tmp_path: Path
) -> None:
    (tmp_path / "outside").write_text("outside")
    files.ensure(workspace)
    os.symlink(tmp_path / "outside", f"{workspace}/SOUL.md")
    os.mkfifo(f"{workspace}/USER.md")
    os.mkdir(f"{workspace}/TOOLS.md")
    for name in ("SOUL.md", "USER.md", "TOOLS.md"):
        for use in (files.find, files.read):
            with pytest.raises(InvalidRequest, match=f"{name} is not a regular file"):
                use(workspace, name)
        with pytest.raises(InvalidRequest, match="not a regular file"):
            files.write(workspace, name, "x")
    assert (tmp_path / "outside").read_text() == "outside"


def test_what_the_system_refuses_is_told_in_a_sentence(files: Workspaces, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceFailed, match="cannot be used: not a directory"):
        files.ensure(str(tmp_path / "file" / "below"))
    with pytest.raises(WorkspaceFailed, match="not a directory"):
        files.find(str(tmp_path / "file"), NAME)


@pytest.mark.parametrize("workspace", ["", "relative/path"])
def test_an_agent_without_a_workspace_has_no_files(files: Workspaces, workspace: str) -> None:
    with pytest.raises(WorkspaceFailed, match="not an absolute path"):
        files.read(workspace, NAME)
    with pytest.raises(WorkspaceFailed, match="not an absolute path"):
        files.ensure(workspace)


def test_a_retired_workspace_is_there_under_another_name(files: Workspaces, workspace: str) -> None:
    for number in range(2):
        files.write(workspace, NAME, f"text {number}")
        moved = files.retire(workspace)
        assert moved is not None
        assert moved.startswith(f"{workspace}.deleted.19700101T000000Z")
        assert Path(moved, NAME).read_text() == f"text {number}"
    assert files.retire(workspace) is None


def test_only_workspaces_that_the_gateway_made_are_retired(
    files: Workspaces, workspace: str, tmp_path: Path
) -> None:
    files.ensure(workspace)
    others = [
        tmp_path / "state" / "workspace",
        tmp_path / "state" / "models",
        tmp_path / "workspace-b",
        tmp_path / "state",
    ]
    for other in others:
        other.mkdir(exist_ok=True)
    link = tmp_path / "state" / "workspace-link"
    link.symlink_to(tmp_path / "workspace-b")
    for other in (*others, link):
        assert files.retire(str(other)) is None
        assert other.exists()
    assert WorkspaceFiles().retire(workspace) is None
