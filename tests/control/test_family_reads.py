"""Reading, in the shapes in which the family's clients of 2026.9 ask."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from opensoul.adapters.transports.control.protocol import METHODS
from opensoul.adapters.transports.control.protocol.frames import Frame
from opensoul.adapters.transports.control.protocol.problems import UnknownProperties
from tests.app.serving import Served
from tests.control.client import Peer, Refused
from tests.control.conftest import Enter

MAIN = "agent:main:main"


async def say(peer: Peer, text: str, key: str, session: str = MAIN) -> dict[str, Any]:
    """The event that ends the run."""
    await peer.call("chat.send", {"sessionKey": session, "message": text, "idempotencyKey": key})
    payload: dict[str, Any] = (await peer.event("chat", state="final", runId=key))["payload"]
    return payload


ASKED: list[tuple[str, dict[str, Any]]] = [
    (
        "sessions.list",
        {
            "configuredAgentsOnly": True,
            "hasBoard": False,
            "includePeople": True,
            "includeActivitySummary": True,
            "includeGlobal": True,
            "limit": 200,
        },
    ),
    ("sessions.messages.subscribe", {"key": MAIN, "includeApprovals": True}),
    ("models.list", {"view": "configured", "sessionKey": MAIN, "agentId": "main"}),
    (
        "sessions.usage",
        {
            "startDate": "2026-10-30",
            "endDate": "2026-11-28",
            "agentScope": "all",
            "mode": "specific",
            "timeZone": "UTC",
            "utcOffset": "UTC+0",
            "groupBy": "family",
            "includeHistorical": True,
            "limit": 1000,
            "includeContextWeight": False,
        },
    ),
    (
        "usage.cost",
        {"startDate": "2026-10-30", "endDate": "2026-11-28", "mode": "utc", "agentScope": "all"},
    ),
    ("chat.startup", {"sessionKey": MAIN, "limit": 80, "maxBytes": 262_144}),
    ("chat.metadata", {"agentId": "main", "sessionKey": MAIN}),
    ("models.authStatus", {"agentId": "main"}),
    ("system.info", {}),
    ("diagnostics.lanes", {}),
    ("gateway.nodes", {}),
    ("config.schema.lookup", {"path": "gateway.auth"}),
    ("update.status", {"refreshCheckout": True}),
    ("cron.list", {"agentId": "main", "compact": True, "enabled": "all"}),
    ("tasks.list", {"sessionKey": MAIN, "status": ["queued"], "limit": 200}),
    ("sessions.branches.list", {"sessionKey": MAIN}),
    ("logs.tail", {"limit": 500, "maxBytes": 250_000}),
]


async def test_what_the_clients_ask_for_is_answered(peer: Peer) -> None:
    for method, params in ASKED:
        assert await peer.call(method, params) is not None, method


async def test_a_reading_method_ignores_what_it_does_not_know(peer: Peer) -> None:
    for method in ("sessions.list", "agents.list", "config.get", "agent.wait", "device.pair.list"):
        known = {"runId": "none", "timeoutMs": 0} if method == "agent.wait" else {}
        told = await peer.call(method, {**known, "nextYears": {"deep": [1]}})
        assert told is not None, method
    scope = {"archived": "all", "nextYears": 1}
    assert (await peer.call("sessions.search", {"query": "x", "scope": scope}))["results"] == []


async def test_what_is_wrong_besides_is_still_refused(peer: Peer) -> None:
    with pytest.raises(Refused, match="at /limit") as refused:
        await peer.call("sessions.list", {"limit": 0, "nextYears": 1})
    assert "nextYears" not in str(refused.value)


async def test_a_writing_method_refuses_what_it_does_not_know(peer: Peer) -> None:
    for name, method in METHODS.items():
        if method.role != "operator" or method.reads or not method.implemented:
            continue
        if name in ("system-event", "gateway.stop"):  # One takes anything, one ends the test.
            continue
        with pytest.raises(Refused, match=f"invalid {name} params: .*'nextYears'"):
            await peer.call(name, {"nextYears": 1})


class Known(Frame):
    known: int = 0


def test_an_ignored_property_is_logged_once_for_each_method(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    unknown = UnknownProperties(most=3)
    for method, name in (("a", "x"), ("a", "x"), ("b", "x"), ("a", "y"), ("a", "z"), ("a", "w")):
        assert unknown.lenient(method, Known, {"known": 1, name: 2}) == Known(known=1)
    told = [record.__dict__ for record in caplog.records]
    named = [(one["method"], one["property"]) for one in told if "property" in one]
    assert named == [("a", "x"), ("b", "x"), ("a", "y")]
    assert len(told) == 4  # The last says that no more are named.


async def test_lists_that_mean_nothing_here_are_empty_and_say_why(peer: Peer) -> None:
    for name, key in (
        ("tasks.list", "tasks"),
        ("cron.list", "jobs"),
        ("node.list", "nodes"),
        ("skills.status", "skills"),
        ("environments.list", "environments"),
        ("plugins.list", "plugins"),
        ("channels.pairing.list", "requests"),
        ("sessions.branches.list", "branches"),
    ):
        told = await peer.call(name, {})
        assert told[key] == [], name
        assert told["note"] == METHODS[name].summary
    assert (await peer.call("talk.catalog", {}))["realtime"]["providers"] == []
    # These are read as they stand: a list, and an object without another key.
    for name in ("exec.approval.list", "plugin.approval.list", "openclaw.approval.list"):
        assert await peer.call(name, {}) == [], name


async def test_an_empty_list_needs_its_scope_as_any_other(enter: Enter) -> None:
    async with enter(scopes=["operator.read"]) as reader:
        assert (await reader.call("tasks.list", {}))["tasks"] == []
        for name in ("exec.approval.list", "question.list", "channels.pairing.list"):
            with pytest.raises(Refused, match="missing scope"):
                await reader.call(name, {})


async def test_a_page_of_jobs_is_one_that_clients_take(peer: Peer) -> None:
    page = await peer.call("cron.list", {"limit": 50, "offset": 0})
    assert page["snapshotRevision"]
    assert (page["offset"], page["total"], page["hasMore"], page["nextOffset"]) == (
        0,
        0,
        False,
        None,
    )
    assert 1 <= page["limit"] <= 50


async def test_sessions_have_a_title_from_the_first_question(peer: Peer) -> None:
    await say(peer, "What   is\na lobster?", "one")
    await say(peer, "And a crab?", "two")
    (row,) = (await peer.call("sessions.list", {"includeDerivedTitles": True}))["sessions"]
    assert row["derivedTitle"] == "What is a lobster?"
    # Only a label is a name that links are made of.
    assert "displayName" not in row
    history = await peer.call("chat.history", {"sessionKey": MAIN})
    assert history["sessionInfo"]["derivedTitle"] == "What is a lobster?"


async def test_a_session_is_resolved_by_the_digits_of_its_key(peer: Peer) -> None:
    first = await peer.call("sessions.create", {"label": "Blue Lobster"})
    second = await peer.call("sessions.create", {})
    digits = {one["key"]: one["key"].rpartition(":")[2].replace("-", "") for one in (first, second)}
    whole = {"shortId": digits[first["key"]], "slugHint": "chat", "agentId": "main"}
    named = {"ok": True, "key": first["key"], "agentId": "main", "displayName": "Blue Lobster"}
    assert await peer.call("sessions.resolve", whole) == named
    prefix = {"shortId": digits[first["key"]][:8].upper(), "slugHint": "blue-lobster"}
    assert await peer.call("sessions.resolve", prefix) == named
    startup = await peer.call("chat.startup", {**whole, "limit": 80})
    assert startup["sessionKey"] == first["key"]


async def test_a_short_id_of_several_sessions_names_them_all(peer: Peer) -> None:
    keys = {f"agent:main:chat:0123abcd-0000-4000-8000-00000000000{n}" for n in range(2)}
    for key in keys:
        await peer.call("sessions.create", {"key": key})
    told = await peer.call("sessions.resolve", {"shortId": "0123abcd"})
    assert told["ok"] is False
    assert {one["key"] for one in told["candidates"]} == keys


async def test_a_short_id_of_no_session_may_be_missing(peer: Peer) -> None:
    missing = {"shortId": "ffffffff", "agentId": "main", "allowMissing": True}
    assert await peer.call("sessions.resolve", missing) == {"ok": False}
    with pytest.raises(Refused, match="No session found: ffffffff"):
        await peer.call("sessions.resolve", {"shortId": "ffffffff"})
    for wrong in ("fff", "xyzxyzxyz", "0" * 33):
        with pytest.raises(Refused, match="8-32 hexadecimal"):
            await peer.call("sessions.resolve", {"shortId": wrong, "allowMissing": True})


async def test_messages_are_found_by_their_words(peer: Peer) -> None:
    await say(peer, "Tell me of the Blue lobster", "one")
    await say(peer, "a lobster that is green", "two", "agent:main:other")
    told = await peer.call("sessions.search", {"query": "LOBSTER blue"})
    (hit,) = told["results"]
    assert (hit["sessionKey"], hit["role"]) == (MAIN, "user")
    assert "Blue lobster" in hit["snippet"]
    history = await peer.call("chat.history", {"sessionKey": MAIN})
    assert hit["messageId"] == history["messages"][0]["messageId"]
    limited = await peer.call("sessions.search", {"query": "lobster", "limit": 1})
    assert (len(limited["results"]), limited["truncated"]) == (1, True)
    keys = {"query": "lobster", "sessionKeys": ["agent:main:other"]}
    assert len((await peer.call("sessions.search", keys))["results"]) == 1
    rows = await peer.call("sessions.search", {"query": "blue", "scope": {"agentId": "main"}})
    assert [row["key"] for row in rows["sessions"]] == [MAIN]


async def test_a_search_for_very_many_words_is_refused(peer: Peer) -> None:
    await say(peer, " ".join(f"w{n}" for n in range(64)), "one")
    words = [f"W{n}" for n in range(64)] * 2
    told = await peer.call("sessions.search", {"query": " ".join(words)})
    assert len(told["results"]) == 1
    with pytest.raises(Refused, match="65 different words; the limit is 64"):
        await peer.call("sessions.search", {"query": " ".join([*words, "more"])})


async def test_what_is_found_and_previewed_is_on_one_line(peer: Peer) -> None:
    await say(peer, "  \n one\n\n  two\tlobster " + "so on " * 100_000, "one")
    (hit,) = (await peer.call("sessions.search", {"query": "TWO LOBSTER"}))["results"]
    assert hit["snippet"].startswith("one two lobster so on so on")
    assert hit["snippet"].endswith("…")
    preview = await peer.call("sessions.preview", {"keys": [MAIN], "maxChars": 20})
    assert preview["previews"][0]["items"][0]["text"] == "one two lobster so …"


async def test_lines_of_the_log_have_the_names_of_the_protocol(peer: Peer, served: Served) -> None:
    ring = served.container.log_ring()
    extra = {"time": "forged", "subsystem": "forged"}
    record = logging.getLogger("opensoul.test").makeRecord(
        "opensoul.test", logging.WARNING, "f", 1, "look %s", ("here",), None, extra=extra
    )
    ring.handle(record)
    line = json.loads((await peer.call("logs.tail", {"limit": 1}))["lines"][0])
    assert (line["level"], line["subsystem"], line["message"]) == (
        "warn",
        "opensoul.test",
        "look here",
    )
    assert line["time"].endswith("Z")
    assert (line["time_"], line["subsystem_"]) == ("forged", "forged")


async def test_one_path_of_the_schema_can_be_looked_up(peer: Peer) -> None:
    told = await peer.call("config.schema.lookup", {"path": "gateway.auth"})
    children = {child["key"]: child for child in told["children"]}
    assert told["path"] == "gateway.auth"
    assert children["token"]["path"] == "gateway.auth.token"
    assert children["token"]["hint"]["sensitive"] is True
    port = await peer.call("config.schema.lookup", {"path": "gateway.port"})
    assert (port["reloadKind"], port["children"]) == ("restart", [])
    element = await peer.call("config.schema.lookup", {"path": "agents.list[0].id"})
    assert element["hintPath"] == "agents.list.*.id"
    whole = await peer.call("config.schema.lookup", {"path": "."})
    assert {"gateway", "agents", "models"} <= {child["key"] for child in whole["children"]}
    for path in ("gateway.nothing", "gateway.port.deeper"):
        with pytest.raises(Refused, match="path not found"):
            await peer.call("config.schema.lookup", {"path": path})


async def test_the_machine_and_its_lanes_are_told(peer: Peer, enter: Enter) -> None:
    told = await peer.call("system.info", {})
    assert told["memoryTotalBytes"] >= told["memoryFreeBytes"] >= 0
    assert told["diskTotalBytes"] > 0
    assert "diskPath" in told
    async with enter(scopes=["operator.read"]) as reader:
        assert "diskPath" not in await reader.call("system.info", {})
    (lane,) = (await peer.call("diagnostics.lanes", {}))["lanes"]
    assert (lane["activeCount"], lane["queuedCount"]) == (0, 0)
    assert lane["maxConcurrent"] > 0


async def test_the_nodes_of_a_gateway_without_a_database_are_itself(peer: Peer) -> None:
    (node,) = (await peer.call("gateway.nodes", {}))["nodes"]
    assert (node["role"], node["alive"], node["differs"], node["runs"]) == ("all", True, False, 0)
    assert node["seenAt"] >= node["startedAt"] > 0


async def test_a_link_names_a_session_by_reference(peer: Peer) -> None:
    created = await peer.call("sessions.create", {"key": "linked", "label": "Blue lobster"})
    reference = {"key": created["key"], "slug": "blue-lobster"}
    asked = {"agentId": "main", "includeGlobal": True, "includeUnknown": True, "allowMissing": True}

    told = await peer.call("sessions.resolve", {**asked, "reference": reference})

    assert (told["ok"], told["key"], told["agentId"]) == (True, created["key"], "main")
    missing = {"reference": {"key": "agent:main:nowhere"}}
    assert await peer.call("sessions.resolve", {**asked, **missing}) == {"ok": False}
