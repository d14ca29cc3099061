"""The agents in the format of Anthropic's list of models.

https://docs.anthropic.com/en/api/models-list
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from .....domain.agents import Agent, AgentDirectory
from .....domain.errors import InvalidRequest
from .objects import display_name, named_agents

_DEFAULT_LIMIT, _LARGEST_LIMIT = 20, 1_000
PARAMETERS = [
    {
        "name": "limit",
        "in": "query",
        "description": "With the header `anthropic-version`: how many models a page has.",
        "schema": {"type": "integer", "minimum": 1, "maximum": _LARGEST_LIMIT},
    },
    *(
        {
            "name": name,
            "in": "query",
            "description": f"With the header `anthropic-version`: the page {where} this model.",
            "schema": {"type": "string"},
        }
        for name, where in (("after_id", "behind"), ("before_id", "before"))
    ),
]
"""The parameters of an OpenAPI operation."""


def agent_info(name: str, agent: Agent, created: int) -> dict[str, object]:
    """One agent. `created`: Unix seconds."""
    return {
        "type": "model",
        "id": name,
        "display_name": display_name(name, agent),
        "created_at": datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def page(
    directory: AgentDirectory, created: int, query: Mapping[str, str], limit: int
) -> dict[str, object]:
    """A page of the agents. Raises InvalidRequest that names the parameter at fault."""
    every = [agent_info(name, agent, created) for name, agent in named_agents(directory)]
    ids = [str(info["id"]) for info in every]
    if "after_id" in query and "before_id" in query:
        message = "Send one of the parameters `after_id` and `before_id`."
        raise InvalidRequest(message, param="before_id")
    if "before_id" in query:
        end = _place(ids, query["before_id"], "before_id")
        begin = max(0, end - limit)
        has_more = begin > 0
    else:
        begin = _place(ids, query["after_id"], "after_id") + 1 if "after_id" in query else 0
        end = min(len(ids), begin + limit)
        has_more = end < len(ids)
    return {
        "data": every[begin:end],
        "has_more": has_more,
        "first_id": ids[begin] if begin < end else None,
        "last_id": ids[end - 1] if begin < end else None,
    }


def limit_in(query: Mapping[str, str]) -> int:
    """How many models a page has. Raises InvalidRequest."""
    text = query.get("limit")
    if text is None:
        return _DEFAULT_LIMIT
    # Short, ASCII digits alone: int() takes more than that, and reads long numbers slowly.
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= _LARGEST_LIMIT:
        return int(text)
    raise InvalidRequest(f"`limit` must be a number from 1 to {_LARGEST_LIMIT}.", param="limit")


def _place(ids: Sequence[str], name: str, param: str) -> int:
    if name not in ids:
        raise InvalidRequest(f"`{param}` is the id of no model in the list.", param=param)
    return ids.index(name)
