"""Model calls of agents that run themselves, by the models that are configured here."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from ..errors import UnknownAgent
from ..execution import ModelAnswer, ModelRouter, Prompt
from ..messages import Message, Role, ToolCall
from ..models import ModelTarget
from ..ports import CurrentSettings
from ..runs import ClientCalls, Finished, RunEvent
from ..sessions import Transcript
from ..settings import Settings
from ..tools import ToolSpec

DEFAULT = "default"
"""The name for the agent's own model."""
_SOURCE = "agent"


class ModelCalls:
    """Calls models with the keys, fallbacks and cooldowns that the native runner has. What a call
    uses is counted where the run of the agent reports it."""

    def __init__(self, router: ModelRouter, settings: CurrentSettings) -> None:
        self._router = router
        self._settings = settings

    async def call(
        self,
        agent_id: str,
        name: str,
        messages: Sequence[Message],
        params: Mapping[str, object],
        tools: Sequence[ToolSpec],
    ) -> AsyncGenerator[Sequence[RunEvent]]:
        """The events of the answer; the last one is Finished. `name` is a reference, an alias, or
        `default`; behind it come the agent's own models as fallbacks.

        Raises UnknownAgent, InvalidRequest (`param` model), ModelFailed.
        """
        prompt = Prompt(
            run_id="",
            agent_id=agent_id,
            models=_targets(self._settings(), agent_id, name),
            system=tuple(m for m in messages if m.role is Role.SYSTEM),
            history=Transcript(),
            messages=tuple(m for m in messages if m.role is not Role.SYSTEM),
            params=params,
            tools=tuple(tools),
        )
        async with aclosing(self._router.call(prompt)) as batches:
            async for batch in batches:
                events: list[RunEvent] = []
                for event in batch:
                    if not isinstance(event, ModelAnswer):
                        events.append(event)
                        continue
                    calls = [p for p in event.message.parts if isinstance(p, ToolCall)]
                    if calls:
                        events.append(ClientCalls(tuple(calls)))
                    events.append(Finished(event.stop, event.usage, event.model))
                yield events
                if isinstance(events[-1], Finished):
                    return


def _targets(settings: Settings, agent_id: str, name: str) -> tuple[ModelTarget, ...]:
    agent = settings.agents.get(agent_id)
    if agent is None:
        raise UnknownAgent(f"No agent {agent_id!r} here.", param="model")
    if name in ("", DEFAULT):
        return agent.models
    chosen = settings.models.choose(name)
    return (chosen, *(model for model in agent.models if model.ref != chosen.ref))
