"""The ModelClient for local models, which run in child processes of the Gateway."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from ....domain.errors import FailureKind, ModelFailed
from ....domain.models import ModelEvent, ModelRequest, ModelTarget, Secret
from ....domain.ports import ModelClient
from .files import KNOWN_MODELS, KnownModel
from .process import ModelProcess, ModelSetup
from .supervisor import ModelSupervisor

CHILD_COMMAND = (sys.executable, "-P", "-m", f"{__package__}.child")
"""`-P`: do not import modules from the working directory."""
_HEADERS = (("Connection", Secret("close")),)
"""llama.cpp's server announces keep-alive, but closes the connection after every stream."""
_POSSIBLE_EXIT = (FailureKind.BAD_RESPONSE, FailureKind.OVERLOADED, FailureKind.UNREACHABLE)
_END_PATIENCE = 1.0
"""Seconds to wait for the exit of a child after its connection broke, to report that as the cause.
"""


class LocalModels:
    """Starts one child process per pair of model file and context window, on first use.

    The children serve OpenAI's API on a loopback port. `inner` is the client for that API; its
    creator closes it. `models_dir` holds the files of models that are configured without `file`.
    `now` is a monotonic clock; `start_patience` is the time limit for loading a model, in seconds.
    """

    def __init__(
        self,
        *,
        inner: ModelClient,
        models_dir: Path,
        command: Sequence[str] = CHILD_COMMAND,
        known: Sequence[KnownModel] = KNOWN_MODELS,
        now: Callable[[], float] = time.monotonic,
        start_patience: float = 300.0,
    ) -> None:
        self._inner = inner
        self._models_dir = models_dir
        self._command = tuple(command)
        self._known = {model.id: model for model in known}
        self._now = now
        self._start_patience = start_patience
        self._supervisors: dict[ModelSetup, ModelSupervisor] = {}
        self._closed = False

    async def prepare(self, target: ModelTarget) -> ModelProcess:
        """Load the model if necessary; its child process. Raises ModelFailed."""
        return await self._supervisor(target).child()

    def problem(self, target: ModelTarget) -> str:
        """Why this machine cannot serve the model: its file, or the program for it, is missing. ""
        if both are there."""
        if self._command == CHILD_COMMAND and find_spec("xllamacpp") is None:
            return "The extra `local` is not installed: pip install 'opensoul[local]'."
        try:
            self._file(target)
        except ModelFailed as error:
            return error.message
        return ""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[ModelEvent]]:
        """Implements ModelClient.

        Raises ModelFailed if the child exits: OVERLOADED before the first event, BAD_RESPONSE after
        it. The next call restarts the child.
        """
        child = await self.prepare(request.target)
        yielded, failure = False, None
        try:
            async with aclosing(self._inner.stream(_addressed(request, child))) as events:
                async for batch in events:
                    yielded = True
                    yield batch
        except ModelFailed as error:
            failure = error
        if failure is None:
            return
        if failure.kind in _POSSIBLE_EXIT and (how := await _ended(child)):
            failure = ModelFailed(
                FailureKind.BAD_RESPONSE if yielded else FailureKind.OVERLOADED,
                f"The process of the local model {request.target.ref} exited while it was answering"
                f" ({how}). The next request restarts it.",
                detail=child.stderr_tail,
            )
        raise failure

    async def close(self) -> None:
        """Stop all children. May be called twice."""
        self._closed = True
        await asyncio.gather(*(supervisor.close() for supervisor in self._supervisors.values()))

    def _supervisor(self, target: ModelTarget) -> ModelSupervisor:
        """Raises ModelFailed (UNREACHABLE) if the target has no model file."""
        if self._closed:
            raise _unreachable(
                f"The local model {target.ref} is unavailable: the Gateway is shutting down."
            )
        setup = ModelSetup(self._file(target), target.context_window)
        if setup not in self._supervisors:

            async def launch() -> ModelProcess:
                return await ModelProcess.start(self._command, setup, patience=self._start_patience)

            self._supervisors[setup] = ModelSupervisor(target.ref, launch, now=self._now)
        return self._supervisors[setup]

    def _file(self, target: ModelTarget) -> Path:
        if target.file is not None:
            file = Path(target.file).expanduser().absolute()
            advice = "The path comes from `file` in the model's configuration."
        elif target.model in self._known:
            file = self._known[target.model].path_in(self._models_dir).absolute()
            advice = "Download it with: opensoul models fetch"
        else:
            raise _unreachable(
                f"The local model {target.ref} has no `file` in its configuration; only "
                f"{', '.join(self._known)} may omit it."
            )
        if not file.is_file():
            raise _unreachable(f"The model file {file} of {target.ref} does not exist. {advice}")
        return file


def _addressed(request: ModelRequest, child: ModelProcess) -> ModelRequest:
    """The request with the child's address and the parameters for its server."""
    endpoint = child.endpoint
    target = request.target
    # A default of the lowest priority: small models may never stop by themselves.
    defaults = (("max_tokens", target.max_tokens), *target.params)
    # While llama.cpp processes a prompt, it notices a disconnected client only when it writes, so
    # it is made to report its progress. The reports also distinguish a long prompt from a hang.
    params = {**request.params, "return_progress": True}
    compat = replace(target.compat, supports_store=False, max_tokens_field="max_tokens")
    provider = replace(
        target.provider,
        base_url=f"{endpoint.address}/v1",
        api_key=endpoint.api_key,
        headers=_HEADERS,
        auth_header=True,
        proxy=None,
    )
    addressed = replace(target, provider=provider, params=defaults, compat=compat)
    return replace(request, target=addressed, params=params)


async def _ended(child: ModelProcess) -> str | None:
    """How the child exited; None if it is still running."""
    try:
        async with asyncio.timeout(_END_PATIENCE):
            return await child.ended()
    except TimeoutError:
        return None


def _unreachable(message: str) -> ModelFailed:
    return ModelFailed(FailureKind.UNREACHABLE, message)
