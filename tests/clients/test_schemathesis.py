"""Generated requests to every operation of /openapi.json: no failure, each answer as documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.app.serving import SECRET
from tests.clients.installed import ENDPOINTS, SCHEMATHESIS, gateway, require, run

GATEWAY = {
    "auth": {"token": SECRET},
    "http": {"endpoints": ENDPOINTS},
    "tools": {"invoke": {"allow": ["read"]}},
}
# A schema cannot say all that a value has to be: the name of an agent or a session, for one.
NOT_CHECKED = "positive_data_acceptance"
CONFIG = """
[[operations]]
include-path-regex = "^/a2a"
checks.negative_data_rejection.expected-statuses = ["2xx", "4xx", "5xx"]
"""
"""An error of JSON-RPC has the status 200, also where a header is at fault."""
LIMIT = 900.0
"""Seconds. There are more than 30 operations, each with hundreds of requests."""


@pytest.mark.e2e
@pytest.mark.timeout(LIMIT + 30)
@pytest.mark.parametrize("seed", [1, 2])
async def test_every_answer_is_as_documented(tmp_path: Path, seed: int) -> None:
    require(SCHEMATHESIS)
    async with gateway(tmp_path, gateway=GATEWAY, tools={"allow": ["read"]}) as (served, _):
        async with served.client.get("/openapi.json", headers=served.authorization) as response:
            paths = (await response.json())["paths"]
        (tmp_path / "schemathesis.toml").write_text(CONFIG)
        status, printed = await run(
            tmp_path,
            [
                *(SCHEMATHESIS, "run", f"{served.url}/openapi.json"),
                *("--header", f"Authorization: Bearer {SECRET}"),
                *("--checks", "all", "--exclude-checks", NOT_CHECKED),
                *("--max-examples", "50", "--seed", str(seed)),
                *("--generation-database", "none", "--continue-on-failure"),
            ],
            limit=LIMIT,
        )

    assert status == 0, printed
    del paths["/openapi.json"]  # The address of the document itself is not tested.
    assert f"Tested: {sum(map(len, paths.values()))}\n" in printed
