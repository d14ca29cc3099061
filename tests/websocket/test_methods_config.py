"""The configuration file over the control protocol."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from opensoul.adapters.transports.control.connection.connection import (
    AnswerFailed,
    Call,
    Connection,
)
from opensoul.adapters.transports.control.methods.config import ConfigMethods
from opensoul.domain.errors import InvalidRequest
from opensoul.domain.ports.configuration import ConfigConflict
from tests.config.editable import editor
from tests.config.place import Place
from tests.websocket.methods import OPERATOR, READER, Bench, connection

TEXT = """{
  gateway: { auth: { token: "a secret of ours" }, reload: { mode: "hybrid" } }, // where
  agents: { list: [{ id: "main", name: "Molty" }] },
}
"""


class Desk:
    """A file, and what answers about it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.in_force = ""
        """The hash of what is in force; empty: that of the file."""
        self.looked = asyncio.Event()
        self.handlers = Bench().handlers_of(
            ConfigMethods, config=editor(place), applied=self._applied
        )

    def _applied(self) -> str:
        self.looked.set()
        return self.in_force or hashlib.sha256(self.place.file.read_bytes()).hexdigest()

    async def ask(self, method: str, client: Connection | None = None, **params: Any) -> Any:
        handler = self.handlers[method]
        call = Call(method, client or connection("admin", OPERATOR), lambda _: None)
        answer = await handler.run(call, handler.params.model_validate(params))
        return json.loads(json.dumps(answer))

    async def hash(self) -> str:
        told: str = (await self.ask("config.get"))["hash"]
        return told


@pytest.fixture
def session_service(tmp_path: Path) -> Desk:
    place = Place(tmp_path)
    place.write(TEXT)
    return Desk(place)


async def test_the_configuration_is_shown_without_its_secrets(session_service: Desk) -> None:
    told = await session_service.ask("config.get", connection("reader", READER))
    assert "a secret of ours" not in json.dumps(told)
    assert (told["path"], told["exists"], told["valid"]) == ("[redacted]", True, True)
    assert told["hash"] == told["configRevisionHash"]
    assert told["appliedConfigHash"] == told["hash"]
    assert told["config"]["agents"]["list"][0]["name"] == "Molty"
    assert told["parsed"]["gateway"]["reload"] == {"mode": "hybrid"}
    assert "// where" not in told["raw"]
    assert (told["issues"], told["legacyIssues"]) == ([], [])
    admin = await session_service.ask("config.get")
    assert admin["path"] == str(session_service.place.file)
    assert "// where" in admin["raw"]


async def test_what_is_wrong_with_the_file_is_told(session_service: Desk) -> None:
    session_service.place.write("{\n gateway: { port: 'x' } }")
    told = await session_service.ask("config.get")
    assert not told["valid"]
    assert told["issues"][0]["path"] == "gateway.port"
    assert told["issues"][0]["line"] == 2


async def test_the_schema_is_one_for_forms(session_service: Desk) -> None:
    told = await session_service.ask("config.schema")
    assert told["uiHints"]["gateway.auth.token"]["sensitive"]
    assert told["schema"]["properties"]["gateway"]


async def test_a_patch_leaves_what_it_does_not_concern(session_service: Desk) -> None:
    raw = '{ agents: { defaults: { maxWaiting: 5 } }, gateway: { auth: { token: "x" } } }'
    raw = raw.replace('"x"', '"__OPENSOUL_REDACTED__"')
    told = await session_service.ask(
        "config.patch", raw=raw, baseHash=await session_service.hash(), note="as asked"
    )
    assert (told["ok"], told["path"]) == (True, str(session_service.place.file))
    assert told["restart"] == {
        "ok": False,
        "reason": "applied without a restart",
        "mode": "hybrid",
    }
    text = session_service.place.file.read_text()
    assert "a secret of ours" in text
    assert "// where" in text
    assert session_service.place.load().settings.lanes.max_waiting == 5
    assert told["config"]["agents"]["defaults"]["maxWaiting"] == 5


async def test_the_answer_waits_until_the_file_is_in_force(session_service: Desk) -> None:
    given: dict[str, Any] = {
        "raw": "{ logging: { level: 'warn' } }",
        "baseHash": await session_service.hash(),
    }
    session_service.in_force = "an older one"
    session_service.looked.clear()
    asked = asyncio.create_task(session_service.ask("config.patch", **given))
    await session_service.looked.wait()
    assert not asked.done()
    session_service.in_force = ""
    assert (await asked)["ok"]


async def test_what_waits_for_a_restart_is_named(session_service: Desk) -> None:
    raw = '{ gateway: { port: 19000, bind: "loopback" }, session: { store: ":memory:" } }'
    told = await session_service.ask("config.patch", raw=raw, baseHash=await session_service.hash())
    assert told["restart"]["paths"] == ["gateway.port", "session.store"]
    assert "gateway.port, session.store" in told["restart"]["reason"]


async def test_a_gateway_that_does_not_reload_says_so(session_service: Desk) -> None:
    session_service.place.write('{ gateway: { reload: { mode: "off" } } }')
    told = await session_service.ask(
        "config.patch", raw="{ logging: { level: 'warn' } }", baseHash=await session_service.hash()
    )
    assert told["restart"]["mode"] == "off"
    assert "restart the Gateway" in told["restart"]["reason"]


async def test_a_text_replaces_the_file_with_its_secrets_put_back(session_service: Desk) -> None:
    shown = await session_service.ask("config.get")
    raw = shown["raw"].replace("Molty", "Clawd")
    told = await session_service.ask("config.set", raw=raw, baseHash=shown["hash"])
    assert (told["ok"], "restart" in told) == (True, False)
    assert session_service.place.file.read_text() == TEXT.replace("Molty", "Clawd")
    told = await session_service.ask(
        "config.apply", raw=TEXT, baseHash=await session_service.hash(), restartDelayMs=1
    )
    assert told["restart"]["reason"] == "applied without a restart"
    assert session_service.place.file.read_text() == TEXT


@pytest.mark.parametrize("method", ["config.set", "config.apply", "config.patch"])
async def test_an_edit_of_another_state_of_the_file_is_refused(
    session_service: Desk, method: str
) -> None:
    with pytest.raises(ConfigConflict, match="base hash required"):
        await session_service.ask(method, raw="{}")
    with pytest.raises(ConfigConflict, match="changed since last load"):
        await session_service.ask(method, raw="{}", baseHash="0" * 64)
    assert session_service.place.file.read_text() == TEXT


async def test_a_missing_file_can_be_written_without_a_hash(session_service: Desk) -> None:
    session_service.place.file.unlink()
    assert (await session_service.ask("config.set", raw="{ logging: { level: 'warn' } }"))["ok"]
    assert session_service.place.load().settings.logging.level == "warn"


@pytest.mark.parametrize("method", ["config.set", "config.apply", "config.patch"])
async def test_a_text_that_is_no_configuration_is_refused(
    session_service: Desk, method: str
) -> None:
    with pytest.raises(InvalidRequest):
        await session_service.ask(method, raw="{", baseHash=await session_service.hash())
    assert session_service.place.file.read_text() == TEXT


async def test_everything_that_would_be_wrong_is_told_and_nothing_written(
    session_service: Desk,
) -> None:
    raw = "{ gateway: { port: 'x' }, logging: { level: 'y' } }"
    with pytest.raises(AnswerFailed) as caught:
        await session_service.ask("config.apply", raw=raw, baseHash=await session_service.hash())
    error = caught.value.error
    assert error.code == "INVALID_REQUEST"
    assert error.message.startswith("invalid config: gateway.port")
    assert [one["path"] for one in error.details["issues"]] == ["gateway.port", "logging.level"]
    assert session_service.place.file.read_text() == TEXT


async def test_parameters_are_closed(session_service: Desk) -> None:
    for method, params in (
        ("config.get", {"x": 1}),
        ("config.set", {"raw": "{}", "note": "x"}),
        ("config.patch", {"raw": "{}", "restartDelayMs": 60_001}),
    ):
        with pytest.raises(ValidationError):
            await session_service.ask(method, **params)
