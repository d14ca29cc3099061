"""Transports as data: which routes there are, what each needs, and what a request to it may use.

Authorization, limits, switches, docs/protocol.md and /openapi.json are made from these objects.
A route that is served but is in no Transport needs the highest scope, so that a forgotten
declaration refuses access and never opens a route.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ...domain.access import Scope
from ...domain.settings import Settings

if TYPE_CHECKING:
    from quart import Response

View = Callable[..., Awaitable["Response"]]
Upgrade = Callable[..., Awaitable["Response | None"]]
_VARIABLE = re.compile(r"<(?:(?P<converter>[^<>:(]+)(?:\([^<>]*\))?:)?(?P<name>[^<>]+)>")


SCHEMA_REF = "#/components/schemas/{model}"
"""How operations name schemas. Those in a schema's `$defs` move into the document's components."""


def json_content(schema: Mapping[str, Any], **examples: object) -> dict[str, Any]:
    """The media type map of an operation for a JSON body of that schema; `examples` are bodies."""
    media: dict[str, Any] = {"schema": schema}
    if examples:
        media["examples"] = {name: {"value": value} for name, value in examples.items()}
    return {"application/json": media}


def object_schema(optional: Mapping[str, Any], **required: Any) -> dict[str, Any]:
    """The JSON Schema of an object, by those of its fields."""
    needed = {"required": list(required)} if required else {}
    return {"type": "object", **needed, "properties": {**required, **optional}}


_STRING = {"type": "string"}
ANTHROPIC_ERROR = {
    "$ref": SCHEMA_REF.format(model="MessagesError"),
    "$defs": {
        "MessagesError": object_schema(
            {},
            type={"const": "error"},
            error=object_schema(
                {"param": {**_STRING, "description": "The field or header at fault."}},
                type=_STRING,
                message=_STRING,
            ),
            request_id=_STRING,
        )
    },
}
"""The JSON Schema of errors for clients of Anthropic's API."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may use: bytes of its body, seconds to send it, and seconds that a client may
    leave its answer unread. `setting`: the section of the configuration that holds them, which
    refusals name; empty where they are fixed."""

    body_bytes: int = 1024 * 1024
    body_timeout: float = 60.0
    write_timeout: float = 60.0
    setting: str = ""


_DEFAULT = Limits()
_LimitsSource = Limits | Callable[[Settings], Limits]


@dataclass(frozen=True, slots=True)
class Switch:
    """The setting `key` that turns routes on. `subject` begins the sentence of their refusal."""

    subject: str
    key: str
    is_on: Callable[[Settings], bool]


@dataclass(frozen=True, slots=True)
class Route:
    """One path and method. The path is spelled as in Quart; GET answers HEAD, too.

    `scope`: what a client needs; None: the route is open to everybody. `limits`: fixed, or read
    from the settings in force when a request arrives. `operation`: what the OpenAPI document says
    of the route beyond that (https://spec.openapis.org/oas/v3.1.1#operation-object). `errors`:
    statuses of refusals that do not follow from the other fields; the document lists them as well.
    """

    path: str
    method: str
    scope: Scope | None
    view: View
    summary: str = ""
    limits: _LimitsSource = _DEFAULT
    switch: Switch | None = None
    operation: Callable[[], Mapping[str, Any]] = dict
    errors: Sequence[int] = ()

    @property
    def variables(self) -> tuple[tuple[str, str], ...]:
        """The name of each variable in the path, and its spelling there."""
        return tuple((found["name"], found[0]) for found in _VARIABLE.finditer(self.path))


async def nothing() -> None:
    """For transports that need no start or stop."""


@dataclass(frozen=True, slots=True)
class Transport:
    """One way for clients to reach the Gateway.

    `start` is awaited once the Gateway is ready for runs, and before the port is served; `stop`
    when the last run has ended, before the stores are closed. `upgrade` answers WebSocket upgrades
    on `upgrade_path`, or on every path that no other transport has where that is empty, and
    authenticates its clients itself; of each path, at most one transport answers them.
    """

    name: str
    routes: tuple[Route, ...] = ()
    start: Callable[[], Awaitable[None]] = nothing
    stop: Callable[[], Awaitable[None]] = nothing
    upgrade: Upgrade | None = None
    upgrade_path: str = ""


class RouteTable:
    """The routes of all transports.

    Raises ValueError where two transports have one name, or two routes one path and method.
    """

    def __init__(self, transports: Iterable[Transport] = ()) -> None:
        self.transports = tuple(transports)
        names = [transport.name for transport in self.transports]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two transports have the name {min(repeated)!r}")
        paths = [one.upgrade_path for one in self.transports if one.upgrade is not None]
        if repeated := {path for path in paths if paths.count(path) > 1}:
            where = min(repeated) or "every path"
            raise ValueError(f"two transports answer WebSocket upgrades on {where}")
        self._by_rule = _by_rule(self)
        self._sources = tuple(dict.fromkeys(route.limits for route in self)) or (_DEFAULT,)
        self._in_force: _InForce | None = None
        self.methods = tuple(sorted({method for _, method in self._by_rule}))
        """Those of all routes."""
        self._patterns = tuple((_pattern(route), route.switch) for route in self)
        self._switched = tuple((p, switch) for p, switch in self._patterns if switch is not None)

    def __iter__(self) -> Iterator[Route]:
        return (route for transport in self.transports for route in transport.routes)

    def find(self, path: str, method: str) -> Route | None:
        """The route with that path, as it is spelled in the table, and that method or HEAD."""
        return self._by_rule.get((path, method))

    def switch_at(self, path: str) -> Switch | None:
        """The switch of the routes that answer a request's path, with whatever method."""
        return next((switch for pattern, switch in self._switched if pattern.fullmatch(path)), None)

    def near(self, path: str) -> str:
        """The path of a route that `path` differs from by slashes at its end or by `/v1`; empty
        where there is none."""
        plain = path.rstrip("/")
        for other in (plain, f"/v1{plain}", plain.removeprefix("/v1")):
            if other != path and any(pattern.fullmatch(other) for pattern, _ in self._patterns):
                return other
        return ""

    def limits(self, route: Route, settings: Settings) -> Limits:
        """The limits of a route of the table while `settings` are in force."""
        return self._under(settings).by_source[route.limits]

    def widest(self, settings: Settings) -> Limits:
        """The largest limits of all: those of a request whose route is not known, or not yet."""
        return self._under(settings).widest

    def _under(self, settings: Settings) -> _InForce:
        if self._in_force is None or self._in_force.settings is not settings:
            limits = {source: _limits(source, settings) for source in self._sources}
            self._in_force = _InForce(settings, limits, max(limits.values(), key=_body_bytes))
        return self._in_force


@dataclass(frozen=True, slots=True)
class _InForce:
    """All limits while `settings` are in force. They are the same for most requests."""

    settings: Settings
    by_source: Mapping[_LimitsSource, Limits]
    widest: Limits


def _limits(source: _LimitsSource, settings: Settings) -> Limits:
    return source if isinstance(source, Limits) else source(settings)


def _body_bytes(limits: Limits) -> int:
    return limits.body_bytes


def _by_rule(routes: Iterable[Route]) -> Mapping[tuple[str, str], Route]:
    """Two methods of one path may need different scopes; HEAD needs what GET needs."""
    table: dict[tuple[str, str], Route] = {}
    for route in routes:
        for method in (route.method, "HEAD") if route.method == "GET" else (route.method,):
            if (route.path, method) in table:
                raise ValueError(f"two routes answer {method} {route.path}")
            table[route.path, method] = route
    return MappingProxyType(table)


def _pattern(route: Route) -> re.Pattern[str]:
    """The paths that a route answers; also those where a variable is empty."""
    pattern, end = "", 0
    for found in _VARIABLE.finditer(route.path):
        inner = ".*" if found["converter"] == "path" else "[^/]*"
        pattern += re.escape(route.path[end : found.start()]) + inner
        end = found.end()
    return re.compile(pattern + re.escape(route.path[end:]), re.DOTALL)
