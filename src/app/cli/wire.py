"""Runs a command's questions over the wire, and tells what goes wrong in the user's words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from .reaching import Target, reach, timeout_of
from .refused import Refused

if TYPE_CHECKING:
    from ...client import Client
    from .state import State

T = TypeVar("T")


def talk(
    state: State, ask: Callable[[Client], Awaitable[T]], *, scopes: Sequence[str], **options: Any
) -> T:
    """What `ask` gets from the Gateway. Raises Refused."""
    target = reach(state)

    async def connected() -> T:
        from ...client import Client

        known = {"timeout": timeout_of(state), "reconnect": False}
        async with Client(target.options(scopes, **(known | options))) as client:
            return await ask(client)

    with told(target):
        return asyncio.run(connected())


def call(
    state: State,
    method: str,
    params: Mapping[str, Any] | None = None,
    *,
    scopes: Sequence[str],
) -> Any:
    """One question, one answer. Raises Refused."""
    given = {} if params is None else {k: v for k, v in params.items() if v is not None}

    async def ask(client: Client) -> Any:
        return await client.call(method, given, timeout=timeout_of(state))

    return talk(state, ask, scopes=scopes)


@contextmanager
def told(target: Target) -> Iterator[None]:
    """What a client raises, as the command line tells it."""
    from ...client import (
        CallFailed,
        ClientError,
        ConnectFailed,
        ConnectionLost,
        HandshakeRefused,
        TimedOut,
    )

    try:
        yield
    except ConnectFailed as error:
        raise Refused(f"{error.message}\n{_how_to_start(target)}", code="unreachable") from None
    except HandshakeRefused as error:
        raise _refused(target, error) from None
    except CallFailed as error:
        raise Refused(error.message, code=error.reason.lower()) from None
    except TimedOut as error:
        raise Refused(f"{error.message} --timeout gives it longer.", code="timeout") from None
    except ConnectionLost as error:
        raise Refused(error.message, code="connection_lost") from None
    except ClientError as error:
        raise Refused(error.message, code="client") from None


def _how_to_start(target: Target) -> str:
    if not target.is_local:
        return "Is a Gateway running there, and is its address reachable from here?"
    return "Start a Gateway with `opensoul gateway`."


def _refused(target: Target, error: Any) -> Refused:
    code = str(error.details.get("code") or error.code or "refused").lower()
    message = f"The Gateway at {target.url} does not let this client in: {error.message}"
    request = error.details.get("requestId")
    if request:
        message += f"\nApprove it where you are let in: opensoul devices approve {request}"
    return Refused(message, code=code)
