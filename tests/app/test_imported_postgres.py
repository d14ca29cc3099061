"""A Gateway moves from its files to a database: what its clients refer to is there afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opensoul.adapters.persistence.postgres import Database
from opensoul.adapters.persistence.postgres.transfer import Import, Source
from tests.app.keyed import bearer, created
from tests.app.nodes import serving_nodes
from tests.app.serving import Served, config, serving
from tests.persistence.odd_state import fill

ECHO = {"list": [{"id": "main", "runner": "echo"}]}


def content() -> dict[str, Any]:
    whole = config(agents=ECHO)
    whole["gateway"]["http"]["endpoints"]["responses"] = {"enabled": True}
    return whole


async def answered(served: Served, path: str, **body: Any) -> Mapping[str, Any]:
    headers = served.authorization
    async with served.client.post(path, json=body, headers=headers) as response:
        found: Mapping[str, Any] = await response.json()
        assert response.status == 200, found
        return found


async def read(served: Served, path: str) -> Any:
    async with served.client.get(path, headers=served.authorization) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def followed(served: Served, run_id: str) -> str:
    """The events behind the first one."""
    path = f"/v1/runs/{run_id}/events?after=1"
    async with served.client.get(path, headers=served.authorization) as response:
        assert response.status == 200
        return await response.text()


async def moved(state: Path, url: str) -> None:
    database = Database(url, connections=(1, 2))
    await database.open()
    with Source(state / "opensoul.sqlite3", state) as source:
        copy = Import(source, database, 86_400.0)
        await copy.copy(await copy.compare(), lambda *_: None)
    await database.close()


async def test_clients_go_on_with_what_they_refer_to(emptied_postgres: str, tmp_path: Path) -> None:
    once = {"Idempotency-Key": "the same"}
    async with serving(tmp_path, content()) as before:
        key = await created(before, "web")
        first = await before.text(once, user="u")
        response = await answered(before, "/v1/responses", model="opensoul", input="hello")
        newest = (await read(before, "/v1/runs?limit=1"))["data"][0]["id"]
        older = await read(before, f"/v1/runs?after={newest}")
        events = await followed(before, newest)

    await moved(tmp_path / "state", emptied_postgres)

    home = tmp_path / "nodes"
    home.mkdir()
    async with serving_nodes(home, emptied_postgres, content()) as nodes:
        one, other = nodes
        # The same request is not answered again; another one goes on with the conversation.
        assert await other.text(once, user="u") == first
        assert await one.text(user="u") == "[echo after 2 messages] hello"
        again = await read(other, f"/v1/responses/{response['id']}")
        assert again["output"] == response["output"]
        follows = {"previous_response_id": response["id"], "input": "and now"}
        third = await answered(one, "/v1/responses", model="opensoul", **follows)
        assert third["output"][0]["content"][0]["text"] == "[echo after 2 messages] and now"
        assert await read(one, f"/v1/runs?after={newest}") == older
        assert await followed(other, newest) == events
        async with other.client.get("/v1/models", headers=bearer(key)) as response_of_key:
            assert response_of_key.status == 200


async def test_nodes_that_run_meanwhile_execute_what_was_left(
    emptied_postgres: str, tmp_path: Path
) -> None:
    state, home = tmp_path / "state", tmp_path / "nodes"
    state.mkdir()
    home.mkdir()
    await fill(state)
    async with serving_nodes(home, emptied_postgres, content()) as (one, other):
        before = await one.text(user="u")
        await moved(state, emptied_postgres)
        events = other.container.run_events()
        statuses = []
        for run_id in ("first", "second", "third"):
            await events.ended(run_id)
            record = await events.find(run_id)
            assert record is not None
            statuses.append(str(record.status))
        # The first one had sent a part of its answer, which its client cannot take back.
        assert statuses == ["interrupted", "finished", "finished"]
        waiting = await events.find("open")
        assert waiting is not None
        assert str(waiting.status) == "waiting"
        assert before == "[echo after 0 messages] hello"
        assert await other.text(user="u") == "[echo after 2 messages] hello"
