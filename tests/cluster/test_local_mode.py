"""One process with files is not concerned with databases of several."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import pytest

from tests.app.serving import SECRET
from tests.cluster.nodes import node_config, question, text
from tests.e2e.process import GatewayProcess


@pytest.mark.e2e
async def test_a_gateway_with_files_imports_no_driver_of_a_database(tmp_path: Path) -> None:
    config = node_config("all", "alone", {})
    del config["node"]
    environment = {"PYTHONPROFILEIMPORTTIME": "1", "WORK": str(tmp_path / "work")}
    process = GatewayProcess(tmp_path, json.dumps(config), environment=environment)
    async with process, aiohttp.ClientSession() as http:
        body = {"model": "opensoul", "messages": [{"role": "user", "content": question("one")}]}
        url = f"{process.url}/v1/chat/completions"
        headers = {"Authorization": f"Bearer {SECRET}"}
        async with http.post(url, json=body, headers=headers) as response:
            said = await response.json()
    imported = {line.rpartition("|")[2].strip() for line in process.err if "import time" in line}

    assert said["choices"][0]["message"]["content"] == text("one")
    assert "opensoul.adapters.persistence.sqlite.sessions" in imported
    assert not [name for name in imported if name.startswith(("psycopg", "psycopg_pool"))]
    assert not [name for name in imported if "persistence.postgres" in name]
