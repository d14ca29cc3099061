"""The Embedder for a model on this machine, which runs in a child process of the Gateway."""

from __future__ import annotations

import asyncio
import sys
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson

from ....domain.concurrency import off_loop
from ....domain.errors import FailureKind, ModelFailed
from ....domain.models import EmbeddingRequest, Embeddings, ModelTarget, Usage

CHILD_COMMAND = (sys.executable, "-P", "-m", f"{__package__}.embedding_child")
"""`-P`: do not import modules from the working directory."""
MODEL = "multilingual-e5-small"
"""Its file is a part of the package that runs it."""
_DIMENSIONS = 384
_FLOAT_BYTES = 4
_LONGEST_TEXT = 16_384
"""Characters. The model reads 512 tokens at once, and longer texts piece by piece."""
_AT_ONCE = 8
_CHARACTERS_AT_ONCE = 16_384
"""What the child gets at once: between two such parts, other requests get their turn."""
_LONGEST_LINE = 1024 * 1024
_INPUT_TYPES: Mapping[str | None, bool] = {
    **dict.fromkeys(("query", "search_query"), True),
    **dict.fromkeys(("passage", "document", "search_document"), False),
    None: True,
}
"""Whether the model takes a text of that `input_type` for a query. Its authors advise that for
everything but passages that queries shall find."""


class LocalEmbeddings:
    """Starts the child on first use, and again after it has exited. One part of a request is in
    work at a time. `start_patience`: seconds for loading the model."""

    def __init__(
        self, *, command: Sequence[str] = CHILD_COMMAND, start_patience: float = 60.0
    ) -> None:
        self._command = tuple(command)
        self._start_patience = start_patience
        self._child: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._closed = False

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Implements Embedder. Raises ModelFailed: UNREACHABLE if the model cannot be loaded,
        BAD_REQUEST for what it cannot do, BAD_RESPONSE if its process exits."""
        is_query = _checked(request)
        vectors: list[bytes] = []
        tokens = 0
        for texts in _parts(request.texts):
            line = orjson.dumps({"texts": texts, "query": is_query}) + b"\n"
            async with self._turn:
                answer = await self._ask(request.target, line)
            floats = b64decode(answer["vectors"])
            size = len(floats) // len(texts)
            vectors += (floats[j : j + size] for j in range(0, len(floats), size))
            tokens += answer["tokens"]
        return Embeddings(tuple(vectors), Usage(tokens, 0))

    async def close(self) -> None:
        """Implements Embedder."""
        self._closed = True
        await self._stop()

    async def _ask(self, target: ModelTarget, line: bytes) -> Any:
        """The child's answer to a line. A child whose answer is not awaited is stopped."""
        child = await self._running(target)
        answer, answered, silent = b"", False, False
        try:
            with suppress(BrokenPipeError, ConnectionResetError):
                _pipe(child.stdin).write(line)
                await _pipe(child.stdin).drain()
            async with asyncio.timeout(target.provider.idle_timeout):
                answer = await _pipe(child.stdout).readline()
            answered = bool(answer)
        except TimeoutError:
            silent = True
        finally:
            if not answered:
                await self._stop()
        if silent:
            raise ModelFailed(
                FailureKind.TIMEOUT,
                f"The local model {target.ref} was in work for more than "
                f"{target.provider.idle_timeout:g} s.",
            )
        if not answered:
            raise ModelFailed(
                FailureKind.BAD_RESPONSE,
                f"The process of the local model {target.ref} exited while it was in work. The next"
                " request restarts it.",
            )
        return await off_loop(len(answer), lambda: orjson.loads(answer))

    async def _running(self, target: ModelTarget) -> asyncio.subprocess.Process:
        """The child, ready for requests."""
        if self._closed:
            raise _unreachable(target, "the Gateway is shutting down.")
        if self._child is not None and self._child.returncode is None:
            return self._child
        await self._stop()
        try:
            self._child = child = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={},  # Keys of providers are not for native code that reads texts of clients.
                start_new_session=True,  # The terminal's signals must not reach it.
                limit=_LONGEST_LINE,
            )
        except OSError as error:
            raise _unreachable(target, f"its process cannot be started: {error}.") from None
        problem = "its process was not ready in time."
        ready = False
        try:
            async with asyncio.timeout(self._start_patience):
                report = await _pipe(child.stdout).readline()
            match orjson.loads(report or b"{}"):
                case {"ready": True}:
                    ready = True
                case {"failed": str(why)}:
                    problem = why
                case _:
                    problem = "its process exited before it was ready."
        except TimeoutError:
            pass  # `problem` says it.
        finally:
            if not ready:
                await self._stop()
        if not ready:
            raise _unreachable(target, problem)
        return child

    async def _stop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        with suppress(ProcessLookupError):
            child.kill()
        if child.stdin is not None:
            child.stdin.close()
        await child.wait()


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in parts. JSON has no halves of surrogate pairs, so they are replaced."""
    part: list[str] = []
    for text in texts:
        full = len(part) == _AT_ONCE or sum(map(len, (*part, text))) > _CHARACTERS_AT_ONCE
        if part and full:
            yield part
            part = []
        part.append(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    yield part


def _checked(request: EmbeddingRequest) -> bool:
    """Whether the texts are queries. Raises ModelFailed."""
    target, dimensions = request.target, request.dimensions
    if target.model != MODEL:
        raise _unreachable(target, f"there is one local embedding model, {MODEL}.")
    if dimensions not in (None, _DIMENSIONS):
        raise _refused(
            f"The embeddings of {target.ref} have {_DIMENSIONS} dimensions, not {dimensions}.",
            "dimensions",
        )
    if request.input_type not in _INPUT_TYPES:
        raise _refused(f"{target.ref} has the input types `query` and `passage`.", "input_type")
    if any(len(text) > _LONGEST_TEXT for text in request.texts):
        problem = f"A text for {target.ref} may have {_LONGEST_TEXT} characters. Split longer ones."
        raise _refused(problem, "input")
    return _INPUT_TYPES[request.input_type]


def _refused(problem: str, param: str) -> ModelFailed:
    return ModelFailed(FailureKind.BAD_REQUEST, problem, param=param)


def _unreachable(target: ModelTarget, problem: str) -> ModelFailed:
    message = f"The local model {target.ref} is unavailable: {problem}"
    return ModelFailed(FailureKind.UNREACHABLE, message)


def _pipe(pipe: Any) -> Any:
    """Asyncio types pipes as optional."""
    if pipe is None:
        raise RuntimeError("the child process was started without pipes")
    return pipe
