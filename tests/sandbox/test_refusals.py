"""Where the sandbox is not available, nothing runs, and the reason is named. Without bubblewrap."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from opensoul.adapters.sandbox import Bubblewrap
from opensoul.domain.ports.sandbox import SandboxUnavailable
from opensoul.domain.tools import SandboxMode, SandboxPolicy
from tests.fakes.domain import FakeClock
from tests.sandbox.available import CONFINED, confined_caller

linux = pytest.mark.skipif(sys.platform != "linux", reason="Bubblewrap exists for Linux only.")
REFUSED = "The sandbox is not available, and nothing is run without it: "


def fake_bwrap(folder: Path, script: str) -> str:
    """A PATH with that program."""
    folder.mkdir(exist_ok=True)
    program = folder / "bwrap"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(folder)


_WORKS = "echo 2"
"""As a shell in the sandbox answers the check."""
# One that hangs would keep a test waiting for ten seconds.
FAILING = {
    "no user namespaces": (
        "echo 'bwrap: No permissions to create new namespace' >&2; exit 1",
        "bwrap does not work here: bwrap: No permissions to create new namespace; allow"
        " unprivileged user namespaces",
    ),
    "an old one": (
        "echo 'bwrap: Unknown option --disable-userns' >&2; exit 1",
        "bwrap: Unknown option --disable-userns; install bubblewrap 0.8 or later",
    ),
    "silent": ("exit 7", "bwrap does not work here, with the exit code 7"),
    "killed": ("kill -9 $$", "bwrap does not work here, with the exit code -9"),
    "confines nothing": ('while [ "$1" != -- ]; do shift; done; shift; "$@"', "does not work here"),
    "runs nothing": ("exit 0", "bwrap does not work here"),
}


@linux
@pytest.mark.parametrize("kind", FAILING)
async def test_a_bubblewrap_that_fails_has_commands_refused(tmp_path: Path, kind: str) -> None:
    script, reason = FAILING[kind]
    shell = confined_caller(tmp_path / "home", path=fake_bwrap(tmp_path / "bin", script))

    error = await shell.error("exec", command="touch ran")

    assert error.startswith(REFUSED)
    assert reason in error
    assert not (shell.workspace / "ran").exists()


@linux
async def test_without_bubblewrap_commands_are_refused(tmp_path: Path) -> None:
    shell = confined_caller(tmp_path / "home", path=str(tmp_path))

    error = await shell.error("exec", command="touch ran")

    assert error == (
        f"{REFUSED}there is no program `bwrap`; install bubblewrap 0.8 or later (the package"
        " `bubblewrap`)."
    )
    assert not (shell.workspace / "ran").exists()


async def test_without_bubblewrap_the_file_tools_work(tmp_path: Path) -> None:
    shell = confined_caller(tmp_path / "home", path=str(tmp_path))

    await shell.text("write", path="a", content="text")

    assert await shell.text("read", path="a") == "text"


@pytest.mark.parametrize("mode", [SandboxMode.NON_MAIN, SandboxMode.ALL])
async def test_modes_of_other_programs_have_commands_refused(
    tmp_path: Path, mode: SandboxMode
) -> None:
    shell = confined_caller(tmp_path / "home", SandboxPolicy(mode))

    error = await shell.error("exec", command="touch ran")

    assert error == (
        f'{REFUSED}the sandbox mode "{mode}" does not exist here; set `sandbox.mode` to'
        ' "bubblewrap", or to "off".'
    )
    assert not (shell.workspace / "ran").exists()


@linux
async def test_bubblewrap_is_used_once_it_is_installed(tmp_path: Path) -> None:
    """No restart is needed; and neither a success nor a recent failure is checked again."""
    path = str(tmp_path / "bin")
    clock = FakeClock()
    sandbox = Bubblewrap({"PATH": path, "HOME": str(tmp_path / "home")}, monotonic=clock)
    workspace = str(tmp_path / "work")
    assert "there is no program" in await sandbox.problem(CONFINED, workspace)
    fake_bwrap(tmp_path / "bin", f"echo . >> {tmp_path}/checks; {_WORKS}")
    assert "there is no program" in await sandbox.problem(CONFINED, workspace)
    clock.advance(10)

    problems = await asyncio.gather(*(sandbox.problem(CONFINED, workspace) for _ in range(5)))

    assert problems == [""] * 5
    assert (tmp_path / "checks").read_text() == ".\n"


@linux
async def test_the_check_gets_no_variable_of_the_gateway(tmp_path: Path) -> None:
    path = fake_bwrap(tmp_path / "bin", f"export > {tmp_path}/variables; {_WORKS}")
    sandbox = Bubblewrap({"PATH": path, "SECRET": "leaked"})

    assert await sandbox.problem(CONFINED, str(tmp_path)) == ""

    assert "leaked" not in (tmp_path / "variables").read_text()


@linux
async def test_a_bubblewrap_that_disappears_runs_nothing(tmp_path: Path) -> None:
    shell = confined_caller(tmp_path / "home", path=fake_bwrap(tmp_path / "bin", _WORKS))
    shell.workspace.mkdir(parents=True)
    (tmp_path / "bin" / "bwrap").chmod(0o755)
    await shell.result("exec", command="true")
    (tmp_path / "bin" / "bwrap").unlink()

    error = await shell.error("exec", command="touch ran")

    assert error.startswith("The sandbox cannot be started: No such file or directory")
    assert not (shell.workspace / "ran").exists()


def paths(tmp_path: Path) -> dict[str, tuple[SandboxPolicy, str, str]]:
    home, state = tmp_path / "home", tmp_path / "home" / ".opensoul"
    (tmp_path / "link").symlink_to(home)
    inside, work = tmp_path / "inside", str(state / "workspace")
    inside.mkdir()
    (inside / "state").symlink_to(state)
    return {
        "home as workspace": (CONFINED, str(home), "the home directory"),
        "parent of home as workspace": (CONFINED, str(tmp_path), "the home directory"),
        "state as workspace": (CONFINED, str(state), "files of the Gateway"),
        "a link to home as workspace": (CONFINED, str(tmp_path / "link"), "the home directory"),
        "root as workspace": (CONFINED, "/", "the home directory"),
        "reading home": (replace(CONFINED, read=(str(home),)), work, "the home directory"),
        "reading all": (replace(CONFINED, read=("/",)), work, "the home directory"),
        "writing home": (replace(CONFINED, write=(str(home),)), work, "the home directory"),
        "reading state": (replace(CONFINED, read=(str(state),)), work, "files of the Gateway"),
        "a link to state": (
            replace(CONFINED, read=(str(inside / "state"),)), work, "files of the Gateway",
        ),
        "nothing": (replace(CONFINED, read=("/no/such",)), work, "/no/such does not exist"),
    }  # fmt: skip


@linux
@pytest.mark.parametrize(
    "kind",
    [
        "home as workspace", "parent of home as workspace", "state as workspace", "nothing",
        "a link to home as workspace", "root as workspace", "reading home", "reading all",
        "writing home", "reading state", "a link to state",
    ],
)  # fmt: skip
async def test_paths_that_would_show_the_gateways_files_are_refused(
    tmp_path: Path, kind: str
) -> None:
    state = tmp_path / "home" / ".opensoul"
    state.mkdir(parents=True)
    policy, workspace, reason = paths(tmp_path)[kind]
    env = {"PATH": fake_bwrap(tmp_path / "bin", _WORKS), "HOME": str(tmp_path / "home")}
    sandbox = Bubblewrap(env, hidden=lambda: [str(state)])

    problem = await sandbox.problem(policy, workspace)

    assert reason in problem
    with pytest.raises(SandboxUnavailable) as caught:
        await sandbox.confined(policy, workspace, ["/bin/true"])
    assert caught.value.message == problem


@linux
async def test_a_path_that_a_command_could_replace_with_a_link_is_not_shown(
    tmp_path: Path,
) -> None:
    """A path in the workspace is visible already. As a mount, it could be a link to anywhere."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "cache").symlink_to("/etc")
    sandbox = Bubblewrap({"PATH": fake_bwrap(tmp_path / "bin", _WORKS)})
    policy = replace(CONFINED, read=(str(work / "cache"),), write=(str(work / "cache/x"),))

    argv = await sandbox.confined(policy, str(work), ["/bin/true"])

    assert str(work / "cache") not in argv[4]


@linux
async def test_a_path_with_another_name_in_one_that_can_be_written_is_refused(
    tmp_path: Path,
) -> None:
    work = tmp_path / "work"
    (work / "cache").mkdir(parents=True)
    (tmp_path / "alias").symlink_to(work)
    sandbox = Bubblewrap({"PATH": fake_bwrap(tmp_path / "bin", _WORKS)})
    policy = replace(CONFINED, read=(str(tmp_path / "alias" / "cache"),))

    problem = await sandbox.problem(policy, str(work))

    assert f"lies in {work}, which can be written; name it by that path" in problem


@linux
async def test_of_nested_paths_that_can_be_written_the_outer_one_is_mounted(
    tmp_path: Path,
) -> None:
    work, inner = tmp_path / "outer" / "work", tmp_path / "outer" / "work" / "inner"
    inner.mkdir(parents=True)
    sandbox = Bubblewrap({"PATH": fake_bwrap(tmp_path / "bin", _WORKS)})
    policy = replace(CONFINED, write=(str(inner), str(tmp_path / "outer")))

    argv = await sandbox.confined(policy, str(work), ["/bin/true"])

    options = json.loads(argv[4])["options"]
    assert [options[i + 1] for i, word in enumerate(options) if word == "--bind"] == [
        str(tmp_path / "outer")
    ]


@linux
async def test_a_program_that_is_not_visible_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "bwrap"
    sandbox = Bubblewrap({"PATH": fake_bwrap(tmp_path / "bin", _WORKS)})
    (tmp_path / "work").mkdir()

    with pytest.raises(SandboxUnavailable, match=r"is not visible in it; name its directory"):
        await sandbox.confined(CONFINED, str(tmp_path / "work"), [str(program)])


@pytest.mark.parametrize("network", [True, False])
async def test_the_model_is_informed_of_the_sandbox(tmp_path: Path, network: bool) -> None:
    shell = confined_caller(tmp_path / "home", replace(CONFINED, network=network))

    specs = {spec.name: spec for spec in await shell.toolbox.tools(shell.context)}

    assert "It runs in a sandbox" in specs["exec"].description
    assert ("there is no network" in specs["exec"].description) != network
    assert "sandbox" not in specs["read"].description
