"""A Gateway starts and ends in spite of code that never returns."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

from tests.e2e.process import GatewayProcess

NEVER_RETURNS = """
import threading

def agent(run):
    yield "begun"
    threading.Event().wait()
"""
NEVER_IMPORTED = """
import threading
threading.Event().wait()
"""


def test_neither_an_import_nor_a_function_without_an_end_keeps_the_process(tmp_path: Path) -> None:
    (tmp_path / "never_returns.py").write_text(NEVER_RETURNS)
    (tmp_path / "never_imported.py").write_text(NEVER_IMPORTED)
    targets = {"main": "never_returns:agent", "slow": "never_imported:agent"}
    agents = [
        {"id": name, "runner": {"use": "python", "target": target}}
        for name, target in targets.items()
    ]
    config = {
        "gateway": {
            "auth": {"token": "x1"},
            "http": {"endpoints": {"chatCompletions": {"enabled": True}}},
            "shutdown": {"graceSeconds": 0},
        },
        "agents": {"list": agents},
    }
    gateway = GatewayProcess(tmp_path, json.dumps(config)).start()
    try:
        body = {"stream": True, "messages": [{"role": "user", "content": "hello"}]}
        headers = {"Authorization": "Bearer x1", "Content-Type": "application/json"}
        client = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        client.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = client.getresponse()
        while b"begun" not in (line := response.readline()):
            assert line, "the answer has ended"
        code = gateway.stop()
        client.close()
    except BaseException:
        gateway.kill()
        raise

    assert code == 0
