"""Runs that wait for an approval, as clients of `/v1/runs` and repeated requests see them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.approvals.office import Office, calls
from tests.fakes.behaviours import answer
from tests.fakes.provider import PATIENCE

KEY = {"Idempotency-Key": "k"}


async def run_of(office: Office, run_id: str) -> Any:
    path = f"/v1/runs/{run_id}"
    async with office.served.client.get(path, headers=office.headers()) as response:
        return await response.json()


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_repeated_request_is_asked_for_the_same_approval(
    office: Office, stream: bool, again: bool
) -> None:
    asked = await office.asked(headers=KEY, stream=stream)

    repeated = await office.said("Send it.", headers=KEY, stream=again)

    assert (repeated.code, repeated.run_id) == (asked.code, asked.run_id)
    approved = await office.said(f"approve {asked.code}")
    assert (approved.text, approved.run_id) == ("It is sent.", asked.run_id)
    late = await office.said("Send it.", headers=KEY, stream=again)
    assert (late.text, late.run_id) == ("I send it. \n\nIt is sent.", asked.run_id)
    assert len(office.provider.requests) == 2


async def test_a_reader_that_leaves_lets_the_run_wait(office: Office) -> None:
    asked = await office.asked()
    path = f"/v1/runs/{asked.run_id}/events"
    async with (
        asyncio.timeout(PATIENCE),
        office.served.client.get(path, headers=office.headers()) as response,
    ):
        waiting = b""
        while b'"type":"waiting"' not in waiting:
            waiting = await response.content.readline()
        response.close()
    assert json.loads(waiting[6:])["approval_id"]

    assert (await run_of(office, asked.run_id))["status"] == "waiting"
    approved = await office.said(f"approve {asked.code}")
    assert approved.text == "It is sent."


async def test_the_ids_of_an_answer_that_asks_lead_to_what_comes_after(office: Office) -> None:
    office.provider.will(calls(), answer("It is sent."))
    body = {"model": "opensoul:guide", "messages": [{"role": "user", "content": "Send it."}]}
    headers = office.headers() | KEY
    async with office.served.client.post(
        "/v1/chat/completions", json=body | {"stream": True}, headers=headers
    ) as response:
        lines = (await response.text()).splitlines()
        run_id = response.headers["x-opensoul-run-id"]
    last = [line for line in lines if line.startswith("id: ")][-1].removeprefix("id: ")
    assert last == f"{run_id}:{(await run_of(office, run_id))['last_event']}"
    (code,) = {line.split("approve ")[1][:9] for line in lines if "\\napprove " in line}
    repeated = await office.said("Send it.", headers=KEY)
    assert repeated.code.startswith(code)
    await office.said(f"approve {repeated.code}")

    path, headers = f"/v1/runs/{run_id}/events", headers | {"Last-Event-ID": last}
    async with (
        asyncio.timeout(PATIENCE),
        office.served.client.get(path, headers=headers) as response,
    ):
        data = [line for line in (await response.text()).splitlines() if line[:6] == "data: "]
    events = [json.loads(line[6:]) for line in data]
    first = int(last.rpartition(":")[2]) + 1
    assert [event["seq"] for event in events] == list(range(first, first + len(events)))
    assert events[-1]["text"] == "I send it. \n\nIt is sent."
    assert "tool_finished" in [event["type"] for event in events]


async def test_a_waiting_run_is_cancelled(office: Office) -> None:
    asked = await office.asked()
    path = f"/v1/runs/{asked.run_id}/cancel"

    async with office.served.client.post(path, headers=office.headers()) as response:
        assert await response.json() == {"id": asked.run_id, "status": "aborted"}

    assert (await office.said(f"approve {asked.code}")).status in (404, 409)
    assert office.courier.sent == []
