"""A request that is sent once more a little later is the same request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.app.serving import SECRET, config, serving
from tests.control.client import connected

SCRIPTED = {"providers": {"fake": {"api": "scripted", "models": [{"id": "m"}]}}}


def asked(key: str) -> dict[str, Any]:
    return {"message": "hi", "sessionKey": f"talk-{key}", "idempotencyKey": key}


async def test_in_memory_too_a_key_is_known_after_hundreds_of_others(tmp_path: Path) -> None:
    content = config(models=SCRIPTED, session={"store": ":memory:"})
    async with serving(tmp_path, content) as served, connected(served.client, SECRET) as peer:
        request = peer.send("agent", asked("first"))
        await peer.answer(request)
        first = await peer.answer(request)
        for batch in range(3):
            others = [peer.send("agent", asked(f"{batch}-{number}")) for number in range(100)]
            for other in others:
                await peer.answer(other)
                await peer.answer(other)

        again = await peer.call("agent", asked("first"))
        history = await peer.call("chat.history", {"sessionKey": "talk-first"})

    assert again == first
    assert len(history["messages"]) == 2
