"""A description of the machine and the versions, without anything that identifies its owner."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .process import ROOT

_PACKAGES = ("quart", "hypercorn", "aiohttp", "uvloop", "orjson", "pydantic", "h11", "wsproto")


def machine() -> dict[str, object]:
    """The machine and the versions of what matters."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "load_before": round(os.getloadavg()[0], 2),
    }


def commit() -> str | None:
    """The commit of this checkout, with a plus sign if files are modified."""
    git = shutil.which("git")
    if git is None:
        return None
    revision = _git(git, "rev-parse", "--short=12", "HEAD")
    changed = _git(git, "status", "--porcelain", "--", "src", "pyproject.toml", "requirements")
    return revision + "+" if revision and changed else revision or None


def _git(git: str, *arguments: str) -> str:
    done = subprocess.run(
        [git, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
