"""`opensoul status`: an overview of the Gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ...terminal import echo, one_line, print_fields, print_table, when
from ..common.state import State, print_json
from ..remote.reaching import READ, wire_options
from ..remote.rpc import with_client

if TYPE_CHECKING:
    from ....client import Client


@click.command()
@wire_options
@click.pass_obj
def status(state: State) -> None:
    """Show the health of the Gateway, its agents and recent sessions."""

    async def ask(client: Client) -> tuple[str, Any, Any]:
        return client.options.url, await client.status(), await client.health()

    url, summary, health = with_client(state, ask, scopes=READ)
    if state.json:
        print_json({"url": url, "status": summary, "health": health})
        return
    _print(url, summary, health)


def _print(url: str, summary: Any, health: Any) -> None:
    from ....client.results import rows, session_info

    kept = summary.get("sessions") or {}
    failing = health.get("failing") or {}
    agents = [str(agent.get("agentId")) for agent in rows(health, "agents")]
    print_fields(
        (
            ("gateway", url),
            ("version", summary.get("runtimeVersion")),
            ("health", "ok" if health.get("ok") else "unhealthy"),
            *((f"  {part}", why) for part, why in failing.items()),
            ("agents", ", ".join(agents)),
            ("model", (kept.get("defaults") or {}).get("model")),
            ("runs", (summary.get("runs") or {}).get("active")),
            ("sessions", kept.get("count")),
            *(
                (f"mcp {server.get('name')}", server.get("state"))
                for server in rows(summary.get("mcp") or {}, "servers")
            ),
            *(
                (f"sandbox {one.get('agentId')}", one.get("problem") or _availability(one))
                for one in rows(summary, "sandboxes")
            ),
            *(
                (f"python agent {one.get('agentId')}", _python_agent(one))
                for one in rows(summary, "pythonAgents")
            ),
        )
    )
    recent = [
        (info.key, info.label, when(info.updated_at), info.total_tokens, info.model)
        for info in map(session_info, rows(kept, "recent"))
    ]
    if recent:
        echo()
        print_table(("session", "label", "updated", "tokens", "model"), recent, empty="")


def _python_agent(agent: Any) -> str:
    details = agent.get("problem") or agent.get("description")
    return f"{agent.get('state')}{f': {one_line(str(details))}' if details else ''}"


def _availability(sandbox: Any) -> str:
    return f"{sandbox.get('mode')}{'' if sandbox.get('available') else ', not available'}"
