"""Health, status, presence, heartbeats, the log and stopping the Gateway."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from .....domain.access import Scope
from .....domain.text import check_name
from ..broadcast import Hub
from ..connection import Call, NoParams, Params
from ..dependencies import Dependencies
from ..health_report import HealthReport
from ..protocol import Count, Name, Text
from .chat import Heartbeats
from .service import ControlService, answers


class HealthParams(Params):
    """`probe` has no effect: the health is always determined anew."""

    probe: bool | None = None


class StatusParams(Params):
    """`include_channel_summary` has no effect: there are no channels."""

    include_channel_summary: bool | None = None


class ChannelsParams(Params):
    """The parameters have no effect: there are no channels."""

    probe: bool | None = None
    timeout_ms: Count | None = None


class LogParams(Params):
    """`cursor`: of a previous response, for the lines since. `max_bytes`: bytes of text."""

    cursor: Count | None = None
    limit: Annotated[int, Field(ge=1, le=5_000)] = 500
    max_bytes: Annotated[int, Field(ge=1, le=1_000_000)] = 250_000


class HeartbeatParams(Params):
    """`enabled`: whether `wake` may start runs."""

    enabled: bool


class WakeParams(Params):
    """`mode`: process the text now, or with the next heartbeat."""

    text: Annotated[str, Field(min_length=1)]
    mode: Literal["now", "next-heartbeat"] = "now"


class EventParams(Params):
    """Information of a program about itself; further fields are added to its presence."""

    model_config = ConfigDict(extra="allow")

    text: Annotated[str, Field(min_length=1, max_length=4_096)]
    reason: Text | None = None
    device_id: Name | None = None
    instance_id: Name | None = None


class StopParams(Params):
    """`reason` is sent to all clients."""

    reason: Text | None = None


class SystemMethods(ControlService):
    def __init__(self, dependencies: Dependencies, hub: Hub, health: HealthReport) -> None:
        super().__init__(dependencies, hub)
        self.health = health
        self.heartbeats = Heartbeats(dependencies, hub)

    @answers("health", HealthParams)
    async def _health(self, call: Call, params: HealthParams) -> object:
        return await self.health.health()

    @answers("status", StatusParams)
    async def _status(self, call: Call, params: StatusParams) -> object:
        return await self.health.status(call)

    @answers("system-presence", NoParams)
    async def _presence(self, call: Call, params: NoParams) -> object:
        return self.hub.presence.entries()

    @answers("system-event", EventParams)
    async def _event(self, call: Call, params: EventParams) -> object:
        connection = call.connection
        key = params.device_id or params.instance_id or connection.client.instance_id
        fields = {
            name: value
            for name, value in params.model_dump(by_alias=True, exclude_none=True).items()
            if isinstance(value, str | int | float | bool | list) and len(str(value)) <= 4_096
        }
        for name, value in fields.items():
            if isinstance(value, str) and name not in ("text", "reason"):
                check_name(value, check_name(name, "the name of a property"))
        self.hub.presence.update(key or connection.id, {"ip": connection.address, **fields})
        self.hub.schedule_presence()
        return {"ok": True}

    @answers("last-heartbeat", NoParams)
    async def _last_heartbeat(self, call: Call, params: NoParams) -> object:
        return await self.heartbeats.last()

    @answers("set-heartbeats", HeartbeatParams)
    async def _set_heartbeats(self, call: Call, params: HeartbeatParams) -> object:
        await self.heartbeats.turn(params.enabled)
        return {"ok": True, "enabled": params.enabled}

    @answers("wake", WakeParams)
    async def _wake(self, call: Call, params: WakeParams) -> object:
        if params.mode == "next-heartbeat":
            await self.heartbeats.note(params.text)
            return {"ok": True, "mode": params.mode}
        run_id = await self.heartbeats.wake(call.principal, params.text)
        return {"ok": True, "mode": params.mode, "runId": run_id}

    @answers("logs.tail", LogParams)
    async def _logs(self, call: Call, params: LogParams) -> object:
        read = partial(
            self.dependencies.read_log,
            params.cursor,
            limit=params.limit,
            max_bytes=params.max_bytes,
        )
        tail = await asyncio.to_thread(read)  # Formatting thousands of lines takes a while.
        payload: dict[str, object] = {
            "file": self._file(call),
            "cursor": tail.cursor,
            "size": tail.cursor,
            "lines": list(tail.lines),
        }
        if tail.truncated:
            payload["truncated"] = True
        if tail.reset:
            payload["reset"] = True
        return payload

    def _file(self, call: Call) -> str | None:
        """The path of the log; redacted unless the principal is an administrator."""
        file = self.dependencies.log_file()
        return file if file is None or call.principal.may(Scope.ADMIN) else "[redacted]"

    @answers("channels.status", ChannelsParams)
    async def _channels(self, call: Call, params: ChannelsParams) -> object:
        return {
            "ts": int(self.clock() * 1_000),
            "channelOrder": [],
            "channelLabels": {},
            "channels": {},
            "channelAccounts": {},
            "channelDefaultAccountId": {},
        }

    @answers("gateway.stop", StopParams)
    async def _stop(self, call: Call, params: StopParams) -> object:
        self.hub.begin_shutdown(params.reason or f"stopped by {call.principal.id}")
        self.dependencies.stop()
        return {"ok": True}
