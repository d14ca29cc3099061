"""Runs the calls of a command, and turns client errors into command errors."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ...terminal import echo
from ..common.errors import CommandError
from ..common.state import State, print_json
from .reaching import Target, reach, timeout_of

if TYPE_CHECKING:
    from ....client import Client, HandshakeRefused, Options
    from ....client.connection_manager import OnState

_WRONG_SECRET = frozenset(
    f"auth_{kind}_{why}" for kind in ("token", "password") for why in ("mismatch", "missing")
)
T = TypeVar("T")


def with_client(
    state: State, ask: Callable[[Client], Awaitable[T]], *, scopes: Sequence[str], **options: Any
) -> T:
    """Run `ask` over a connection to the Gateway. Raises CommandError."""
    target = reach(state)
    known = {"timeout": timeout_of(state), "reconnect": False}
    connecting = target.options(scopes, **(known | options))

    async def connected() -> T:
        from ....client import Client

        async with Client(connecting, on_state=report_loss(state, connecting)) as client:
            return await ask(client)

    with client_errors(target):
        return asyncio.run(connected())


def call(
    state: State,
    method: str,
    params: Mapping[str, Any] | None = None,
    *,
    scopes: Sequence[str],
) -> Any:
    """Call a method, without the parameters that are None. Raises CommandError."""
    sent = {} if params is None else {k: v for k, v in params.items() if v is not None}

    async def ask(client: Client) -> Any:
        return await client.call(method, sent, timeout=timeout_of(state))

    return with_client(state, ask, scopes=scopes)


def show(
    state: State,
    method: str,
    params: Mapping[str, Any] | None = None,
    *,
    scopes: Sequence[str],
    text: Callable[[Any], str | None],
) -> Any:
    """Call, and print the answer: as JSON, or what `text` makes of it or prints itself."""
    answer = call(state, method, params, scopes=scopes)
    if state.json:
        print_json(answer)
    elif (line := text(answer)) is not None:
        echo(line)
    return answer


@contextmanager
def client_errors(target: Target) -> Iterator[None]:
    """Raise CommandError for what a client raises."""
    from ....client import (
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
        raise CommandError(
            f"{error.message}\n{_how_to_start(target)}", code="unreachable"
        ) from None
    except HandshakeRefused as error:
        raise _refused(target, error) from None
    except CallFailed as error:
        raise CommandError(error.message, code=error.reason.lower()) from None
    except TimedOut as error:
        raise CommandError(f"{error.message} Use a longer --timeout.", code="timeout") from None
    except ConnectionLost as error:
        raise CommandError(error.message, code="connection_lost") from None
    except ClientError as error:
        raise CommandError(error.message, code="client") from None


def _how_to_start(target: Target) -> str:
    if not target.is_local:
        return "Is a Gateway running there, and is its address reachable from here?"
    return "Start one with `opensoul gateway run`; `opensoul doctor` diagnoses problems."


def report_loss(state: State, options: Options) -> OnState:
    """A callback that reports a lost connection on standard error."""
    from ....client import State as At

    def report(at: At) -> None:
        patience = options.backoff.give_up_after
        if at is At.RECONNECTING and not state.json:
            limit = "" if patience is None else f" for up to {patience:g} s"
            message = f"opensoul: the connection is lost; trying again{limit} (Ctrl-C ends it)"
            echo(message, err=True)

    return report


def _refused(target: Target, error: HandshakeRefused) -> CommandError:
    code = str(error.details.get("code") or error.code or "refused").lower()
    message = f"The Gateway at {target.url} rejected this client: {error.message}"
    if error.retry_after:
        message += f" Try again in {math.ceil(error.retry_after)} s."
    advice = _advice(target, code, error.details.get("requestId"))
    return CommandError(f"{message}\n{advice}" if advice else message, code=code)


def _advice(target: Target, code: str, request: object) -> str:
    if request:
        return f"Approve it on a paired machine: opensoul devices approve {request}"
    if code not in _WRONG_SECRET:
        return ""
    if target.is_own:
        return (
            "It was started with another secret than the one configured here: restart it,"
            " or pass that secret (--token-file or --password-file)."
        )
    return "Pass the secret that `opensoul token show` prints on the Gateway's machine."
