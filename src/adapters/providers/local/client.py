"""The ModelClient for models that run on this machine, in child processes of the Gateway."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from ....domain.errors import FailureKind, ModelFailed
from ....domain.models import ModelEvent, ModelRequest, ModelTarget, Secret
from ....domain.ports import ModelClient
from .files import KNOWN_MODELS, KnownModel
from .process import ModelProcess, ModelSetup
from .supervisor import ModelSupervisor

CHILD_COMMAND = (sys.executable, "-P", "-m", f"{__package__}.child")
"""`-P`: modules that lie in the working directory are not ours."""
_HEADERS = (("Connection", Secret("close")),)
"""llama.cpp's server promises to keep a connection, and closes it behind every stream."""
_MAY_BE_ITS_END = (FailureKind.BAD_RESPONSE, FailureKind.OVERLOADED, FailureKind.UNREACHABLE)
_END_PATIENCE = 1.0
"""Seconds in which a child that cut a connection is known to have ended, if that is why."""


class LocalModels:
    """Runs each distinct model file and context window in a child of its own, on first use.

    The children speak OpenAI's API on a loopback port; `inner` is the client for that. It belongs
    to whoever made it and is not closed here. `models_dir` holds the files of models that are
    configured without one. `now` counts seconds; `start_patience` is how many of them loading a
    model may take.
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
        self._keepers: dict[ModelSetup, ModelSupervisor] = {}
        self._closed = False

    async def prepare(self, target: ModelTarget) -> None:
        """Have the model loaded, so that its first answer is fast. Raises ModelFailed."""
        await self._keeper(target).child()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[ModelEvent]]:
        """Call the model, as the ModelClient port promises.

        Raises ModelFailed (OVERLOADED) when the child ends before the first event, BAD_RESPONSE
        when it ends behind it; the next call starts it again.
        """
        child = await self._keeper(request.target).child()
        begun, failure = False, None
        try:
            async with aclosing(self._inner.stream(_addressed(request, child))) as events:
                async for told in events:
                    begun = True
                    yield told
        except ModelFailed as error:
            failure = error
        if failure is None:
            return
        if failure.kind in _MAY_BE_ITS_END and (how := await _ended(child)):
            failure = ModelFailed(
                FailureKind.BAD_RESPONSE if begun else FailureKind.OVERLOADED,
                f"The local model {request.target.ref} ended while it was answering ({how}). "
                "The next request starts it again.",
                detail=child.last_words,
            )
        raise failure

    async def close(self) -> None:
        """End all children. Safe to call twice."""
        self._closed = True
        await asyncio.gather(*(keeper.close() for keeper in self._keepers.values()))

    def _keeper(self, target: ModelTarget) -> ModelSupervisor:
        """Raises ModelFailed (UNREACHABLE) when there is no file for the target."""
        if self._closed:
            raise _unreachable(f"The local model {target.ref} is not there: shutting down.")
        setup = ModelSetup(self._file(target), target.context_window)
        if setup not in self._keepers:

            async def launch() -> ModelProcess:
                return await ModelProcess.start(self._command, setup, patience=self._start_patience)

            self._keepers[setup] = ModelSupervisor(target.ref, launch, now=self._now)
        return self._keepers[setup]

    def _file(self, target: ModelTarget) -> Path:
        if target.file is not None:
            file = Path(target.file).expanduser().absolute()
            advice = "Its configuration names that path as `file`."
        elif target.model in self._known:
            file = self._known[target.model].path_in(self._models_dir).absolute()
            advice = "Get it with: opensoul models fetch"
        else:
            raise _unreachable(
                f"The local model {target.ref} is configured without a `file`, and only "
                f"{', '.join(self._known)} can do without."
            )
        if not file.is_file():
            raise _unreachable(f"The model file {file} of {target.ref} does not exist. {advice}")
        return file


def _addressed(request: ModelRequest, child: ModelProcess) -> ModelRequest:
    """The request as the child's server is to get it."""
    at = child.served_at
    target = request.target
    # Behind every other limit: a small model may never stop by itself.
    defaults = (("max_tokens", target.max_tokens), *target.params)
    # While it reads a prompt, llama.cpp finds out that a client has left only when it writes: so
    # it is asked to write how far it has come. It also tells a long prompt from a hung server.
    params = {**request.params, "return_progress": True}
    compat = replace(target.compat, supports_store=False, max_tokens_field="max_tokens")
    provider = replace(
        target.provider,
        base_url=f"{at.address}/v1",
        api_key=at.api_key,
        headers=_HEADERS,
        auth_header=True,
        proxy=None,
    )
    addressed = replace(target, provider=provider, params=defaults, compat=compat)
    return replace(request, target=addressed, params=params)


async def _ended(child: ModelProcess) -> str | None:
    """How the child has ended; None when it goes on."""
    try:
        async with asyncio.timeout(_END_PATIENCE):
            return await child.ended()
    except TimeoutError:
        return None


def _unreachable(message: str) -> ModelFailed:
    return ModelFailed(FailureKind.UNREACHABLE, message)
