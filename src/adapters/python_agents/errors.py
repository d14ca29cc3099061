"""What is wrong with a Python agent, for its operator and for clients."""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import os
from types import TracebackType

from ...domain.errors import AgentFailed, FailureKind, GatewayError, ModelFailed

_KINDS = {
    401: FailureKind.AUTH,
    403: FailureKind.AUTH,
    402: FailureKind.BILLING,
    408: FailureKind.TIMEOUT,
    429: FailureKind.RATE_LIMIT,
    529: FailureKind.OVERLOADED,
}
_UNREACHABLE = frozenset(
    {"APIConnectionError", "ConnectError", "ConnectTimeout", "ClientConnectorError"}
)
_CUT = frozenset({"RemoteProtocolError", "IncompleteRead", "ServerDisconnectedError"})
_MOST_CAUSES = 16
_MACHINERY = frozenset(
    os.path.dirname(file)
    for file in (__file__, importlib.__file__, asyncio.__file__, concurrent.futures.__file__)
)
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class TargetInvalid(Exception):
    """The target of a Python agent cannot be loaded or is no agent. The message is for the operator
    and says what to change; the cause is what the agent's module raised."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RemoteFailure(Exception):
    """What the code of an agent raised in another process: its traceback as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class UserCodeExited(Exception):
    """The code of an agent raised SystemExit or another exception that ends programs; its cause is
    that one."""


def raised_class(error: BaseException) -> str:
    """The name of the class that the code of an agent has raised."""
    if isinstance(error, UserCodeExited) and error.__cause__ is not None:
        error = error.__cause__
    return type(error).__name__


def own_frames(error: BaseException) -> ExcInfo:
    """The error for a log, from the first frame of the user's code on: those of the Gateway and of
    Python's import come before it."""
    found = error.__traceback__
    while found is not None and _is_machinery(found.tb_frame.f_code.co_filename):
        found = found.tb_next
    if found is None and not isinstance(error, SyntaxError):  # That names its file and line itself.
        found = error.__traceback__
    return type(error), error, found


def _is_machinery(file: str) -> bool:
    return file.startswith("<frozen importlib") or os.path.dirname(file) in _MACHINERY


def failure_of(error: BaseException, agent_id: str) -> GatewayError:
    """The error of a run whose agent raised `error`.

    Errors of models are known by their shape, since every library has its own: the `status_code` of
    an HTTP answer, along the chain of causes. Clients learn the class of any other error and no
    more: its message may quote secrets, and is in the log.
    """
    if isinstance(error, GatewayError):
        return error
    name = raised_class(error)
    if (kind := failure_kind(error)) is not None:
        return ModelFailed(kind, f"The model of the agent `{agent_id}` failed: {name}.")
    return AgentFailed(f"The agent `{agent_id}` failed with {name}; the Gateway's log says where.")


def failure_kind(error: BaseException) -> FailureKind | None:
    """How a model call failed; None where something else did."""
    return next((k for cause in _chain(error) if (k := _kind_of(cause)) is not None), None)


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and len(found) < _MOST_CAUSES:
        found.append(following)
        if isinstance(following, BaseExceptionGroup):
            following = following.exceptions[0]
        else:
            following = following.__cause__ or following.__context__
    return found


def _kind_of(error: BaseException) -> FailureKind | None:
    if isinstance(error, ModelFailed):
        return error.kind
    try:
        status = getattr(error, "status_code", None)
    except Exception:  # The exceptions of agents may have any `__getattr__`.
        status = None
    if isinstance(status, int) and not isinstance(status, bool):
        if status in _KINDS:
            return _KINDS[status]
        if status >= 500:
            return FailureKind.OVERLOADED
        if status >= 400:
            return FailureKind.BAD_REQUEST
    name = type(error).__name__
    if name in _UNREACHABLE:
        return FailureKind.UNREACHABLE
    return FailureKind.BAD_RESPONSE if name in _CUT else None
