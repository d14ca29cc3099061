"""The body of a message, read and checked as a whole."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from ....domain.errors import InvalidRequest, Unsupported
from ....domain.messages import Message
from ....domain.tools import ClientTools
from ..answering import parameters, read_fields
from ..http.fields import Ignored, integral
from ..media import MediaPart
from ..openai.common import DEFAULT_MODEL
from .messages import read_messages
from .tools import TOOL_FIELDS, read_tools

_TopK = Annotated[Annotated[int, Field(ge=0, le=1_000_000)] | None, BeforeValidator(integral)]


class Thinking(parameters.Strict):
    type: Literal["enabled", "adaptive", "between_tools", "disabled"]
    budget_tokens: parameters.TokenLimit = None
    display: str | None = None

    @model_validator(mode="after")
    def _budget_with_its_type(self) -> Self:
        if self.type == "enabled" and self.budget_tokens is None:
            raise PydanticCustomError("budget", "needs `budget_tokens` with this type")
        return self


class AnswerFormat(parameters.Strict):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(parameters.Strict):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: AnswerFormat | None = None


class RequestMetadata(parameters.Strict):
    user_id: parameters.Identifier | None = None
    session_key: parameters.Identifier | None = None
    """Ours, as in chat completions."""


class MessageFields(parameters.Strict):
    """Every field with a type of its own. Only what is validated here is read anywhere else."""

    model: parameters.Model | None = None
    max_tokens: parameters.TokenLimit = None
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: Annotated[float | None, Field(ge=0, le=1)] = None
    top_p: parameters.TopP = None
    top_k: _TopK = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: AnswerFormat | None = None
    metadata: RequestMetadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    cache_control: dict[str, Any] | None = None


_KNOWN = frozenset(MessageFields.model_fields) | TOOL_FIELDS | {"system", "messages"}
_INNER = {
    "thinking": frozenset(Thinking.model_fields),
    "output_config": frozenset(OutputConfig.model_fields),
    "metadata": frozenset(RequestMetadata.model_fields),
}
_UNSUPPORTED: Mapping[str, str] = {
    "mcp_servers": "The agent's own MCP servers are in the Gateway's configuration",
    "container": "The agent's own tools run on the Gateway",
}
_BUDGETS = ((1_024, "minimal"), (4_096, "low"), (8_192, "medium"), (16_384, "high"))
"""The most tokens of each level of thinking; above them it is `xhigh`."""
_LEVELS = {"max": "xhigh"}
"""Efforts whose level has another name."""
_PROGRAM_SESSION = re.compile(r"user_[^_]*_account_[^_]*_session_[A-Za-z0-9-]+")


@dataclass(frozen=True, slots=True)
class MessageRequest:
    """A valid request. `model` is the string that answers repeat."""

    messages: tuple[Message, ...]
    results: Mapping[str, str]
    """The paths of the ids of calls that `tool_result` blocks have."""
    model: str
    stream: bool
    user: str | None
    session_key: str | None
    """In the metadata."""
    tools: ClientTools | None
    params: Mapping[str, object]
    """Under OpenAI's names."""
    thinking: str | None
    """A level of thinking; None: the agent's."""
    shows_thinking: bool
    """The answer has the model's reasoning."""
    schema_path: str
    """The path of the schema that the answer has to have."""
    ignored: str
    """The names of unknown fields, as a header's value; mostly empty."""
    media: Sequence[MediaPart] = ()
    """Pictures and files whose content is still to be read into the messages."""


def read_request(body: Mapping[str, Any], *, counts: bool = False) -> MessageRequest:
    """`counts`: the tokens of the request are counted, and `max_tokens` may be missing. Raises
    InvalidRequest and Unsupported; their `param` is the path of the field at fault."""
    ignored = Ignored()
    fields = read_fields(MessageFields, body)
    ignored.note(body, _KNOWN | _UNSUPPORTED.keys())
    for name, known in _INNER.items():
        if isinstance(inner := body.get(name), Mapping):
            ignored.note(inner, known, f"{name}.")
    for name, reason in _UNSUPPORTED.items():
        if body.get(name) not in (None, [], {}):
            raise Unsupported(f"`{name}` is not supported. {reason}.", param=name)
    if fields.max_tokens is None and not counts:
        raise InvalidRequest(
            "`max_tokens` is missing; it must be a number of tokens from 1 up.", param="max_tokens"
        )
    tools, parallel = read_tools(body, ignored)
    params = _params(fields)
    if not parallel:
        params["parallel_tool_calls"] = False
    media: list[MediaPart] = []
    messages, results = read_messages(body, ignored, media)
    return MessageRequest(
        messages=messages,
        results=results,
        model=DEFAULT_MODEL if fields.model is None else fields.model,
        stream=bool(fields.stream),
        user=_user(fields),
        session_key=fields.metadata.session_key if fields.metadata else None,
        tools=tools,
        params=params,
        thinking=_thinking(fields),
        shows_thinking=fields.thinking is None or fields.thinking.display != "omitted",
        schema_path=_schema_path(fields),
        ignored=ignored.header,
        media=media,
    )


def _schema_path(fields: MessageFields) -> str:
    of_config = fields.output_config is not None and fields.output_config.format is not None
    return ("output_config.format" if of_config else "output_format") + ".schema"


def _params(fields: MessageFields) -> dict[str, object]:
    found: dict[str, object] = {
        "max_tokens": fields.max_tokens,
        "temperature": fields.temperature,
        "top_p": fields.top_p,
        "top_k": fields.top_k,
        "stop": fields.stop_sequences or None,
        "service_tier": "default" if fields.service_tier == "standard_only" else None,
    }
    config = fields.output_config
    wanted = (config and config.format) or fields.output_format
    if wanted is not None:
        schema = {"name": "answer", "schema": wanted.schema_, "strict": True}
        found["response_format"] = {"type": "json_schema", "json_schema": schema}
    return {name: value for name, value in found.items() if value is not None}


def _thinking(fields: MessageFields) -> str | None:
    """The level of thinking. A model that decides itself how much it thinks has the effort `high`
    unless the request names another one."""
    effort = fields.output_config.effort if fields.output_config else None
    level = None if effort is None else _LEVELS.get(effort, effort)
    match fields.thinking:
        case None:
            return level
        case Thinking(type="disabled"):
            return "off"
        case Thinking(type="enabled", budget_tokens=int() as budget):
            return next((name for most, name in _BUDGETS if budget <= most), "xhigh")
    return level or "high"


def _user(fields: MessageFields) -> str | None:
    """The user whose session the request belongs to.

    Claude Code sends an id of its own session, under which there are several conversations: those
    of sub-agents, and requests for titles. Each of its requests holds its whole conversation.
    """
    user = fields.metadata.user_id if fields.metadata else None
    if user is None or _PROGRAM_SESSION.fullmatch(user) or _names_session(user):
        return None
    return user


def _names_session(user: str) -> bool:
    if not user.startswith("{"):
        return False
    try:
        value = json.loads(user)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and "session_id" in value
