"""Builds the body of `POST /v1/messages` from a ModelRequest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from ....domain.models import FormatSupport, ModelRequest
from ....domain.tools import ToolSpec
from ..http import FailureFactory, PerMessage, instructed, negotiated
from .messages import Blocks, Conversation, with_cache
from .thinking import is_adaptive, thinking

_TOKEN_LIMITS = ("max_completion_tokens", "max_tokens")
_TRANSLATED = frozenset(
    (
        *_TOKEN_LIMITS,
        *("temperature", "top_p", "top_k", "stop", "tool_choice", "parallel_tool_calls"),
        *("reasoning_effort", "response_format", "safety_identifier", "cacheRetention"),
    )
)
_OF_OPENAI = frozenset(
    ("metadata", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "store")
)
"""Parameters of OpenAI's own storage and caches, without an effect on an answer."""
_NEUTRAL: Mapping[str, tuple[object, ...]] = {"service_tier": ("auto", "default")}
_SAMPLING = ("temperature", "top_p", "top_k")
_RETENTIONS: Mapping[object, bytes] = {
    "none": b"",
    "short": b'{"type":"ephemeral"}',
    "long": b'{"type":"ephemeral","ttl":"1h"}',
}
_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


def body(request: ModelRequest, blocks: PerMessage[Blocks], failures: FailureFactory) -> bytes:
    """The JSON text of the call. Raises ModelFailed (BAD_REQUEST) if it cannot be expressed."""
    target = request.target
    params = _parameters(request, failures)
    # The configured parameters that OpenAI's API does not have are the API's own.
    own = {
        name: value
        for name, value in target.params
        if name not in _TRANSLATED and (name not in _OF_OPENAI or name == "metadata")
    }
    cache = _RETENTIONS.get(params.get("cacheRetention", "short"), _RETENTIONS["short"])
    content: dict[str, Any] = {
        "model": target.model,
        "max_tokens": _max_tokens(params, target.max_tokens),
        "stream": True,
    }
    content |= _translated(params)
    wanted, instruction = _format(params, target.compat.response_format)
    if wanted is not None:
        content["output_config"] = {"format": wanted}
    messages = instructed(request.messages, instruction)
    try:
        conversation = Conversation(messages, target.ref, blocks)
        if request.tools:
            content |= _tools(request.tools, params, cache)
        elif conversation.called:
            content |= _former_tools(conversation.called)
        content |= _thinking(request, params, content, failures, conversation)
        if "thinking" in {**content, **own}:
            # The API refuses them beside reasoning. The level may be an operator's choice, which a
            # client that sends a temperature does not know.
            content = {name: value for name, value in content.items() if name not in _SAMPLING}
        content |= {name: value for name, value in own.items() if value is not None}
        if conversation.system:
            content["system"] = _array(with_cache(conversation.system, cache))
        content["messages"] = orjson.Fragment(conversation.messages(cache))
        return orjson.dumps(content)
    except orjson.JSONEncodeError as error:
        problem = str(error)
    raise failures.unsendable(f"The request cannot be written as JSON: {problem}.")


def _parameters(request: ModelRequest, failures: FailureFactory) -> dict[str, Any]:
    """The parameters under OpenAI's names: the target's, overridden by the request's."""
    requested = {name: value for name, value in request.params.items() if value is not None}
    for name, value in requested.items():
        known = name in _TRANSLATED or name in _OF_OPENAI
        # A penalty of zero, for example, has no effect.
        if not known and value not in _NEUTRAL.get(name, (0, {}, "")):
            raise failures.unsendable(
                f"The model of this agent does not support {name[:50]!r}.", param=name
            )
    params = {
        name: value
        for name, value in request.target.params
        if name in _TRANSLATED and value is not None
    }
    if any(name in requested for name in _TOKEN_LIMITS):
        for name in _TOKEN_LIMITS:
            params.pop(name, None)
    return params | requested


def _max_tokens(params: Mapping[str, Any], default: int) -> int:
    limits = (params[name] for name in _TOKEN_LIMITS if isinstance(params.get(name), int))
    return next(limits, default)


def _translated(params: Mapping[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name in ("temperature", "top_p"):
        if name in params:
            # OpenAI's range of temperatures goes up to 2. The API refuses a value of another type.
            value = params[name]
            content[name] = min(value, 1) if isinstance(value, int | float) else value
    if "top_k" in params:
        content["top_k"] = params["top_k"]
    if params.get("service_tier") == "default":
        content["service_tier"] = "standard_only"
    if identifier := params.get("safety_identifier"):
        content["metadata"] = {"user_id": identifier}
    if stop := params.get("stop"):
        content["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    return content


def _format(
    params: Mapping[str, Any], support: FormatSupport
) -> tuple[Mapping[str, Any] | None, str]:
    """The format of the answer, and the instruction in the place of one that the API lacks."""
    wanted = params.get("response_format")
    match wanted:
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}} if (
            support is FormatSupport.JSON_SCHEMA
        ):
            return {"type": "json_schema", "schema": schema}, ""
    return None, negotiated(wanted, FormatSupport.NONE)[1]


def _thinking(
    request: ModelRequest,
    params: Mapping[str, Any],
    content: Mapping[str, Any],
    failures: FailureFactory,
    conversation: Conversation,
) -> dict[str, Any]:
    effort = params.get("reasoning_effort")
    if effort is None:
        return {}
    model = request.target.model
    fields: dict[str, Any] = thinking(model, str(effort), content["max_tokens"], failures)
    if not is_adaptive(model):
        # With a budget, the API refuses forced calls, and answers with calls that were given
        # without reasoning, such as those of a fallback model.
        forced = content.get("tool_choice", {}).get("type") in ("any", "tool")
        if forced or conversation.lacks_reasoning:
            return {}
    if "output_config" in fields:
        fields["output_config"] |= content.get("output_config", {})
    return fields


def _tools(
    tools: tuple[ToolSpec, ...], params: Mapping[str, Any], cache: bytes
) -> dict[str, object]:
    encoded = [orjson.dumps(_tool(spec)) for spec in tools]
    content: dict[str, object] = {"tools": _array(with_cache(encoded, cache))}
    choice = params.get("tool_choice")
    chosen: dict[str, object] = {"type": "auto"}
    if isinstance(choice, str):
        chosen = {"type": _CHOICES.get(choice, "auto")}
    elif isinstance(choice, Mapping) and isinstance(function := choice.get("function"), Mapping):
        chosen = {"type": "tool", "name": function.get("name")}
    if params.get("parallel_tool_calls") is False and chosen["type"] != "none":
        chosen["disable_parallel_tool_use"] = True
    if choice is not None or len(chosen) > 1:
        content["tool_choice"] = chosen
    return content


def _former_tools(names: Iterable[str]) -> dict[str, object]:
    """The tools of a conversation in which none is offered any more: the API requires definitions
    wherever there are calls."""
    specs = [ToolSpec(name, "This tool is no longer available.") for name in sorted(names)]
    return {"tools": [_tool(spec) for spec in specs], "tool_choice": {"type": "none"}}


def _tool(spec: ToolSpec) -> dict[str, object]:
    schema = {"type": "object", **spec.parameters}
    if len(schema) == 1:
        schema["properties"] = {}
    return {"name": spec.name, "description": spec.description, "input_schema": schema}


def _array(items: Any) -> orjson.Fragment:
    return orjson.Fragment(b"[" + b",".join(items) + b"]")
