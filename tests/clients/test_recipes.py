"""The programs in docs/clients.md do against a Gateway what the page says, as they are printed."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.clients.installed import ADDRESS, NODE_MODULES, PROJECT, PYTHON, gateway, require, run
from tests.clients.scripted import GREETING

PAGE = (PROJECT / "docs" / "clients.md").read_text("utf-8")
HELLO = "".join(GREETING)
WEATHER = "The weather in Lisbon: 21 degrees."
PYTHON_RECIPES = ("openai-python", "LangChain", "pydantic-ai", "OpenAI Agents SDK")
NODE_RECIPES = ("openai-node", "Vercel AI SDK")
OTHERS = ("Open WebUI", "LibreChat", "Continue", "Home Assistant", "n8n")


def blocks(recipe: str) -> dict[str, str]:
    """The blocks under a heading of the page, by their languages."""
    section = re.split(r"^## ", PAGE.partition(f"\n## {recipe}\n")[2], flags=re.MULTILINE)[0]
    return dict(re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))


def test_the_page_has_every_recipe() -> None:
    recipes = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)

    own = {"curl", "instructor", "llm", "Claude Code"}
    assert {*recipes} == {*own, *PYTHON_RECIPES, *NODE_RECIPES, *OTHERS}
    for recipe in set(recipes) - {"Home Assistant", "n8n"}:
        assert blocks(recipe), recipe


async def test_the_program_for_openai_python_with_the_release_of_these_tests(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path) as (served, provider):
        program = tmp_path / "program.py"
        program.write_text(blocks("openai-python")["python"].replace(ADDRESS, served.url))
        status, printed = await run(tmp_path, [sys.executable, program])

    assert (status, printed.splitlines()) == (0, [HELLO, WEATHER])
    assert len(provider.requests) == 3


@pytest.mark.e2e
@pytest.mark.parametrize("recipe", PYTHON_RECIPES)
async def test_a_program_in_python(tmp_path: Path, recipe: str) -> None:
    require(PYTHON)
    async with gateway(tmp_path) as (served, provider):
        program = tmp_path / "program.py"
        program.write_text(blocks(recipe)["python"].replace(ADDRESS, served.url))
        status, printed = await run(tmp_path, [PYTHON / "python", program])

    assert (status, printed.splitlines()) == (0, [HELLO, WEATHER])
    assert len(provider.requests) == 3


@pytest.mark.e2e
@pytest.mark.parametrize("recipe", NODE_RECIPES)
async def test_a_program_in_javascript(tmp_path: Path, recipe: str) -> None:
    require(NODE_MODULES)
    async with gateway(tmp_path) as (served, provider):
        (tmp_path / "node_modules").symlink_to(NODE_MODULES)
        program = tmp_path / "program.mjs"
        program.write_text(blocks(recipe)["js"].replace(ADDRESS, served.url))
        status, printed = await run(tmp_path, ["node", program])

    assert (status, printed.splitlines()) == (0, [HELLO, WEATHER])
    assert len(provider.requests) == 3


@pytest.mark.e2e
async def test_instructor(tmp_path: Path) -> None:
    require(PYTHON)
    async with gateway(tmp_path) as (served, _):
        program = tmp_path / "program.py"
        program.write_text(blocks("instructor")["python"].replace(ADDRESS, served.url))
        status, printed = await run(tmp_path, [PYTHON / "python", program])

    assert (status, printed.splitlines()) == (0, ["Lisbon: 21", "Lisbon"])


@pytest.mark.e2e
async def test_llm(tmp_path: Path) -> None:
    require(PYTHON)
    async with gateway(tmp_path) as (served, _):
        models = tmp_path / "extra-openai-models.yaml"
        models.write_text(blocks("llm")["yaml"].replace(ADDRESS, served.url))
        path = f"{PYTHON}:/usr/bin:/bin"
        environment = {"LLM_USER_PATH": str(tmp_path), "PATH": path}
        status, printed = await run(tmp_path, ["sh", "-ec", blocks("llm")["bash"]], environment)

    assert (status, printed.splitlines()) == (0, [HELLO, WEATHER])


@pytest.mark.e2e
async def test_curl(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    async with gateway(tmp_path) as (served, _):
        command = blocks("curl")["bash"].replace(ADDRESS, served.url)
        status, printed = await run(tmp_path, ["sh", "-ec", command])

    assert status == 0
    assert GREETING[0] in printed
    assert printed.endswith("data: [DONE]\n\n")
