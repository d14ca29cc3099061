"""Variables of the Gateway, none of which reaches a tool."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.attacks.world import order, world

LEAK = "leaked-secret"
SECRETS = dict.fromkeys(
    (
        *("OPENSOUL_GATEWAY_TOKEN", "OPENCLAW_GATEWAY_TOKEN", "OPENSOUL_KEY", "MY_KEY"),
        *("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENROUTER_API_KEY"),
        *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS"),
        *("GITHUB_TOKEN", "GH_TOKEN", "NPM_TOKEN", "HF_TOKEN", "DATABASE_URL", "PGPASSWORD"),
        *("SSH_AUTH_SOCK", "SSH_ASKPASS", "GIT_ASKPASS", "KUBECONFIG", "DOCKER_AUTH_CONFIG"),
        *("https_proxy", "HTTPS_PROXY", "ALL_PROXY", "NETRC", "CURL_HOME", "_", "PS4", "IFS"),
        *("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "BASH_ENV", "ENV", "PROMPT_COMMAND"),
        *("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "NODE_OPTIONS", "PERL5OPT", "RUBYOPT"),
        *("BASH_FUNC_ls%%", "LC_SECRET_TOKEN", "TERMINFO", "lc_all", "path", "MY PASSWORD"),
    ),
    LEAK,
)
"""Names of variables that hold secrets, or make programs run other ones."""


async def test_no_variable_of_the_gateway_reaches_a_tool(tmp_path: Path) -> None:
    calls = (
        order("exec", {"command": "env -0 | tr '\\0' '\\n'; export -p; cat /proc/$PPID/environ"}),
        order("fake__environment", {}),
    )
    async with world(tmp_path, "exec", "fake__environment", environment=SECRETS) as there:
        async with asyncio.timeout(60):
            await there.served.container.mcp().probe("fake")
        for call in calls:
            await there.said(call)
            (result,) = there.results()
            assert "PATH=" in result
            assert LEAK not in result
        assert LEAK not in json.dumps([request.json for request in there.provider.requests])
