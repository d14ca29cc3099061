"""Whatever parameters a client sends, it is answered in kind, and its connection stays."""

from __future__ import annotations

import asyncio
import types
import typing
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from opensoul.adapters.transports.control.protocol import METHODS
from opensoul.adapters.transports.control.protocol.problems import INTERNAL_ERROR
from tests.app.serving import SECRET, config, serving
from tests.control.client import Peer, Refused, connected

EXAMPLES = 12
"""For each method."""
PATIENCE = 0.2
"""Seconds for an answer; some methods wait for what never comes."""
LEFT_OUT = ("gateway.stop",)

TEXTS = st.sampled_from(
    (
        *("main", "agent:main:main", "agent:x:y", "agent:main:\ud800", "\ud800", "a\udfff", "\x00"),
        *("", "../../etc/passwd", " /new\n", "9" * 5_000, "0001-01-01", "9999-12-31", "x" * 256),
        *("1e400", "operator", "operator.admin", "AGENTS.md", "running", "%s{0}", "\u2028", "m"),
    )
)
NUMBERS = st.sampled_from([0, 1, -1, 2**31, 2**53, 2**63 - 1, 2**64, 10**300, 10**4_299, 500])
ANYTHING: st.SearchStrategy[Any] = (
    st.none() | TEXTS | NUMBERS | st.lists(TEXTS, max_size=2) | st.just({"a": {"b": [[]]}})
)


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """What fits a parameter by its kind, though seldom by its meaning."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return values(parts[0])
    if origin is typing.Literal:
        return st.sampled_from(parts)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([values(part) for part in parts])
    if origin is list:
        return st.lists(values(parts[0]), max_size=3)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return params_of(annotation)
    simple = {str: TEXTS, int: NUMBERS, float: NUMBERS, bool: st.booleans(), type(None): st.none()}
    return simple.get(annotation, ANYTHING)


def params_of(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    # A path would be made where it says, outside of what the test may touch.
    known = {n: values(f.annotation) for n, f in fields.items() if n != "workspace"}
    needed = {name: known[name] for name in known if fields[name].is_required()}
    return st.fixed_dictionaries(
        needed, optional={name: known[name] for name in known if name not in needed}
    )


def examples(strategy: st.SearchStrategy[Any]) -> list[Any]:
    """The same ones each time."""
    found: list[Any] = []

    @settings(
        max_examples=EXAMPLES,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy | ANYTHING)
    def find(value: Any) -> None:
        found.append(value)

    find()
    return found


async def refusal(peer: Peer, method: str, params: Any) -> str | None:
    """What the first answer refuses with; None where it does not, or is not there in time."""
    try:
        async with asyncio.timeout(PATIENCE):
            await peer.call(method, params)
    except Refused as refused:
        return str(refused)
    except TimeoutError:
        return None
    return None


def test_no_parameters_of_any_method_fail_the_gateway(tmp_path: Path) -> None:
    content = config(
        agents={"defaults": {"model": {"primary": "s/m"}, "workspace": str(tmp_path / "ws")}},
        models={"providers": {"s": {"api": "scripted", "models": [{"id": "m"}]}}},
    )
    failed: list[tuple[str, Any]] = []

    async def try_all() -> None:
        async with serving(tmp_path, content) as served, connected(served.client, SECRET) as peer:
            for name, handler in served.container.control().handlers().items():
                if name in LEFT_OUT:
                    continue
                for params in examples(params_of(handler.params)):
                    if await refusal(peer, name, params) == INTERNAL_ERROR.message:
                        failed.append((name, params))
            assert (await peer.call("health"))["ok"]

    asyncio.run(try_all())
    assert not failed


def test_what_has_no_meaning_here_is_answered_too(tmp_path: Path) -> None:
    async def try_all() -> None:
        async with serving(tmp_path, config()) as served, connected(served.client, SECRET) as peer:
            for method in METHODS.values():
                if method.missing is not None and method.role == "operator":
                    assert await refusal(peer, method.name, {"\ud800": 10**300}) == method.missing

    asyncio.run(try_all())
