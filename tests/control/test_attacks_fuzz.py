"""Whatever a client sends, the Gateway answers that request, in kind, and stays."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opensoul.adapters.transports.routes import METHODS
from tests.app.serving import SECRET, config, serving
from tests.control.client import Peer, Refused, connected

INTERNAL = "The Gateway failed because of an internal error."
# They end what the other examples need, or wait for what never comes.
LEFT_OUT = ("gateway.stop", "connect", "config.set", "config.apply", "config.patch")
NAMES = (
    "sessionKey key keys sessionId label agentId runId afterSeq timeoutMs limit cursor message "
    "idempotencyKey thinking attachments baseHash raw name content status offset search model "
    "maxChars maxBytes maxLines activeMinutes days before deviceId requestId role scopes text "
    "startDate endDate mode enabled reason spawnedBy thinkingLevel workspace timeout path probe"
).split()

texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            "\ud800",
            "a\udfffb",
            "\x00",
            "../../etc/passwd",
            "main",
            "agent:main:main",
            "agent:main:\ud800",
            " /new\n",
            "9" * 5_000,
            "0001-01-01",
            "9999-12-31",
            "x" * 300,
            "operator.admin",
            "operator",
            "AGENTS.md",
            "running",
            "1e400",
            "%s{0}",
        ]
    ),
)
numbers = st.one_of(
    st.integers(),
    st.sampled_from([2**31, 2**53, 2**63, 2**64, -(2**63), 10**300, 10**4_299, 1, 0, 86_400_000]),
    st.floats(allow_nan=False, allow_infinity=False),
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def _fields(method: str, served: Any) -> list[str]:
    shape = served.container.control().handlers().get(method)
    return [] if shape is None else [f.alias or n for n, f in shape.params.model_fields.items()]


def _params(names: list[str]) -> st.SearchStrategy[Any]:
    keys = st.sampled_from(names or NAMES) | st.sampled_from(NAMES)
    return st.dictionaries(keys, values, max_size=5) | values


async def _told(peer: Peer, method: str, params: Any) -> str | None:
    """What a refusal says; None where it is no refusal, or is still in work."""
    request = peer.send(method, params)
    try:
        async with asyncio.timeout(0.5):
            await peer.answer(request)
    except Refused as refused:
        return str(refused)
    except TimeoutError:
        return None
    return None


def test_no_parameters_of_any_method_fail_the_gateway(tmp_path: Path) -> None:
    found: dict[str, str] = {}

    async def try_all() -> None:
        content = config(
            agents={"defaults": {"model": {"primary": "s/m"}, "workspace": str(tmp_path / "ws")}},
            models={"providers": {"s": {"api": "scripted", "models": [{"id": "m"}]}}},
        )
        async with serving(tmp_path, content) as served, connected(served.client, SECRET) as peer:
            for method in METHODS:
                if method not in LEFT_OUT:
                    await try_one(peer, method, _fields(method, served))

    async def try_one(peer: Peer, method: str, names: list[str]) -> None:
        examples: list[Any] = []

        @settings(
            max_examples=EXAMPLES,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(_params(names))
        def gather(params: Any) -> None:
            examples.append(params)

        gather()
        examples.extend(_required(served_shape(method), names))
        for params in examples:
            text = await _told(peer, method, params)
            if text == INTERNAL:
                found[f"{method} {json.dumps(params)[:200]}"] = text

    def served_shape(method: str) -> str:
        return method

    def _required(method: str, names: list[str]) -> list[Any]:
        return []

    asyncio.run(try_all())
    assert not found


EXAMPLES = 25
