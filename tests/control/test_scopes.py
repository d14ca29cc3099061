"""One table of scopes for every source: strangers and those without the scope are refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from opensoul.adapters.transports import RouteTable
from opensoul.adapters.transports.control.protocol import METHODS
from opensoul.domain.access import Scope, covers
from tests.app.serving import SECRET, Served
from tests.control.client import Refused, connected, knocking
from tests.control.conftest import Enter

NAMED = sorted(name for name, method in METHODS.items() if method.scope is not None)


SECURITY = (Path(__file__).parents[2] / "SECURITY.md").read_text(encoding="utf-8")


def told() -> dict[Scope, set[str]]:
    """What SECURITY.md has in a scope's row: the names in it, methods among them."""
    names = {scope.value: scope for scope in Scope}
    found: dict[Scope, set[str]] = {}
    for row in re.findall(r"^\| (`operator\..*?) \| (.*) \|$", SECURITY, re.MULTILINE):
        words = set(re.findall(r"`([^`]+)`", row[1]))
        found |= {names[name]: words for name in re.findall(r"`([^`]+)`", row[0])}
    return found


def test_what_each_scope_can_do_at_worst_is_written_down() -> None:
    rows = told()
    assert set(rows) == set(Scope)
    for scope, words in rows.items():
        for method in (METHODS[word] for word in words if word in METHODS):
            assert method.scope is not None
            assert covers([scope], method.scope), (scope, method.name)


async def test_a_scope_of_which_nothing_is_told_opens_nothing(served: Served) -> None:
    needed = {method.scope for method in METHODS.values() if method.missing is None}
    needed |= {route.scope for route in RouteTable(served.container.transports())}
    for scope, words in told().items():
        if not words & set(METHODS):
            assert scope not in needed


def all_but(scope: Scope) -> list[str]:
    """Every scope that does not include this one."""
    return [other.value for other in Scope if not covers([other], scope)]


async def test_a_stranger_is_refused_every_method(served: Served) -> None:
    for name in sorted(METHODS):
        async with knocking(served.client) as stranger:
            with pytest.raises(Refused, match="first request must be connect"):
                await stranger.call(name, {})
            code, reason = await stranger.closed()
        assert code == 1008
        assert "first request must be connect" in reason


@pytest.mark.parametrize("protocol", [3, 4])
async def test_who_has_no_scope_is_refused_every_method(enter: Enter, protocol: int) -> None:
    async with enter(scopes=[], protocol=protocol) as peer:
        assert peer.hello["auth"]["scopes"] == []
        for name in NAMED:
            method = METHODS[name]
            if method.role != "operator":
                continue
            with pytest.raises(Refused, match=f"^missing scope: {method.scope}$") as refused:
                await peer.call(name, {})
            code = "FORBIDDEN" if protocol == 4 else "INVALID_REQUEST"
            assert refused.value.error["code"] == code
            assert refused.value.error["details"]["missingScope"] == method.scope


async def test_every_other_scope_does_not_help(served: Served) -> None:
    for scope in {METHODS[name].scope for name in NAMED}:
        assert scope is not None
        async with connected(served.client, SECRET, scopes=all_but(scope)) as peer:
            for name in NAMED:
                method = METHODS[name]
                if method.scope is scope and method.role == "operator":
                    with pytest.raises(Refused, match=f"^missing scope: {scope}$"):
                        await peer.call(name, {})


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("sessions.patch", {"key": "main", "execHost": "gateway"}),
        ("sessions.patch", {"key": "main", "sendPolicy": "deny"}),
        ("agent", {"message": "/new", "idempotencyKey": "k"}),
        ("agent", {"message": "hi", "model": "fake/m", "idempotencyKey": "k"}),
        ("chat.send", {"sessionKey": "main", "message": "/reset", "idempotencyKey": "k"}),
    ],
)
async def test_some_parameters_need_more(
    enter: Enter, method: str, params: dict[str, object]
) -> None:
    async with enter(scopes=["operator.write"]) as peer:
        with pytest.raises(Refused, match=r"^missing scope: operator\.admin$"):
            await peer.call(method, params)


async def test_methods_of_nodes_are_refused_to_operators_until_they_are_shut_out(
    enter: Enter,
) -> None:
    async with enter() as peer:
        for _ in range(10):
            with pytest.raises(Refused, match="unauthorized role: operator"):
                await peer.call("node.event", {})
        peer.send("node.event", {})
        assert await peer.closed() == (1008, "repeated unauthorized calls")


async def test_what_has_no_meaning_here_says_why(enter: Enter) -> None:
    async with enter(scopes=[scope.value for scope in Scope]) as peer:
        for method in METHODS.values():
            if method.missing is None or method.role != "operator":
                continue
            with pytest.raises(Refused) as refused:
                await peer.call(method.name, {"anything": 1})
            assert refused.value.error["code"] == "UNAVAILABLE"
            assert refused.value.error["message"] == method.missing


async def test_an_unknown_method_says_so_also_without_any_scope(enter: Enter) -> None:
    async with enter(scopes=[]) as peer:
        with pytest.raises(Refused, match=r"^unknown method: no\.such$") as refused:
            await peer.call("no.such", {})
        assert refused.value.error["code"] == "INVALID_REQUEST"


async def test_features_are_what_can_be_called(enter: Enter) -> None:
    async with enter() as peer:
        listed = peer.hello["features"]["methods"]
        assert sorted(listed) == sorted(
            name for name, method in METHODS.items() if method.missing is None
        )
        assert "agent" in listed


async def test_http_asks_for_the_same(served: Served) -> None:
    settings = served.container.settings()()
    for route in RouteTable(served.container.transports()):
        is_on = route.switch is None or route.switch.is_on(settings)
        path = route.path.replace("<path:model_id>", "opensoul")
        async with served.client.request(route.method, path, json={}) as response:
            assert response.status == (401 if route.scope is not None else 200 if is_on else 404)
