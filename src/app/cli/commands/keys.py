"""`opensoul keys`: API keys of clients, in the running Gateway, or else in its store."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ...terminal import echo, print_table
from ..common.configuration import gateway_errors, load_config
from ..common.database import database_errors, direct_url, url_of
from ..common.errors import CommandError
from ..common.holder import serving_address
from ..common.lazy import ListGroup
from ..common.state import State, print_json
from ..remote.reaching import ADMIN, wire_options
from ..remote.rpc import call

if TYPE_CHECKING:
    from ....adapters.config import Loaded
    from ....adapters.transports.control.connection import Params
    from ....adapters.transports.control.methods.keys import KeyAdmin
    from ....domain.access import Principal
    from ....domain.services import Keys
    from ....domain.settings import Settings

_DURATION = re.compile(r"([1-9][0-9]{0,5})([hdwy])")
_SECONDS = {"h": 3_600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}


@click.group(cls=ListGroup, options=wire_options)
@wire_options
def keys() -> None:
    """Create, show and revoke API keys of clients; without a command, list them.

    Changes have effect at once, whether the Gateway is running or not.
    """


@keys.subcommand("list")
@click.option("--all", "revoked", is_flag=True, help="Also the revoked ones.")
def list_keys(state: State, revoked: bool) -> None:
    """List the keys. Their secrets are not kept."""
    from ....client.results import rows

    answer = _call(state, "keys.list", {"revoked": revoked})
    if state.json:
        print_json(answer)
        return
    table = [
        (
            row.get("name"),
            row.get("id"),
            row.get("status"),
            _joined(row.get("agents")) or "all",
            _joined(row.get("scopes")),
            _limits(row.get("limits")),
        )
        for row in rows(answer, "keys")
    ]
    columns = ("name", "id", "status", "agents", "scopes", "limits")
    print_table(columns, table, empty="There are no API keys.")


@keys.subcommand()
@click.option("--name", required=True, help="What the key is for; no two keys have one name.")
@click.option("--agents", multiple=True, metavar="A,B", help="The agents it may use; default: all.")
@click.option(
    "--scopes",
    multiple=True,
    metavar="S,T",
    help="What it may do; default: operator.read,operator.write.",
)
@click.option("--rpm", type=click.IntRange(min=1), help="Requests per minute.")
@click.option("--max-runs", type=click.IntRange(min=1), help="Runs at once.")
@click.option("--tokens-per-day", type=click.IntRange(min=1), help="Tokens per day (UTC).")
@click.option("--tokens-per-month", type=click.IntRange(min=1), help="Tokens per month (UTC).")
@click.option("--cost-per-month", type=float, help="US dollars per month (UTC).")
@click.option("--expires", metavar="WHEN", help="Such as 30d, 12h, or 2030-01-31 (UTC).")
def create(
    state: State,
    name: str,
    agents: tuple[str, ...],
    scopes: tuple[str, ...],
    rpm: int | None,
    max_runs: int | None,
    tokens_per_day: int | None,
    tokens_per_month: int | None,
    cost_per_month: float | None,
    expires: str | None,
) -> None:
    """Create a key, and print it. It is shown only now."""
    params = {
        "name": name,
        "agents": _split(agents),
        "scopes": _split(scopes),
        "requestsPerMinute": rpm,
        "runsAtOnce": max_runs,
        "tokensPerDay": tokens_per_day,
        "tokensPerMonth": tokens_per_month,
        "costPerMonth": cost_per_month,
        "expiresAtMs": None if expires is None else int(_time(expires) * 1_000),
    }
    _print_secret(state, _call(state, "keys.create", params))


@keys.subcommand()
@click.argument("key")
def show(state: State, key: str) -> None:
    """Show a key, by name or id."""
    row = _call(state, "keys.get", {"key": key})
    if state.json:
        print_json(row)
        return
    limits = row.get("limits")
    for name, value in {**row, **(limits if isinstance(limits, dict) else {})}.items():
        if value is not None and name != "limits":
            echo(f"{name}: {_joined(value) if isinstance(value, list) else value}")


@keys.subcommand()
@click.argument("key")
def rotate(state: State, key: str) -> None:
    """Give a key a new secret, and print it; the old one stops working at once."""
    _print_secret(state, _call(state, "keys.rotate", {"key": key}))


@keys.subcommand()
@click.argument("key")
def revoke(state: State, key: str) -> None:
    """Revoke a key for ever, and end its streams and connections."""
    answer = _call(state, "keys.revoke", {"key": key})
    if state.json:
        print_json(answer)
    else:
        echo(f"The key {answer.get('name')} is revoked.")


@keys.subcommand()
@click.argument("key", required=False)
@click.option("--days", type=click.IntRange(1, 3_650), default=30, show_default=True)
def usage(state: State, key: str | None, days: int) -> None:
    """Show what each key, or one, has used."""
    from ....client.results import rows

    answer = _call(state, "usage.keys", {"key": key, "days": days})
    if state.json:
        print_json(answer)
        return
    names = ("requests", "input", "output", "totalCost")
    table = []
    for row in rows(answer, "keys"):
        totals = row.get("totals")
        totals = totals if isinstance(totals, dict) else {}
        table.append((row.get("name") or row.get("id"), *(totals.get(name) for name in names)))
    columns = ("name", "requests", "input tokens", "output tokens", "US dollars")
    print_table(columns, table, empty=f"No key was used in {days} days.")


def _print_secret(state: State, answer: Mapping[str, Any]) -> None:
    if state.json:
        print_json(answer)
    else:
        name, key_id = answer.get("name"), answer.get("id")
        echo(f"The key {name} ({key_id}) is shown only now:", err=True)
        echo(str(answer.get("key", "")))


def _call(state: State, method: str, params: Mapping[str, Any]) -> Any:
    """The answer of the running Gateway, or else of its store: with a database that is the one of
    all nodes. Raises CommandError."""
    loaded = load_config(state)
    if "wire_url" in state.options or serving_address(loaded.locations.state_dir):
        return call(state, method, params, scopes=ADMIN)
    sent = {name: value for name, value in params.items() if value is not None}
    try:
        if loaded.settings.store.url is not None:
            return _call_database(loaded.settings, method, sent)
        return _call_store(loaded, method, sent)
    except CommandError as error:
        if error.code != "state_locked":
            raise
        # A Gateway that has no address yet, or one that serves another configuration's.
        return call(state, method, params, scopes=ADMIN)


def _call_database(settings: Settings, method: str, params: Mapping[str, Any]) -> Any:
    asked = _checked(method, params)

    async def work() -> Any:
        from ....adapters.system.ids import new_id
        from ....domain.services import Keys
        from ...factories.postgres import shared_keys

        urls = url_of(settings.store), direct_url(settings.store)
        async with shared_keys(*urls, new_id()) as (book, bus):
            keys = Keys(book=book, settings=lambda: settings, clock=time.time, bus=bus)
            return await _answer(keys, asked)

    with database_errors():
        return asyncio.run(work())


def _call_store(loaded: Loaded, method: str, params: Mapping[str, Any]) -> Any:
    from ....adapters.persistence.sqlite.keys import KEYS_FILE, SqliteKeys
    from ....adapters.system.files import StateLock
    from ....domain.services import Keys

    if loaded.settings.store.memory:
        raise CommandError(
            "session.store is `:memory:`, so keys exist only while the Gateway runs: start it "
            "first, or list them in gateway.auth.keys.",
            code="no_store",
        )
    asked = _checked(method, params)

    async def work() -> Any:
        book = SqliteKeys(loaded.locations.state_dir / KEYS_FILE)
        keys = Keys(book=book, settings=lambda: loaded.settings, clock=time.time)
        try:
            return await _answer(keys, asked)
        finally:
            await book.close()

    with gateway_errors():
        lock = StateLock(loaded.locations.state_dir)
        lock.acquire()
        try:
            return asyncio.run(work())
        finally:
            lock.release()


_Method = Callable[["KeyAdmin", "Principal", Any], Awaitable[Any]]
_Asked = tuple[_Method, "Params"]


def _checked(method: str, params: Mapping[str, Any]) -> _Asked:
    """The method with its parameters. Raises CommandError."""
    from pydantic import ValidationError

    from ....adapters.transports.control.protocol import validation_text

    parameters, method_of = _methods()[method]
    try:
        return method_of, parameters.model_validate(params)
    except ValidationError as error:
        raise CommandError(f"invalid: {validation_text(error)}", code="invalid_request") from None


async def _answer(keys: Keys, asked: _Asked) -> Any:
    """As a Gateway of these keys answers an operator."""
    from ....adapters.transports.control.methods.keys import KeyAdmin
    from ....domain.access import ALL_SCOPES, Principal

    method_of, params = asked
    await keys.open()
    try:
        operator = Principal("operator", ALL_SCOPES, "local")
        return await method_of(KeyAdmin(keys, time.time), operator, params)
    finally:
        await keys.close()


def _methods() -> Mapping[str, tuple[type[Params], _Method]]:
    from ....adapters.transports.control.methods import keys as methods

    admin = methods.KeyAdmin
    return {
        "keys.list": (methods.ListKeysParams, admin.list_keys),
        "keys.get": (methods.KeyParams, admin.get),
        "keys.create": (methods.CreateKeyParams, admin.create),
        "keys.rotate": (methods.KeyParams, admin.rotate),
        "keys.revoke": (methods.KeyParams, admin.revoke),
        "usage.keys": (methods.KeyUsageParams, admin.usage),
    }


def _split(texts: tuple[str, ...]) -> list[str] | None:
    """The parts between commas; None where the option is not there."""
    parts = [part.strip() for text in texts for part in text.split(",")]
    return [part for part in parts if part] if texts else None


def _time(text: str) -> float:
    """The Unix time of a duration from now, or of a date. Raises CommandError."""
    if (found := _DURATION.fullmatch(text.strip())) is not None:
        return time.time() + int(found[1]) * _SECONDS[found[2]]
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise CommandError(
            "Invalid --expires. Expected something like 30d, 12h, or 2030-01-31T12:00:00Z.",
            code="usage",
        ) from None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def _joined(values: object) -> str:
    return ", ".join(map(str, values)) if isinstance(values, list) else ""


def _limits(limits: object) -> str:
    if not isinstance(limits, dict):
        return ""
    units = {
        "requestsPerMinute": "requests/min",
        "runsAtOnce": "runs at once",
        "tokensPerDay": "tokens/day",
        "tokensPerMonth": "tokens/month",
        "costPerMonth": "$/month",
    }
    found = (f"{limits[name]} {unit}" for name, unit in units.items() if limits.get(name))
    return ", ".join(found)
