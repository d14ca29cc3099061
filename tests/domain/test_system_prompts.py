"""The system prompts of Runs: what a model gets, and when it is made anew."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from opensoul.domain.agents import Agent, PromptSettings
from opensoul.domain.execution import SystemPrompts
from opensoul.domain.knowledge import NOTHING_KNOWN, Knowledge, KnownFile, Skill
from opensoul.domain.ports import RunContext
from opensoul.domain.sessions import SessionKey
from opensoul.domain.tools import BUILT_IN_SOURCE, ToolSpec
from tests.fakes.domain import FakeClock, agent, run

DAY = 86_400.0
READ = ToolSpec("read", "Reads.", source=BUILT_IN_SOURCE)
WRITE = ToolSpec("write", "Writes.", source=BUILT_IN_SOURCE)
PDF = Skill("pdf", "Reads PDF files.", "skills/pdf/SKILL.md")
ASIDE = SessionKey("main", "subagent:1")


class Shelf:
    """A KnowledgeSource with one content, which has its skills for those who can read them."""

    def __init__(self, knowledge: Knowledge) -> None:
        self.knowledge = knowledge

    async def find(self, workspace: str, *, skills: bool) -> Knowledge:
        return self.knowledge if skills else replace(self.knowledge, skills=())


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(Knowledge((KnownFile("AGENTS.md", "Be kind."), KnownFile("SOUL.md", "Owl."))))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def prompts(shelf: Shelf, clock: FakeClock) -> SystemPrompts:
    return SystemPrompts(shelf, clock=clock)


def context() -> RunContext:
    one = replace(agent(), instructions="Be brief.", prompt=PromptSettings(time_zone="UTC"))
    return RunContext(run(), one)


async def text(prompts: SystemPrompts, context: RunContext, *tools: ToolSpec) -> str:
    return (await prompts.completed(context, tools)).agent.instructions


async def test_a_run_without_anything_to_know_is_left_as_it_is(
    prompts: SystemPrompts, shelf: Shelf
) -> None:
    shelf.knowledge = NOTHING_KNOWN
    plain = context()

    assert await prompts.completed(plain, ()) is plain


async def test_nothing_but_the_instructions_of_the_agent_changes(prompts: SystemPrompts) -> None:
    plain = context()
    completed = await prompts.completed(plain, [READ])
    instructions = completed.agent.instructions

    assert instructions.startswith("Be brief.\n\n# Tools")
    assert completed == replace(plain, agent=replace(plain.agent, instructions=instructions))


async def test_turns_of_a_day_have_the_same_prompt_and_it_is_made_once(
    prompts: SystemPrompts, clock: FakeClock
) -> None:
    first = await text(prompts, context(), READ)
    clock.advance(DAY / 4)
    again = await text(prompts, context(), READ)
    clock.advance(DAY)
    later = await text(prompts, context(), READ)

    assert again is first
    assert later != first


@pytest.mark.parametrize(
    "changes",
    [
        {"instructions": "Be long."},
        {"prompt": PromptSettings(time_zone="Europe/Berlin")},
        {"prompt": PromptSettings(file_chars=3, time_zone="UTC")},
    ],
)
async def test_a_change_of_the_configuration_counts_at_once(
    prompts: SystemPrompts, changes: dict[str, object]
) -> None:
    first = await text(prompts, context(), READ)
    changed = replace(context().agent, **changes)  # type: ignore[arg-type]

    assert await text(prompts, replace(context(), agent=changed), READ) != first
    assert await text(prompts, context(), READ) == first


async def test_a_change_of_a_file_or_of_the_tools_counts_at_once(
    prompts: SystemPrompts, shelf: Shelf
) -> None:
    first = await text(prompts, context(), READ)
    both = await text(prompts, context(), READ, WRITE)
    shelf.knowledge = Knowledge((KnownFile("AGENTS.md", "Be strict."),))
    after = await text(prompts, context(), READ)

    assert "`read`, `write`" in both
    assert "Be kind." in first
    assert "Be strict." in after
    assert "Be kind." not in after


async def test_prompts_of_different_agents_and_tools_are_kept_beside_one_another(
    prompts: SystemPrompts,
) -> None:
    other = replace(context(), agent=replace(context().agent, id="other"))
    kinds = [(context(), (READ,)), (context(), (READ, WRITE)), (other, (READ,))]
    first = [await text(prompts, run, *tools) for run, tools in kinds]
    again = [await text(prompts, run, *tools) for run, tools in kinds]

    assert all(one is two for one, two in zip(first, again, strict=True))


async def test_very_many_sets_of_tools_are_not_all_kept(prompts: SystemPrompts) -> None:
    first = await text(prompts, context(), READ)
    for number in range(300):
        await text(prompts, context(), ToolSpec(f"tool{number}", ""))
    again = await text(prompts, context(), READ)

    assert again == first
    assert again is not first


async def test_skills_are_for_agents_that_can_read_them(
    prompts: SystemPrompts, shelf: Shelf
) -> None:
    shelf.knowledge = Knowledge(skills=(PDF,))

    assert "# Skills" in await text(prompts, context(), READ)
    assert "# Skills" not in await text(prompts, context(), WRITE)
    assert await text(prompts, context()) == "Be brief."


async def test_a_sub_agent_gets_fewer_files(prompts: SystemPrompts) -> None:
    aside = replace(context(), spec=replace(run(), session_key=ASIDE))
    found = await text(prompts, aside)

    assert "Be kind." in found
    assert "SOUL.md" not in found


async def test_each_problem_is_logged_when_it_appears(
    prompts: SystemPrompts, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for problems in [("one",), ("one",), ("one", "two"), (), ("two",)]:
        shelf.knowledge = Knowledge(problems=problems)
        await text(prompts, context())

    assert [vars(record)["problem"] for record in caplog.records] == ["one", "two", "two"]


async def test_the_parts_for_people_make_up_the_text_of_a_run(
    prompts: SystemPrompts, shelf: Shelf
) -> None:
    one: Agent = context().agent
    knowledge = await prompts.knowledge(one, [READ])
    parts = prompts.parts(one, [READ], knowledge)

    assert knowledge is shelf.knowledge
    assert "\n\n".join(part.text for part in parts) == await text(prompts, context(), READ)
