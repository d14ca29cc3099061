"""What was written for OpenClaw works unchanged: its names of models, headers, variables, files."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dependency_injector import providers

from examples.header_authenticator import PEOPLE, HeaderAuthenticator
from opensoul.adapters.config import Overrides
from opensoul.domain.access import Scope
from tests.app.grants import ask, people, through_proxy
from tests.app.grants import served as behind_proxy
from tests.app.serving import SECRET, Served, config, serving
from tests.app.serving import provider as fake
from tests.control.client import connected
from tests.fakes.provider import FakeProvider

__all__ = ["behind_proxy", "people"]
MODEL = ("x-opensoul-model", "x-openclaw-model")
SCOPES = ("x-opensoul-scopes", "x-openclaw-scopes")


@asynccontextmanager
async def with_models(home: Path, provider: FakeProvider, **defaults: Any) -> AsyncIterator[Served]:
    content = config(
        provider.base_url,
        agents={"defaults": {"model": {"primary": "fake/m"}, **defaults}},
        models={"providers": {"fake": fake(provider.base_url, "m", "large", "secret")}},
    )
    async with serving(home, content) as served:
        yield served


@pytest.mark.parametrize(
    "model",
    [
        *(f"{product}{rest}" for product in ("openclaw", "OpenSoul") for rest in ("", "/default")),
        *(f"{product}{sep}main" for product in ("openclaw", "opensoul") for sep in "/:"),
        "agent:main",
    ],
)
async def test_every_name_of_a_model_finds_its_agent(served: Served, model: str) -> None:
    async with served.ask(model=model) as response:
        assert response.headers["x-opensoul-agent-id"] == "main"
        assert (await response.json())["model"] == model


@pytest.mark.parametrize("header", MODEL)
@pytest.mark.parametrize("name", ["fake/large", " fake/large ", "big"])
async def test_a_header_chooses_the_model_of_one_request(
    tmp_path: Path, provider: FakeProvider, header: str, name: str
) -> None:
    listed = {"fake/large": {"alias": "big"}}
    async with with_models(tmp_path, provider, models=listed) as served:
        await served.text({header: name}, user="ann")
        assert provider.requests[-1].json["model"] == "large"
        await served.text(user="ann")
        assert provider.requests[-1].json["model"] == "m"
        # The session's own choice gives way as well.
        async with connected(served.client, SECRET) as peer:
            await peer.call(
                "sessions.patch", {"key": "agent:main:openai-user:ann", "model": "fake/m"}
            )
        await served.text({header: name}, user="ann")
        assert provider.requests[-1].json["model"] == "large"
        await served.text({header: " "}, user="ann")
        assert provider.requests[-1].json["model"] == "m"


@pytest.mark.parametrize("header", MODEL)
@pytest.mark.parametrize("name", ["fake/secret", "openai/gpt-5", "nonsense"])
async def test_a_header_chooses_only_what_a_session_may(
    tmp_path: Path, provider: FakeProvider, header: str, name: str
) -> None:
    async with with_models(tmp_path, provider, models={"fake/large": {}}) as served:
        async with served.ask({header: name}) as response:
            error = (await response.json())["error"]
        assert (response.status, error["param"]) == (400, header)
        assert name in error["message"]
    assert provider.requests == []


async def test_a_side_task_takes_the_model_of_the_header(
    tmp_path: Path, provider: FakeProvider
) -> None:
    task = [{"role": "user", "content": "### Task:\nWrite a title."}]
    async with with_models(tmp_path, provider, sideTaskModel="fake/secret") as served:
        await served.text(messages=task)
        assert provider.requests[-1].json["model"] == "secret"
        await served.text({"x-openclaw-model": "fake/large"}, messages=task)
        assert provider.requests[-1].json["model"] == "large"


@pytest.mark.parametrize("header", SCOPES)
async def test_a_header_narrows_the_scopes_of_a_request(served: Served, header: str) -> None:
    for value in ("operator.write", "operator.read, operator.write", "operator.admin,future.scope"):
        async with served.ask({header: value}) as response:
            assert response.status == 200, value
            assert "x-opensoul-ignored" not in response.headers
    for value in ("operator.read", "", "future.scope"):
        async with served.ask({header: value}) as response:
            error = (await response.json())["error"]
        assert response.status == 403, value
        assert "operator.write" in error["message"]
    read = served.authorization | {header: "operator.read"}
    async with served.client.get("/v1/models", headers=read) as response:
        assert response.status == 200


@pytest.mark.parametrize("header", SCOPES)
async def test_a_run_has_the_scopes_of_its_request(served: Served, header: str) -> None:
    status = [{"role": "user", "content": "/status"}]
    hidden = "Pending approvals: not shown without the scope operator.approvals"

    assert hidden not in await served.text(messages=status)
    assert hidden in await served.text({header: "operator.write"}, messages=status)


@pytest.mark.parametrize("header", SCOPES)
async def test_a_header_gives_no_scope(
    behind_proxy: Served, people: HeaderAuthenticator, header: str
) -> None:
    reader = frozenset({Scope.READ})
    people.people["reader"] = replace(PEOPLE["grace"], id="reader", scopes=reader)
    headers = through_proxy("reader") | {header: "operator.admin, operator.write"}
    async with ask(behind_proxy, headers, model="opensoul:guide") as response:
        error = (await response.json())["error"]
    assert response.status == 403
    assert "operator.write" in error["message"]
    headers = through_proxy("grace") | {header: "operator.admin"}
    async with ask(behind_proxy, headers, model="opensoul:guide") as response:
        assert response.status == 200  # All that she has is covered.
    async with ask(behind_proxy, headers, model="opensoul:main") as response:
        assert response.status == 404


async def test_what_is_not_supported_of_the_other_names_is_named(served: Served) -> None:
    headers = {"x-openclaw-message-channel": "slack", "x-openclaw-account-id": "1"}
    async with served.ask(headers) as response:
        assert response.status == 200
        assert response.headers["x-opensoul-ignored"] == ", ".join(sorted(headers))


async def test_storing_may_be_asked_for(served: Served, provider: FakeProvider) -> None:
    async with served.ask(store=True) as response:
        assert response.status == 200
        assert "x-opensoul-ignored" not in response.headers
    assert "store" not in provider.requests[-1].json


@pytest.mark.parametrize("role", ["system", "developer"])
async def test_instructions_alone_are_no_question(served: Served, role: str) -> None:
    async with served.ask(messages=[{"role": role, "content": "Be brief."}]) as response:
        error = (await response.json())["error"]
    assert (response.status, error["param"]) == (400, "messages")


async def test_a_file_and_the_variables_of_the_other_name_are_used_on_request(
    tmp_path: Path, provider: FakeProvider
) -> None:
    path = tmp_path / ".openclaw" / "openclaw.json"
    path.parent.mkdir()
    content = {
        "meta": {"lastTouchedVersion": "2026.9.6"},
        "wizard": {"lastRunCommand": "onboard"},
        "channels": {"telegram": {"enabled": False}},
        "gateway": {
            "mode": "local",
            "bind": "loopback",
            "auth": {"mode": "token", "token": "${OPENCLAW_GATEWAY_TOKEN}"},
            "http": {"endpoints": {"chatCompletions": {"enabled": True}}},
        },
        "agents": {"defaults": {"model": {"primary": "fake/m"}}},
        "models": {"mode": "merge", "providers": {"fake": fake(provider.base_url)}},
    }
    path.write_text(f"// as the other program writes it\n{json.dumps(content)}")
    state = tmp_path / "claw-state"
    env = {"OPENCLAW_STATE_DIR": str(state), "OPENCLAW_GATEWAY_TOKEN": SECRET}
    async with serving(
        tmp_path,
        {},
        overrides=providers.Object(Overrides(config_path=str(path))),
        env=providers.Object(env),
    ) as served:
        headers = {"x-openclaw-agent-id": "main", "x-openclaw-session-key": "trip"}
        async with served.ask(headers, model="openclaw:main") as response:
            assert response.status == 200, await response.text()
            assert response.headers["x-opensoul-session-key"] == "agent:main:trip"
            assert response.headers["x-opensoul-session-bound-by"] == "x-opensoul-session-key"
        async with served.client.get("/v1/models", headers={"x-api-key": SECRET}) as response:
            assert response.status == 200
    assert (state / "opensoul.sqlite3").exists()
