"""`opensoul agents check`, `agents list` and `doctor`: what they find out about Python agents."""

from __future__ import annotations

import json

import pytest

from opensoul.adapters.python_agents import Inspection
from opensoul.app.cli.diagnosis.python_agents import slow

from .command import Home

WORKS = "async def agent(run):\n    yield run.text\n"
BROKEN = "def boom():\n    raise OSError('no disk')\n\nboom()\n"


@pytest.fixture
def place(home: Home) -> Home:
    """Two Python agents, of which one cannot be imported, and one of another kind."""
    (home.path / "agents_that_work.py").write_text(WORKS)
    (home.path / "agents_that_break.py").write_text(BROKEN)
    runner = {"use": "python", "path": str(home.path)}
    agents = [
        {"id": "main", "runner": "echo"},
        {"id": "works", "runner": {**runner, "target": "agents_that_work:agent"}},
        {"id": "breaks", "runner": {**runner, "target": "agents_that_break:agent"}},
    ]
    home.configure(json.dumps({"agents": {"list": agents}})).chmod(0o600)
    return home


def test_an_agent_is_described(place: Home) -> None:
    outcome = place.opensoul("agents", "check", "works")
    assert outcome.code == 0
    for text in ("agents_that_work:agent", "plain", "an async generator function", "thread"):
        assert text in outcome.out


def test_a_target_is_described_without_a_configuration(home: Home) -> None:
    (home.path / "loose.py").write_text(WORKS)
    found = home.opensoul("agents", "check", "loose:agent", "--json")
    assert found.code == 0
    assert found.json | {"seconds": 0} == {
        "id": None,
        "target": "loose:agent",
        "path": str(home.path),
        "isolation": "thread",
        "ok": True,
        "seconds": 0,
        "framework": "plain",
        "kind": "an async generator function",
        "problem": "",
        "traceback": "",
    }


def test_what_fails_is_shown_with_its_file_and_line(place: Home) -> None:
    outcome = place.opensoul("agents", "check", "breaks")
    assert (outcome.code, outcome.out) == (1, "")
    assert 'agents_that_break.py", line 2, in boom' in outcome.err
    assert "cannot be imported: OSError: no disk" in outcome.err
    found = place.opensoul("agents", "check", "breaks", "--json")
    assert (found.code, found.json["ok"]) == (1, False)
    assert "OSError: no disk" in found.json["problem"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("nobody",), "nobody"),
        (("main",), "has the runner `echo`; it is no Python agent"),
        (("no such:target",), "is no target"),
        (("nowhere:agent",), "There is no module `nowhere`"),
        (("nowhere:agent", "--path", "missing"), "There is no directory"),
    ],
)
def test_what_is_no_python_agent_is_refused(
    place: Home, arguments: tuple[str, ...], why: str
) -> None:
    outcome = place.opensoul("agents", "check", *arguments)
    assert outcome.code == 1
    assert why in outcome.err


def test_the_list_has_the_targets(place: Home) -> None:
    listed = place.opensoul("agents", "list").out.splitlines()
    assert listed[0].split()[-1] == "TARGET"
    assert listed[2].split()[0] == "works"
    assert listed[2].split()[-1] == "agents_that_work:agent"
    agents = place.opensoul("agents", "list", "--json").json["agents"]
    assert agents[1]["target"] == "agents_that_work:agent"
    assert agents[1]["isolation"] == "thread"
    assert "target" not in agents[0]


def test_the_doctor_finds_agents_that_cannot_be_used(place: Home) -> None:
    findings = place.opensoul("doctor", "--json").json["findings"]
    (found,) = [one for one in findings if one["code"] == "python_agent_unusable"]
    assert "The Python agent breaks cannot be used" in found["message"]
    assert "opensoul agents check breaks" in found["advice"]


def test_the_doctor_notes_what_takes_long_to_load() -> None:
    quick, long, broken = Inspection(0.2), Inspection(10.2), Inspection(60.0, problem="No end.")
    (note,) = slow({"quick": quick, "long": long, "broken": broken})
    assert note.startswith("The Python agent long takes 10 s to load.")
