"""Agents that are plain functions, through the chat endpoint of a real Gateway."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from opensoul.adapters.python_agents import Status
from opensoul.client import Client, Options, ToolFinished
from tests.app.serving import SECRET, Served, serving
from tests.python_agents.conftest import Write, configured
from tests.test_architecture import ROOT

ASYNC_GENERATOR = """
    async def agent(run):
        for word in run.text.split():
            yield word + " "
        yield "!"
"""
GENERATOR = """
    def agent(run):
        for word in run.text.split():
            yield word + " "
        yield "!"
"""
COROUTINE = """
    async def agent(run):
        return " ".join(run.text.split()) + " !"
"""
FUNCTION = """
    def agent(run):
        return " ".join(run.text.split()) + " !"
"""
OBJECT = """
    class Agent:
        async def __call__(self, run):
            yield " ".join(run.text.split()) + " !"
    agent = Agent()
"""
PARTIAL = """
    import functools
    async def end(mark, run):
        return " ".join(run.text.split()) + " " + mark
    agent = functools.partial(end, "!")
"""
FACTORY = """
    async def answer(run):
        yield " ".join(run.text.split()) + " !"
    def agent(run):
        return answer(run)
"""
EVENTS = """
    from opensoul.api import TextDelta, Usage
    async def agent(run):
        yield [TextDelta("one "), TextDelta("two ")]
        yield Usage(3, 4)
        yield "!"
        yield Usage(10, 20)
"""


async def streamed(served: Served, **body: Any) -> list[dict[str, Any]]:
    async with served.ask(stream=True, **body) as response:
        assert response.status == 200, await response.text()
        lines = (await response.text()).splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(
        choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]
    )


@pytest.mark.parametrize("isolation", ["thread", "inline"])
@pytest.mark.parametrize(
    "text",
    [ASYNC_GENERATOR, GENERATOR, COROUTINE, FUNCTION, OBJECT, PARTIAL, FACTORY],
    ids=["async-generator", "generator", "coroutine", "function", "object", "partial", "factory"],
)
async def test_each_kind_of_function_answers(
    text: str, isolation: str, write: Write, tmp_path: Path
) -> None:
    target = f"{write(text)}:agent"

    async with serving(tmp_path, configured({"target": target, "isolation": isolation})) as served:
        question = [{"role": "user", "content": "one two"}]
        whole = await served.text(messages=question)
        chunks = await streamed(served, messages=question)

    assert whole == "one two !"
    assert text_of(chunks) == "one two !"


async def test_events_are_taken_and_usage_is_added(write: Write, tmp_path: Path) -> None:
    target = f"{write(EVENTS)}:agent"

    async with (
        serving(tmp_path, configured({"target": target})) as served,
        served.ask() as response,
    ):
        answer = await response.json()

    assert answer["choices"][0]["message"]["content"] == "one two !"
    assert answer["usage"]["prompt_tokens"] == 13
    assert answer["usage"]["completion_tokens"] == 24


async def test_followers_get_both_results_of_calls_with_one_id(
    write: Write, tmp_path: Path
) -> None:
    name = write("""
        from opensoul.api import ToolFinished, ToolStarted
        async def agent(run):
            for text in ("one", "two"):
                yield ToolStarted("c", "look", "{}")
                yield ToolFinished("c", False, text)
            yield "done"
    """)

    async with serving(tmp_path, configured({"target": f"{name}:agent"})) as served:
        url = served.url.replace("http", "ws", 1)
        async with Client(Options(url=url, token=SECRET, client_id="cli", mode="cli")) as client:
            run = await client.run_agent("look", session_key="agent:main:socket")
            events = [event async for event in run.events()]

    assert [event.text for event in events if isinstance(event, ToolFinished)] == ["one", "two"]


async def test_a_run_has_what_the_request_says(write: Write, tmp_path: Path) -> None:
    name = write("""
        import json
        def agent(run):
            return json.dumps({
                "text": run.text,
                "messages": [m.text for m in run.messages],
                "history": [m.text for m in run.history],
                "session": run.session_key,
                "agent": run.agent_id,
                "run": run.run_id,
                "principal": run.principal.id,
                "temperature": run.params["temperature"],
                "metadata": dict(run.metadata),
                "tools": [tool.name for tool in run.tools],
                "instructions": run.instructions,
            })
    """)
    body: dict[str, Any] = {
        "temperature": 0.5,
        "user": "ada",
        "metadata": {"ticket": "7"},
        "tools": [{"type": "function", "function": {"name": "look"}}],
    }

    async with serving(tmp_path, configured({"target": f"{name}:agent"})) as served:
        first = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hello"}]
        await served.text(messages=first, **body)
        async with served.ask(messages=[{"role": "user", "content": "again"}], **body) as response:
            answer = await response.json()
            run_id = response.headers["x-opensoul-run-id"]
            key = response.headers["x-opensoul-session-key"]

    found = json.loads(answer["choices"][0]["message"]["content"])
    assert found["text"] == "again"
    assert found["history"][0] == "hello"
    assert len(found["history"]) == 2
    assert found["messages"] == [*found["history"], "again"]
    assert (found["session"], found["agent"], found["run"]) == (key, "main", run_id)
    assert found["temperature"] == 0.5
    assert found["metadata"] == {"ticket": "7"}
    assert found["tools"] == ["look"]
    assert found["principal"]


async def test_calls_of_the_clients_tools_are_handed_out(write: Write, tmp_path: Path) -> None:
    name = write("""
        from opensoul.api import ClientCalls, ToolCall
        async def agent(run):
            results = [m for m in run.messages if m.role == "tool"]
            if results:
                yield "It is " + results[-1].text
            else:
                yield ClientCalls((ToolCall("x", "look", '{"at": "sky"}'),))
    """)
    tools = [{"type": "function", "function": {"name": "look"}}]

    async with serving(tmp_path, configured({"target": f"{name}:agent"})) as served:
        question = [{"role": "user", "content": "what is up?"}]
        async with served.ask(messages=question, tools=tools) as response:
            choice = (await response.json())["choices"][0]
        message = choice["message"]
        (call,) = message["tool_calls"]
        result = {"role": "tool", "tool_call_id": call["id"], "content": "blue"}
        text = await served.text(messages=[*question, message, result], tools=tools)

    assert choice["finish_reason"] == "tool_calls"
    assert call["function"] == {"name": "look", "arguments": '{"at": "sky"}'}
    assert text == "It is blue"


FAULTS = {
    "raises": ("def agent(run):\n    raise ValueError('sk-secret')", "ValueError"),
    "exits": ("import sys\nasync def agent(run):\n    sys.exit(3)", "failed with SystemExit"),
    "says-nothing": ("async def agent(run):\n    return None", "returned None"),
    "says-numbers": ("async def agent(run):\n    yield 7", "the type int"),
}


@pytest.mark.parametrize("isolation", ["thread", "inline"])
@pytest.mark.parametrize(("text", "why"), FAULTS.values(), ids=FAULTS)
async def test_an_agent_that_fails_is_a_502_without_its_secrets(
    text: str, why: str, isolation: str, write: Write, tmp_path: Path
) -> None:
    target = f"{write(text)}:agent"
    good = f"{write(FUNCTION)}:agent"
    content = configured({"target": target, "isolation": isolation}, {"target": good})

    async with serving(tmp_path, content) as served:
        async with served.ask() as response:
            answer = await response.json()
            assert response.status == 502
        other = await served.text(model="opensoul/a1")

    assert answer["error"]["code"] == "agent_failed"
    assert why in answer["error"]["message"]
    assert "sk-secret" not in json.dumps(answer)
    assert other == "hello !"


async def test_the_traceback_of_an_agent_is_in_the_log(
    write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = write("def agent(run):\n    return 1 / 0\n")

    content = configured({"target": f"{name}:agent"})
    async with serving(tmp_path, content) as served, served.ask() as response:
        assert response.status == 502

    (record,) = [r for r in caplog.records if r.getMessage() == "an agent failed"]
    assert record.exc_text is None or "ZeroDivisionError" in record.exc_text
    rendered = logging.Formatter().format(record)
    assert f"{name}.py" in rendered
    assert "line 2" in rendered


UNUSABLE = {
    "raises": ("raise OSError('no disk')", "cannot be imported: OSError: no disk"),
    "exits": ("import sys\nsys.exit(1)", "cannot be imported: SystemExit: 1"),
    "needs": ("import pydantic_ai_of_nobody", "needs `pydantic_ai_of_nobody`"),
    "none": ("other = 1", "There is no `agent` in"),
    "number": ("agent = 7", "The target is a int, which is no agent"),
    "class": ("class agent:\n    pass", "The target is a class, which is no agent"),
    "arguments": ("def agent():\n    return ''", "cannot be called with one argument"),
}


@pytest.mark.parametrize(("text", "why"), UNUSABLE.values(), ids=UNUSABLE)
async def test_an_agent_that_cannot_be_loaded_is_named_and_harms_no_other(
    text: str, why: str, write: Write, tmp_path: Path
) -> None:
    target = f"{write(text)}:agent"
    good = f"{write(FUNCTION)}:agent"

    async with serving(tmp_path, configured({"target": target}, {"target": good})) as served:
        async with served.ask() as response:
            answer = await response.json()
            assert response.status == 502
        other = await served.text(model="opensoul/a1")
        state = await served.container.python_agents().loaded("main")

    assert answer["error"]["code"] == "agent_failed"
    assert "cannot be loaded" in answer["error"]["message"]
    assert other == "hello !"
    assert state.status is Status.FAILED
    assert why in state.what


async def test_a_blocking_agent_stalls_nobody_and_later_runs_go_on(
    write: Write, tmp_path: Path
) -> None:
    name = write("""
        import threading
        import time
        release = threading.Event()
        async def agent(run):
            yield "begun"
            if run.text == "block":
                release.wait(60)
            yield "."
    """)
    good = f"{write(FUNCTION)}:agent"
    content = configured({"target": f"{name}:agent"}, {"target": good})

    async with serving(tmp_path, content) as served:
        async with served.ask(
            stream=True, messages=[{"role": "user", "content": "block"}]
        ) as response:
            await response.content.readuntil(b"begun")
            other = await served.text(model="opensoul/a1")
        later = await served.text()
        sys.modules[name].release.set()

    assert other == "hello !"
    assert later == "begun."


async def test_a_client_that_leaves_cancels_the_agent(write: Write, tmp_path: Path) -> None:
    name = write("""
        import asyncio
        import threading
        cancelled = threading.Event()
        async def agent(run):
            yield "begun"
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.set()
                raise
    """)

    async with serving(tmp_path, configured({"target": f"{name}:agent"})) as served:
        async with served.ask(stream=True) as response:
            await response.content.readuntil(b"begun")
        stopped = await asyncio.to_thread(sys.modules[name].cancelled.wait, 30)

    assert stopped


async def test_a_changed_target_is_in_force_for_the_next_run(write: Write, tmp_path: Path) -> None:
    first, second = write("def agent(run): return 'first'"), write("def agent(run): return '2nd'")

    async with serving(tmp_path, configured({"target": f"{first}:agent"})) as served:
        before = await served.text()
        served.configure(configured({"target": f"{second}:agent"}))
        async with asyncio.timeout(30):
            await served.container.reloads().applied()
        after = await served.text()

    assert (before, after) == ("first", "2nd")


SHARED = """
    import asyncio
    tools = []
    async def first(run):
        tools.append(asyncio.get_running_loop())
        yield "first"
    async def second(run):
        yield str(tools[0] is asyncio.get_running_loop())
"""


async def test_the_agents_of_a_module_share_their_loop_also_when_they_are_configured_anew(
    write: Write, tmp_path: Path
) -> None:
    name = write(SHARED)

    async with serving(tmp_path, configured({"target": f"{name}:first"})) as served:
        await served.text()
        served.configure(configured({"target": f"{name}:second"}))
        async with asyncio.timeout(30):
            await served.container.reloads().applied()
        same = await served.text()

    assert same == "True"


async def test_agents_are_imported_one_after_the_other(write: Write, tmp_path: Path) -> None:
    log = write("events = []\n")
    names = [
        write(f"""
            from {log} import events
            events.append("begin")
            sum(range(2_000_000))
            events.append("end")
            def agent(run): return "fine"
        """)
        for _ in range(4)
    ]

    targets = [{"target": f"{name}:agent"} for name in names]
    async with serving(tmp_path, configured(*targets)) as served:
        agents = served.container.python_agents()
        states = [await agents.loaded(agent) for agent in ("main", "a1", "a2", "a3")]

    assert [state.status for state in states] == [Status.READY] * 4
    assert sys.modules[log].events == ["begin", "end"] * 4


async def test_a_loop_that_is_no_longer_blocked_is_used_again(write: Write, tmp_path: Path) -> None:
    name = write("""
        import asyncio
        import threading
        release = threading.Event()
        async def agent(run):
            yield str(id(asyncio.get_running_loop()))
            if run.text == "block":
                release.wait(60)
    """)

    async with serving(tmp_path, configured({"target": f"{name}:agent"})) as served:
        before = await served.text()
        question = [{"role": "user", "content": "block"}]
        async with served.ask(stream=True, messages=question) as response:
            await response.content.readuntil(before.encode())
            meanwhile = await served.text()
            sys.modules[name].release.set()
            await response.read()
        async with asyncio.timeout(30):
            while await served.text() != before:
                pass  # It is used again once its loop has reported itself.

    assert meanwhile != before


async def test_the_function_of_the_documentation_works(write: Write, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "your-agent.md").read_text("utf-8")
    section = page.partition("## Plain functions")[2]
    name = write(section.partition("```python\n")[2].partition("```")[0])

    async with (
        serving(tmp_path, configured({"target": f"{name}:support"})) as served,
        served.ask({"x-opensoul-events": "tools"}) as response,
    ):
        answer = await response.json()

    assert answer["choices"][0]["message"]["content"].endswith("asked: hello")
    assert answer["usage"]["prompt_tokens"] == 120


async def test_tool_calls_of_a_function_are_in_the_history_of_the_next_turn(
    write: Write, tmp_path: Path
) -> None:
    name = write("""
        from opensoul.api import ToolFinished, ToolStarted
        async def agent(run):
            if run.history:
                for one in run.history:
                    for part in one.parts:
                        yield f"{one.role.value}:{getattr(part, 'text', None) or part.id} "
                return
            yield "looking "
            yield [ToolStarted("c1", "look", "{}"), ToolStarted("c2", "look", "{}")]
            yield ToolFinished("c2", False, "two")
            yield ToolFinished("c1", True, "one")
            yield "found"
            yield ToolStarted("c3", "look", "{}")
    """)

    async with serving(tmp_path, configured({"target": f"{name}:agent"})) as served:
        first = await served.text(user="u")
        second = await served.text(user="u")

    assert first == "looking found"
    assert second.split(" ") == [
        *("user:hello", "assistant:looking", "", "assistant:c1", "assistant:c2"),
        *("tool:one", "tool:two", "assistant:found", "assistant:c3"),
        *("tool:The", "function", "ended", "before", "the", "tool.", ""),
    ]


async def test_a_generator_is_executed_and_closed_in_one_thread(
    write: Write, tmp_path: Path
) -> None:
    name = write("""
        import threading
        closed = []
        def agent(run):
            try:
                for _ in range(3):
                    yield f"{threading.get_ident()} "
            finally:
                closed.append(threading.get_ident())
    """)

    async with serving(tmp_path, configured({"target": f"{name}:agent"})) as served:
        threads = set((await served.text()).split())
        closed = sys.modules[name].closed

    assert threads == {str(ident) for ident in closed}
    assert len(closed) == 1


async def test_a_function_that_raises_stop_iteration_fails(write: Write, tmp_path: Path) -> None:
    name = write("""
        def agent(run):
            raise StopIteration
    """)

    async with (
        serving(tmp_path, configured({"target": f"{name}:agent"})) as served,
        served.ask() as response,
    ):
        assert response.status == 502
        assert "failed with StopIteration" in (await response.json())["error"]["message"]


WRONG = """
    import opensoul.api as api
    class Silent(Exception):
        def __getattr__(self, name):
            if name == "status_code":
                raise RuntimeError("no attributes")
            raise AttributeError(name)
    def agent(run):
        if run.text == "silent":
            raise Silent
        if run.text == "answer":
            yield api.Answered(("x",), api.StopReason.STOP, api.Usage(1, 1), "m")
        if run.text == "ok":
            yield run.text
        else:
            yield eval(run.text, {"api": api})
"""


@pytest.mark.parametrize("isolation", ["thread", "process", "inline"])
async def test_events_with_wrong_fields_fail_their_run_alone(
    isolation: str, write: Write, tmp_path: Path
) -> None:
    content = configured({"target": f"{write(WRONG)}:agent", "isolation": isolation})
    wrong = [
        "api.TextDelta(5)",
        "api.ToolStarted(1, None, {})",
        "api.Usage(input='many', output=None)",
        "api.Usage(input=-5, output=0)",
        "api.Usage(input=0, output=10**30)",
        "api.Waiting('for ever')",
        "api.StepDone(1)",
        "silent",
        "answer",
    ]

    async with serving(tmp_path, content) as served:
        for text in wrong:
            async with served.ask(messages=[{"role": "user", "content": text}]) as response:
                answer = await response.json()
            assert (response.status, answer["error"]["code"]) == (502, "agent_failed"), text
        assert await served.text(messages=[{"role": "user", "content": "ok"}]) == "ok"


async def test_halves_of_surrogate_pairs_cross_over_from_a_process(
    write: Write, tmp_path: Path
) -> None:
    content = configured({"target": f"{write(WRONG)}:agent", "isolation": "process"})

    async with serving(tmp_path, content) as served:
        text = await served.text(messages=[{"role": "user", "content": r"'a\ud800b'"}])

    assert text == "a\ud800b"


@pytest.mark.parametrize("isolation", ["thread", "inline", "process"])
async def test_a_module_may_run_a_loop_of_its_own_while_it_is_imported(
    isolation: str, write: Write, tmp_path: Path
) -> None:
    text = """
        import asyncio
        async def fetched():
            await asyncio.sleep(0)
            return "fetched"
        tools = asyncio.run(fetched())
        async def agent(run):
            await asyncio.wait_for(asyncio.sleep(0), 10)
            yield tools
    """
    content = configured({"target": f"{write(text)}:agent", "isolation": isolation})

    async with serving(tmp_path, content) as served:
        assert await served.text() == "fetched"
