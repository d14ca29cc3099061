"""A Toolbox that offers and runs what the policy of the agent allows."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import pytest

from opensoul.adapters.persistence.memory import MemoryApprovals
from opensoul.adapters.tools import PolicyToolbox
from opensoul.domain.messages import ToolCall
from opensoul.domain.ports import ToolContext
from opensoul.domain.scopes import Scope
from opensoul.domain.sessions import SessionKey
from opensoul.domain.tools import (
    Approval,
    Ask,
    Decision,
    ExecRules,
    Names,
    Security,
    ToolOutput,
    ToolPolicy,
    ToolResult,
    ToolRules,
    ToolSpec,
    approval_id,
)
from tests.fakes.domain import agent, target

SPECS = tuple(ToolSpec(name, f"{name}s.") for name in ("read", "write", "exec", "sessions_list"))
KEY = "run-1:1:c1"
NOTHING = ToolRules()


@dataclass
class Known:
    """A Toolbox of the tools above, which remembers what it ran."""

    specs: Sequence[ToolSpec] = SPECS
    listed: int = 0
    ran: list[ToolCall] = field(default_factory=list)
    running: int = 0
    closed: int = 0

    async def tools(self, context: ToolContext) -> Sequence[ToolSpec]:
        self.listed += 1
        return self.specs

    async def run(
        self, context: ToolContext, call: ToolCall, *, key: str
    ) -> AsyncGenerator[ToolOutput | ToolResult]:
        self.ran.append(call)
        self.running += 1
        try:
            yield ToolOutput("working")
            yield ToolResult(f"{call.name}: done with {key}")
        finally:
            self.running -= 1

    async def close(self) -> None:
        self.closed += 1


@dataclass
class Bench:
    """A PolicyToolbox over known tools, for a run of the agent `main` with these rules."""

    rules: ToolRules = NOTHING
    session: str = "talk"
    known: Known = field(default_factory=Known)
    book: MemoryApprovals = field(default_factory=MemoryApprovals)

    def __post_init__(self) -> None:
        self.toolbox = PolicyToolbox(self.known, self.book)
        policy = ToolPolicy(self.rules)
        main = agent("main", target("acme/one"), target("careful/two"), tools=policy)
        self.context = ToolContext(main, "run-1", SessionKey("main", self.session), "operator")

    async def offered(self) -> dict[str, ToolSpec]:
        return {spec.name: spec for spec in await self.toolbox.tools(self.context)}

    async def result(self, call: ToolCall, key: str = KEY) -> ToolOutput | ToolResult:
        async with aclosing(self.toolbox.run(self.context, call, key=key)) as outputs:
            return [output async for output in outputs][-1]

    async def decided(self, decision: Decision, **changes: object) -> None:
        """Keep an approval of the call `exec`, with changes, as decided."""
        call = exec_call("id")
        key = approval_id(KEY, call)
        approval = Approval(key, "run-1", "operator", call, 0.0, 600.0, agent_id="main")
        await self.book.add(replace(approval, **changes))  # type: ignore[arg-type]
        await self.book.decide(approval.id, decision, by="someone", at=1.0)


def exec_call(command: str) -> ToolCall:
    return ToolCall("c1", "exec", json.dumps({"command": command}))


def allow(*entries: str, ask: Sequence[str] = (), exec_rules: ExecRules | None = None) -> ToolRules:
    return ToolRules(allow=Names(entries), ask=Names(tuple(ask)), exec=exec_rules or ExecRules())


ON_MISS = allow("exec", exec_rules=ExecRules(ask=Ask.ON_MISS, allowlist=("git log *",)))
LISTED = allow("exec", exec_rules=ExecRules(Security.ALLOWLIST, allowlist=("git log *",)))


async def test_without_rules_nothing_is_offered_and_no_source_is_consulted() -> None:
    bench = Bench()

    assert await bench.offered() == {}
    result = await bench.result(ToolCall("c1", "read", "{}"))

    assert result == ToolResult(
        "denied: 'read' is not allowed here (no profile, allow or alsoAllow names it)",
        is_error=True,
    )
    assert (bench.known.listed, bench.known.ran) == (0, [])


async def test_allowed_tools_are_offered_as_they_are() -> None:
    assert await Bench(allow("read", "write")).offered() == {
        spec.name: spec for spec in SPECS if spec.name in ("read", "write")
    }


async def test_an_allowed_call_is_run_by_its_source() -> None:
    bench = Bench(allow("read"))

    result = await bench.result(ToolCall("c1", "read", "{}"))

    assert result == ToolResult(f"read: done with {KEY}")


async def test_closing_the_stream_stops_the_call() -> None:
    bench = Bench(allow("read"))
    stream = bench.toolbox.run(bench.context, ToolCall("c1", "read", "{}"), key=KEY)

    assert await anext(stream) == ToolOutput("working")
    assert bench.known.running == 1
    await stream.aclose()

    assert bench.known.running == 0


@pytest.mark.parametrize("name", ["write", "exec", "unknown", "READ "])
async def test_a_call_that_was_not_offered_is_refused(name: str) -> None:
    bench = Bench(allow("read"))
    await bench.offered()

    result = await bench.result(ToolCall("c1", name, '{"command": "id"}'))

    assert isinstance(result, ToolResult)
    assert result.is_error
    assert result.text == f"denied: {name!r} is not allowed here (tools.allow does not name it)"
    assert bench.known.ran == []


async def test_the_models_of_the_agent_and_its_session_count() -> None:
    by_provider = {"careful": ToolRules(deny=Names(("exec",)))}
    rules = replace(allow("*"), by_provider=by_provider)

    assert list(await Bench(rules).offered()) == ["read", "write", "sessions_list"]
    assert list(await Bench(rules, session="subagent:1").offered()) == ["read", "write"]


async def test_tools_that_ask_are_offered_as_such() -> None:
    offered = await Bench(allow("read", "write", ask=["write"])).offered()

    assert not offered["read"].ask
    assert offered["write"].ask
    assert offered["write"].asks(ToolCall("c1", "write", "{}"))


async def test_whether_a_command_asks_depends_on_its_arguments() -> None:
    offered = await Bench(ON_MISS).offered()

    assert offered["exec"].ask
    assert not offered["exec"].asks(exec_call("git log -n 3"))
    assert offered["exec"].asks(exec_call("git push"))


async def test_a_source_says_itself_which_of_its_calls_ask() -> None:
    spec = ToolSpec("read", "", ask=True, ask_if=lambda call: "secret" in call.arguments)
    bench = Bench(allow("read"), known=Known([spec]))
    offered = await bench.offered()

    assert offered["read"].asks(ToolCall("c1", "read", '{"path": "secret"}'))
    assert not offered["read"].asks(ToolCall("c1", "read", '{"path": "x"}'))
    assert await bench.result(ToolCall("c1", "read", '{"path": "x"}')) == ToolResult(
        f"read: done with {KEY}"
    )


async def test_a_command_outside_the_allow_list_is_refused() -> None:
    bench = Bench(LISTED)
    offered = await bench.offered()

    assert not offered["exec"].asks(exec_call("git push"))
    refused = await bench.result(exec_call("git push"))
    ran = await bench.result(exec_call("git log"))

    assert refused == ToolResult(
        "denied: 'exec' is not allowed here (tools.exec.allowlist does not name it)",
        is_error=True,
    )
    assert ran == ToolResult(f"exec: done with {KEY}")
    assert bench.known.ran == [exec_call("git log")]


async def test_a_call_that_needs_an_approval_runs_with_it() -> None:
    bench = Bench(ON_MISS)
    await bench.decided(Decision.ALLOW)

    assert await bench.result(exec_call("id")) == ToolResult(f"exec: done with {KEY}")


@pytest.mark.parametrize(
    ("decision", "changes", "key"),
    [
        pytest.param(Decision.DENY, {}, KEY, id="denied"),
        pytest.param(Decision.ALLOW, {"expires_at": 0.5}, KEY, id="expired"),
        pytest.param(Decision.ALLOW, {"run_id": "run-2"}, KEY, id="another run's"),
        pytest.param(Decision.ALLOW, {"agent_id": "beta"}, KEY, id="another agent's"),
        pytest.param(Decision.ALLOW, {"call": exec_call("ls")}, KEY, id="other arguments"),
        pytest.param(
            Decision.ALLOW, {"call": replace(exec_call("id"), name="write")}, KEY, id="other tool"
        ),
        pytest.param(Decision.ALLOW, {}, "run-1:2:c1", id="of another step"),
    ],
)
async def test_a_call_without_an_approval_of_its_own_is_refused(
    decision: Decision, changes: dict[str, object], key: str
) -> None:
    bench = Bench(ON_MISS)
    await bench.decided(decision, **changes)

    result = await bench.result(exec_call("id"), key)

    assert result == ToolResult(
        "denied: nobody approved this call of 'exec' (tools.exec.ask: on-miss)", is_error=True
    )
    assert bench.known.ran == []


async def test_a_call_that_nobody_has_decided_on_is_refused() -> None:
    bench = Bench(allow("write", ask=["*"]))
    call = ToolCall("c1", "write", "{}")
    await bench.book.add(
        Approval(approval_id(KEY, call), "run-1", "operator", call, 0.0, 600.0, agent_id="main")
    )

    result = await bench.result(call)

    assert isinstance(result, ToolResult)
    assert result.text == "denied: nobody approved this call of 'write' (tools.ask: *)"


async def test_closing_closes_the_sources() -> None:
    bench = Bench()

    await bench.toolbox.close()

    assert bench.known.closed == 1


async def test_a_run_of_a_principal_without_the_scope_cannot_write() -> None:
    bench = Bench(allow("*"))
    bench.context = replace(bench.context, scopes=frozenset({Scope.READ}))

    assert await bench.offered() == {}
    result = await bench.result(exec_call("id"))

    assert isinstance(result, ToolResult)
    assert result.text == "denied: 'exec' is not allowed here (missing scope: operator.write)"
    assert bench.known.ran == []
