"""The steps of the Dockerfile in folders of a test, which needs no engine that builds images."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .deployments import CHECKS, ROOT, stage_environment, stages
from .test_postgres_nodes import Place, answer_of, deployment, here, process_of, until_ready


def build(root: Path) -> None:
    """Do the steps of the first stage, whose folders are in `root` here."""
    stage = stages()[0]
    environment = {**os.environ, "PYTHONNOUSERSITE": "1", **stage_environment(stage)}
    for name, rest in stage:
        local = rest.replace("/opt/", f"{root}/opt/").replace("/source", f"{root}/source")
        if name == "COPY":
            *sources, target = local.split()
            for source in sources:
                copy(ROOT / source, Path(target), into=target.endswith("/"))
        elif name == "RUN":
            command = local.replace("python -m venv", f"{sys.executable} -m venv")
            subprocess.run(["sh", "-c", command], env=environment, check=True)


def copy(source: Path, target: Path, *, into: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        return
    place = target / source.name if into else target
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, place)


@pytest.mark.timeout(600)  # It installs some 70 packages.
@pytest.mark.skipif(
    not CHECKS.exists(), reason="it needs a network; `make test-deploy` says that there is one"
)
async def test_the_steps_of_the_dockerfile_install_a_node(
    postgres_url: str, tmp_path: Path
) -> None:
    root = tmp_path / "image"
    await asyncio.to_thread(build, root)
    program = root / "opt" / "opensoul" / "bin" / "opensoul"
    assert not (program.parent / "pip").exists()
    (tmp_path / "node").mkdir()
    node = here(deployment("compose")[0], tmp_path / "node", postgres_url, Place())
    async with process_of(node, tmp_path / "node", program) as process:
        await until_ready(process.url + node.ready_path)
        assert "from the image" in await answer_of(process, "from the image")
