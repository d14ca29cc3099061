"""The child program in this process, and what it reads of model files."""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import BinaryIO

import pytest

from opensoul.adapters.providers.local.child import (
    CannotServe,
    ChildSettings,
    RunningServer,
    fitting_context,
    load,
    serve,
    slots_for,
)
from opensoul.adapters.providers.local.gguf import NotAModelFile, trained_context

from .local_bench import PATIENCE


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


ARCHITECTURE = pair("general.architecture", 8, text("llama"))
CONTEXT = pair("llama.context_length", 4, struct.pack("<I", 2048))


def gguf(*pairs: bytes, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, 0, len(pairs)) + b"".join(pairs)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "m.gguf"


def test_the_trained_context_is_found_behind_keys_of_every_kind(file: Path) -> None:
    file.write_bytes(
        gguf(
            pair("a.name", 8, text("Anna")),
            pair("a.flag", 7, b"\x01"),
            pair("a.numbers", 9, struct.pack("<IQ", 5, 3) + bytes(12)),
            pair("a.words", 9, struct.pack("<IQ", 8, 2) + text("one") + text("two")),
            ARCHITECTURE,
            pair("other.context_length", 4, struct.pack("<I", 1)),
            CONTEXT,
        )
    )
    assert trained_context(file) == 2048


def test_a_file_that_does_not_tell_its_context_is_no_error(file: Path) -> None:
    file.write_bytes(gguf(ARCHITECTURE))
    assert trained_context(file) is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "truncated"),
        (b"MZ and so on", "not a GGUF file"),
        (gguf(version=9), "version 9"),
        (gguf(ARCHITECTURE, CONTEXT)[:-1], "truncated"),
        (gguf(pair("a", 99, b"")), "damaged"),
        (gguf(pair("a", 9, struct.pack("<IQ", 9, 1))), "damaged"),
        (gguf(pair("a", 9, struct.pack("<IQ", 4, 1 << 40))), "damaged"),
        (gguf(pair("a", 9, struct.pack("<IQ", 4, 1 << 20))), "truncated"),
        (gguf(struct.pack("<Q", 1 << 40)), "damaged"),
    ],
)
def test_a_file_that_is_no_model_is_refused(file: Path, content: bytes, why: str) -> None:
    file.write_bytes(content)
    with pytest.raises(NotAModelFile, match=why):
        trained_context(file)
    with pytest.raises(CannotServe, match=str(file)):
        fitting_context(ChildSettings(file, 100, "key"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotServe, match=r"none\.gguf cannot be read"):
        fitting_context(ChildSettings(tmp_path / "none.gguf", 100, "key"))


def test_the_context_is_what_was_asked_for_up_to_what_was_trained(file: Path) -> None:
    file.write_bytes(gguf(ARCHITECTURE, CONTEXT))
    assert fitting_context(ChildSettings(file, 1000, "key")) == 1000
    assert fitting_context(ChildSettings(file, 200_000, "key")) == 2048
    file.write_bytes(gguf(ARCHITECTURE))
    assert fitting_context(ChildSettings(file, 200_000, "key")) == 200_000


def test_smaller_windows_make_room_for_more_calls_at_a_time() -> None:
    assert [slots_for(context) for context in (512, 4096, 8192, 200_000)] == [4, 4, 2, 1]


class Kept(io.BytesIO):
    """A stream whose content can still be seen when it has been closed."""

    content = b""

    def close(self) -> None:
        self.content = self.getvalue()
        super().close()


@dataclass
class Child:
    """`serve` with a pipe, as the Gateway would run it; `left` is what it left with."""

    report: Kept = field(default_factory=Kept)
    left: list[int] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def leave(self, status: int) -> None:
        self.left.append(status)
        self.ended.set()


@contextmanager
def pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as reader, os.fdopen(write, "wb", buffering=0) as writer:
        yield reader, writer


def settings_line(file: Path) -> bytes:
    return json.dumps({"file": str(file), "context": 64, "apiKey": "k"}).encode() + b"\n"


def test_the_child_reports_where_it_serves_and_leaves_when_its_pipe_ends(file: Path) -> None:
    asked: list[ChildSettings] = []

    def loaded(settings: ChildSettings) -> RunningServer:
        asked.append(settings)
        return RunningServer("http://127.0.0.1:1", 64, 4, object())

    child = Child()
    with pipe() as (reader, writer):
        writer.write(settings_line(file))
        serving = threading.Thread(
            target=serve,
            args=(reader, child.report),
            kwargs={"load": loaded, "exit_process": child.leave},
        )
        serving.start()
        writer.write(b"more, which means nothing\n")
        writer.close()
        serving.join(PATIENCE)
        assert not serving.is_alive()
    assert asked == [ChildSettings(file, 64, "k")]
    report = json.loads(child.report.content)
    assert report == {"address": "http://127.0.0.1:1", "context": 64, "slots": 4}
    assert child.left == [0]


def test_the_child_reports_why_it_cannot_serve(file: Path) -> None:
    def unable(settings: ChildSettings) -> RunningServer:
        raise CannotServe(f"Not {settings.file.name}.")

    child = Child()
    with pipe() as (reader, writer):
        writer.write(settings_line(file))
        serve(reader, child.report, load=unable, exit_process=child.leave)
        assert json.loads(child.report.content) == {"failed": "Not m.gguf."}
        assert child.left == [1]
        child.ended.clear()
        writer.close()
        assert child.ended.wait(PATIENCE)


def test_the_child_leaves_when_the_gateway_is_gone_before_it_said_anything() -> None:
    child = Child()
    serve(io.BytesIO(), child.report, load=load, exit_process=child.leave)
    assert child.left == [0]


class FakeLlama(ModuleType):
    """xllamacpp as far as the child uses it; remembers what it was to serve."""

    def __init__(self, problem: str | None = None) -> None:
        super().__init__("xllamacpp")
        self.problem = problem
        self.served: list[SimpleNamespace] = []

    def CommonParams(self) -> SimpleNamespace:  # noqa: N802 - its name there
        return SimpleNamespace(model=SimpleNamespace(path=""))

    def Server(self, params: SimpleNamespace) -> SimpleNamespace:  # noqa: N802 - its name there
        if self.problem:
            raise RuntimeError(self.problem)
        self.served.append(params)
        return SimpleNamespace(listening_address="http://127.0.0.1:4711")


def test_the_server_listens_on_loopback_demands_the_key_and_shows_no_prompts(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_bytes(gguf(ARCHITECTURE, CONTEXT))
    llama = FakeLlama()
    monkeypatch.setitem(sys.modules, "xllamacpp", llama)
    served = load(ChildSettings(file, 8192, "the key"))
    assert (served.address, served.context, served.slots) == ("http://127.0.0.1:4711", 2048, 4)
    (params,) = llama.served
    assert params.model.path == str(file)
    assert params.n_ctx == 2048 * 4
    assert params.hostnames == ["127.0.0.1"]
    assert params.port == 0
    assert params.api_keys == ["the key"]
    assert params.ui is params.endpoint_slots is False


def test_a_model_that_llama_cannot_load_is_named(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_bytes(gguf(ARCHITECTURE, CONTEXT))
    monkeypatch.setitem(sys.modules, "xllamacpp", FakeLlama("no"))
    with pytest.raises(CannotServe, match=r"m\.gguf with a context of 2048"):
        load(ChildSettings(file, 8192, "key"))


def test_without_xllamacpp_the_operator_is_told_what_to_install(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(CannotServe, match=r"pip install 'opensoul\[local\]'"):
        load(ChildSettings(file, 8192, "key"))


def test_an_xllamacpp_that_does_not_work_is_told_apart(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('libgomp.so.1: not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "xllamacpp", raising=False)
    with pytest.raises(CannotServe, match=r"libgomp\.so\.1"):
        load(ChildSettings(file, 8192, "key"))
