"""`opensoul agents prompt`: what an agent knows, and how many tokens that takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from .command import Home

CONFIG = """{
  agents: {
    defaults: { userTimezone: "UTC" },
    list: [
      { id: "main", instructions: "Be brief." },
      { id: "clerk", instructions: "Be brief.", tools: { allow: ["read", "write"] } },
      { id: "picky", tools: { allow: ["read"] }, skills: ["mail", "no\\nsuch"] },
      { id: "other", instructions: "Shout.", runner: "echo", tools: { allow: ["read"] } },
      { id: "blank" },
    ],
  },
}"""


@pytest.fixture
def place(home: Home) -> Home:
    home.configure(CONFIG)
    return home


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_each_part_is_shown_with_its_tokens_before_the_text(place: Home) -> None:
    write(place.state / "workspace-clerk" / "AGENTS.md", "Be kind.\n")
    write(place.state / "skills" / "mail" / "SKILL.md", "---\ndescription: Sends.\n---")
    shown = place.opensoul("agents", "prompt", "Clerk")
    table, _, text = shown.out.partition("\n\n")
    rows = [line.rsplit(maxsplit=1) for line in table.splitlines()]

    assert (shown.code, shown.err) == (0, "")
    assert [row[0].strip() for row in rows[:-1]] == [
        "PART",
        *("instructions", "tools", "skills", "workspace files", "AGENTS.md", "date", "total"),
    ]
    counts = [int(row[1]) for row in rows[1:-1]]
    assert counts[-1] == sum(counts[:-1]) > 100
    assert table.splitlines()[-1].startswith("The definitions of 2 tools take about ")
    assert text.startswith("Be brief.\n\n# Tools\n\nYou can call these tools: `read`, `write`.\n")
    assert f"- `mail` (`{place.state}/skills/mail/SKILL.md`): Sends.\n" in text
    assert '<file name="AGENTS.md">\nBe kind.\n</file>' in text


def test_programs_get_the_same_as_json(place: Home) -> None:
    shown = place.opensoul("agents", "prompt", "clerk", "--json").json

    assert [part["name"] for part in shown["parts"]] == ["instructions", "tools", "date"]
    assert shown["parts"][0] == {"name": "instructions", "tokens": 3, "text": "Be brief."}
    assert shown["text"] == "\n\n".join(part["text"] for part in shown["parts"])
    assert shown["tokens"] == sum(part["tokens"] for part in shown["parts"])
    assert shown["tools"]["names"] == ["read", "write"]
    assert shown["tools"]["tokens"] > 50
    assert (shown["agent"], shown["runner"]) == ("clerk", "native")
    assert shown["problems"] == []


@pytest.mark.parametrize(("agent", "text"), [("main", "Be brief."), ("other", "Shout.")])
def test_an_agent_without_tools_and_files_has_its_instructions(
    place: Home, agent: str, text: str
) -> None:
    shown = place.opensoul("agents", "prompt", agent, "--json").json

    assert (shown["text"], shown["tools"]) == (text, {"names": [], "tokens": 0})


def test_an_agent_may_have_no_prompt(place: Home) -> None:
    shown = place.opensoul("agents", "prompt", "blank")

    assert "The agent has no system prompt." in shown.out


def test_showing_a_prompt_makes_nothing(place: Home) -> None:
    before = sorted(place.path.rglob("*"))
    place.opensoul("agents", "prompt", "clerk")

    assert sorted(place.path.rglob("*")) == before


def test_what_is_left_out_is_named(place: Home) -> None:
    write(place.state / "workspace-picky" / "skills" / "a" / "SKILL.md", "no front matter")
    shown = place.opensoul("agents", "prompt", "picky")

    problems = [line for line in shown.out.splitlines() if line.startswith("problem: ")]
    assert problems == [
        "problem: skills/a/SKILL.md has no front matter: its first line is not `---`; "
        "it is left out.",
        "problem: skills: mail names no skill that this agent can read.",
        "problem: skills: no such names no skill that this agent can read.",
    ]


def test_a_prompt_that_fills_the_window_of_a_model_is_named(place: Home) -> None:
    place.configure(
        """{ agents: { list: [{ id: "main", model: "small/m" }] },
             models: { providers: { small: { baseUrl: "http://127.0.0.1:9/v1",
                                             models: [{ id: "m", contextWindow: 8192 }] } } } }"""
    )
    write(place.state / "workspace" / "AGENTS.md", "x" * 19_000)
    shown = place.opensoul("agents", "prompt", "main", "--json").json

    assert shown["problems"] == [
        "small/m has a context window of 8192 tokens, of which the prompt and the tools take "
        f"about {shown['tokens']}."
    ]


def test_files_cannot_steer_the_terminal(place: Home) -> None:
    write(place.state / "workspace-clerk" / "AGENTS.md", "a\x1b[2J\u202eb")
    shown = place.opensoul("agents", "prompt", "clerk")
    as_json = place.opensoul("agents", "prompt", "clerk", "--json")

    assert "a[2Jb" in shown.out
    assert as_json.out.isascii()
    assert "a\x1b[2J\u202eb" in as_json.json["text"]


def test_an_unknown_agent_is_an_error(place: Home) -> None:
    shown = place.opensoul("agents", "prompt", "nobody", "--json")

    assert (shown.code, shown.json_error["code"]) == (1, "unknown_agent")
    assert not (place.state / "workspace-nobody").exists()


def test_doctor_names_each_unusable_file_once(place: Home) -> None:
    write(place.state / "workspace-clerk" / "USER.md", "a\0b")
    write(place.state / "skills" / "mail" / "SKILL.md", "# Mail")
    found = place.opensoul("doctor", "--json").json["findings"]

    messages = [one["message"] for one in found if one["code"] == "left_out_of_prompt"]
    assert messages == [
        f"{place.state}/workspace-clerk/USER.md is not a text file; it is left out.",
        f"{place.state}/skills/mail/SKILL.md has no front matter: its first line is not `---`; "
        "it is left out.",
    ]
