"""Measures LiteLLM's proxy beside the Gateway and the yardstick: `make bench-peers`, or

    python -m bench.peers [--quick]

The proxy is installed into a separate environment, `bench/.venv-litellm`. If that fails, the
program prints a message and exits successfully.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import orjson

from . import servers
from .cases import LOAD_CASES, PEER_CASES, Rounds, side_by_side
from .process import ROOT, TOKEN, Server, free_port
from .report import load_lines, special_lines
from .run import about, pace_of, parser, save, say
from .special import Bench, cold_start, resident
from .wire import FAST, SHORT

VENV = Path(__file__).parent / ".venv-litellm"
_PACKAGE = "litellm[proxy]"
_INSTALL_LIMIT = 600.0


def installed() -> bool:
    """Install the proxy if necessary; returns whether it is installed."""
    command = VENV / "bin" / "litellm"
    if command.exists():
        return True
    uv = shutil.which("uv") or shutil.which("uv", path=ROOT / ".uv" / "bin")
    python = str(VENV / "bin" / "python")
    if uv:
        steps = [
            [uv, "venv", "--quiet", "--python", sys.executable, str(VENV)],
            [uv, "pip", "install", "--quiet", "--python", python, _PACKAGE],
        ]
    else:
        steps = [
            [sys.executable, "-m", "venv", str(VENV)],
            [python, "-m", "pip", "install", "--quiet", _PACKAGE],
        ]
    try:
        for step in steps:
            subprocess.run(step, check=True, timeout=_INSTALL_LIMIT)
    except (OSError, subprocess.SubprocessError):
        shutil.rmtree(VENV, ignore_errors=True)
    return command.exists()


def litellm(address: str, home: Path) -> Server:
    """LiteLLM's proxy as one process, with a key and no database."""
    port = free_port()
    home.mkdir(parents=True, exist_ok=True)
    config = home / "litellm.yaml"  # JSON is YAML.
    config.write_bytes(orjson.dumps(_config(address)))
    command = [VENV / "bin" / "litellm", "--config", config, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    own = {"HOME": str(home), "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    return Server("litellm", [str(c) for c in command], port, home, own, "/health/liveliness")


def _config(address: str) -> dict[str, object]:
    models = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{name}", "api_base": address, "api_key": TOKEN},
        }
        for name in (SHORT, FAST)
    ]
    return {"model_list": models, "general_settings": {"master_key": TOKEN}}


def main() -> None:
    arguments = parser().parse_args()
    if not installed():
        say("LiteLLM's proxy could not be installed here, so there is nothing to compare with.")
        return
    pace = pace_of(arguments)
    description = about(arguments, pace)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        home = Path(folder)
        address = servers.started(stack, home)
        gateway = servers.gateway(arguments.opensoul)
        makes = {"yardstick": servers.yardstick, "gateway": gateway, "litellm": litellm}
        cases = measure(Bench(address, home, makes, arguments.opensoul, pace))
    if not arguments.dry:
        say(f"Samples: bench/results/{save(cases, description, 'peers').name}")


def measure(bench: Bench) -> dict[str, Rounds]:
    """Measure the cases that peers support."""
    cases: dict[str, Rounds] = {}
    with ExitStack() as stack:
        running = {name: bench.start(stack, name, "peers") for name in bench.makes}
        for server in running.values():
            server.load(model=SHORT, concurrency=4, seconds=2.0)
        for name in PEER_CASES:
            cases[name] = side_by_side(LOAD_CASES[name], running, bench.pace)
            say(*load_lines(name, cases[name]))
    for name, case in (("cold-start", cold_start), ("resident", resident)):
        cases[name] = case(bench)
        say(*special_lines(name, cases[name]))
    return cases


if __name__ == "__main__":
    main()
