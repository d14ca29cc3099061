"""`opensoul status`: the Gateway at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ...terminal import echo
from ..common.state import State, print_json
from ..remote.reaching import READ, wire_options

if TYPE_CHECKING:
    from ....client import Client


@click.command()
@wire_options
@click.pass_obj
def status(state: State) -> None:
    """Tell how the Gateway is, who is there, and what was used last."""
    from ..remote.rpc import talk

    async def ask(client: Client) -> tuple[str, Any, Any]:
        return client.options.url, await client.status(), await client.health()

    url, told, health = talk(state, ask, scopes=READ)
    if state.json:
        print_json({"url": url, "status": told, "health": health})
        return
    _print(url, told, health)


def _print(url: str, told: Any, health: Any) -> None:
    from ....client.results import rows, session_info
    from ...terminal import print_fields, print_table, when

    kept = told.get("sessions") or {}
    failing = health.get("failing") or {}
    agents = [str(agent.get("agentId")) for agent in rows(health, "agents")]
    print_fields(
        (
            ("gateway", url),
            ("version", told.get("runtimeVersion")),
            ("health", "ok" if health.get("ok") else "not fit"),
            *((f"  {part}", why) for part, why in failing.items()),
            ("agents", ", ".join(agents)),
            ("model", (kept.get("defaults") or {}).get("model")),
            ("runs", (told.get("runs") or {}).get("active")),
            ("sessions", kept.get("count")),
        )
    )
    recent = [
        (info.key, info.label, when(info.updated_at), info.total_tokens, info.model)
        for info in map(session_info, rows(kept, "recent"))
    ]
    if recent:
        echo()
        print_table(("session", "label", "updated", "tokens", "model"), recent, empty="")
