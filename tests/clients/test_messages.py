"""The programs in docs/messages.md do against a Gateway what the page says, as they are printed."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.app.serving import SECRET
from tests.clients.installed import ADDRESS, NODE_MODULES, PROJECT, PYTHON, gateway, require, run
from tests.clients.scripted import GREETING
from tests.clients.test_llmprobe import sensible
from tests.clients.test_recipes import blocks
from tests.fakes.behaviours import answer, fail

PAGE = (PROJECT / "docs" / "messages.md").read_text("utf-8")
BLOCKS = dict(re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
GATEWAY = {
    "auth": {"token": SECRET},
    "http": {"endpoints": {"messages": {"enabled": True}}},
}
CLAUDE = NODE_MODULES / ".bin" / "claude"
HELLO = "".join(GREETING)
WEATHER = "The weather in Lisbon: 21 degrees."


def test_the_page_has_every_program() -> None:
    assert BLOCKS.keys() == {"python", "js", "ts"}


@pytest.mark.e2e
async def test_the_program_for_the_library_in_python(tmp_path: Path) -> None:
    require(PYTHON)
    async with gateway(tmp_path, gateway=GATEWAY) as (served, provider):
        program = tmp_path / "program.py"
        program.write_text(BLOCKS["python"].replace(ADDRESS, served.url))
        status, printed = await run(tmp_path, [PYTHON / "python", program])

    assert (status, printed.splitlines()) == (0, [HELLO, WEATHER, "True"])
    assert len(provider.requests) == 3


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("language", "lines"), [("js", [HELLO, WEATHER, "true"]), ("ts", [HELLO, WEATHER])]
)
async def test_a_program_in_javascript(tmp_path: Path, language: str, lines: list[str]) -> None:
    require(NODE_MODULES)
    async with gateway(tmp_path, gateway=GATEWAY) as (served, provider):
        (tmp_path / "node_modules").symlink_to(NODE_MODULES)
        program = tmp_path / "program.mjs"
        program.write_text(BLOCKS[language].replace(ADDRESS, served.url))
        status, printed = await run(tmp_path, ["node", program])

    assert (status, printed.splitlines()) == (0, lines)
    assert len(provider.requests) == 3


ERRORS = """
import os

import anthropic

key = os.environ["OPENSOUL_GATEWAY_TOKEN"]
hello = [{"role": "user", "content": "Hello"}]


def ask(model="opensoul", key=key, **fields):
    with anthropic.Anthropic(base_url="ADDRESS", api_key=key, max_retries=0) as client:
        try:
            client.messages.create(model=model, max_tokens=9, messages=hello, **fields)
        except anthropic.APIStatusError as error:
            print(type(error).__name__, error.status_code, error.request_id is not None)


ask(model="gpt-5")
ask(key="wrong")
ask(system=3)
ask()
ask(stream=True)
"""


@pytest.mark.e2e
async def test_the_library_raises_its_typed_errors(tmp_path: Path) -> None:
    require(PYTHON)
    busy = fail(429, {"error": {"message": "Slow down."}}, {"Retry-After": "1"})
    async with gateway(tmp_path, busy, gateway=GATEWAY) as (served, _):
        program = tmp_path / "program.py"
        program.write_text(ERRORS.replace("ADDRESS", served.url))
        status, printed = await run(tmp_path, [PYTHON / "python", program])

    assert (status, printed.splitlines()) == (
        0,
        [
            "NotFoundError 404 True",
            "AuthenticationError 401 True",
            "BadRequestError 400 True",
            "RateLimitError 429 True",
            "RateLimitError 429 True",
        ],
    )


@pytest.mark.e2e
async def test_claude_code(tmp_path: Path) -> None:
    require(CLAUDE)
    async with gateway(tmp_path, answer(*GREETING), gateway=GATEWAY) as (served, provider):
        command = blocks("Claude Code")["bash"].replace(ADDRESS, served.url)
        environment = {"PATH": f"{CLAUDE.parent}:{os.environ['PATH']}"}
        status, printed = await run(tmp_path, ["sh", "-ec", command], environment)

    assert (status, printed.splitlines()) == (0, [HELLO])
    tools = {tool["function"]["name"] for tool in provider.requests[-1].json["tools"]}
    assert {"Bash", "Read", "Edit"} <= tools


@pytest.mark.e2e
async def test_every_assertion_of_llmprobe_about_messages_passes(tmp_path: Path) -> None:
    require(NODE_MODULES / "llmprobe")
    async with gateway(tmp_path, sensible, gateway=GATEWAY) as (served, _):
        program = NODE_MODULES / ".bin" / "llmprobe"
        options = ["--no-bench", "--no-save", "--json", "--api-key", SECRET, "--model", "opensoul"]
        target: list[str | Path] = ["node", program, f"{served.url}/v1"]
        _, printed = await run(tmp_path, [*target, *options])

    report = json.loads(printed)["conformance"]
    found = {one["surface"]: one for one in report["bySurface"]}
    for surface in ("messages", "count-tokens"):
        passed, total = found[surface]["passed"], found[surface]["total"]
        assert passed == total
        assert f"| assertions about `{surface}` | {passed} of {total} |" in PAGE
