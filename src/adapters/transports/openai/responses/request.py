"""The body of `POST /v1/responses`, read and checked as a whole."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator
from pydantic_core import PydanticCustomError

from .....domain.errors import InvalidRequest, ModelFailed, Unsupported
from .....domain.messages import Message
from .....domain.runs import SCHEMA_PARAM, RunRequest
from .....domain.settings import Settings
from .....domain.tools import ClientTools
from ...answering import Parameters, parameters, read_fields, run_request_of
from ...http.fields import Ignored
from ...http.requests import Headers
from ...media import MediaPart
from ..common import DEFAULT_MODEL
from .input import InputReader, input_items
from .tools import read_response_tools


class ResponseStreamOptions(parameters.Strict):
    include_obfuscation: bool | None = None


class ResponseTextFormat(parameters.Strict):
    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")] | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _schema_with_its_type(self) -> Self:
        if self.type == "json_schema" and (self.name is None or self.schema_ is None):
            raise PydanticCustomError("json_schema", "needs `name` and `schema` with this type")
        return self


class ResponseTextOptions(parameters.Strict):
    format: ResponseTextFormat | None = None
    verbosity: str | None = None


class ResponseReasoning(parameters.Strict):
    # Providers have levels of their own, and new ones every few months.
    effort: str | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class ResponseConversation(parameters.Strict):
    id: parameters.Identifier


def _form_of(value: object) -> str | None:
    return "text" if isinstance(value, str) else "object" if isinstance(value, dict) else None


_Conversation = Annotated[
    Annotated[parameters.Identifier, Tag("text")] | Annotated[ResponseConversation, Tag("object")],
    Discriminator(
        _form_of,
        custom_error_type="conversation",
        custom_error_message="must be an id, or an object with `id`",
    ),
]


class Fields(parameters.Strict):
    """Every field with a type of its own. Only what is validated here is read anywhere else."""

    model: parameters.Model | None = None
    instructions: str | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    user: parameters.Identifier | None = None
    temperature: parameters.Temperature = None
    top_p: parameters.TopP = None
    presence_penalty: parameters.Penalty = None
    frequency_penalty: parameters.Penalty = None
    max_output_tokens: parameters.TokenLimit = None
    max_tool_calls: parameters.TokenLimit = None
    parallel_tool_calls: bool | None = None
    text: ResponseTextOptions | None = None
    reasoning: ResponseReasoning | None = None
    metadata: parameters.Metadata = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: parameters.Identifier | None = None
    conversation: _Conversation | None = None
    truncation: Literal["auto", "disabled"] | None = None
    include: Annotated[list[str] | None, Field(max_length=32)] = None
    service_tier: parameters.Hint | None = None
    prompt_cache_key: parameters.Hint | None = None
    prompt_cache_retention: parameters.Hint | None = None
    prompt_cache_options: dict[str, Any] | None = None
    safety_identifier: parameters.Hint | None = None


PASSED_ON = frozenset(
    {
        *("temperature", "top_p", "parallel_tool_calls", "metadata", "service_tier"),
        *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),
        *("safety_identifier", "presence_penalty", "frequency_penalty"),
    }
)
"""Reach the provider under their own names, as they came."""
_OWN = (frozenset(Fields.model_fields) | {"input", "tools", "tool_choice"}) - PASSED_ON
NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "context_management": ([],),
    "moderation": (),
    "prompt": (),
    "top_logprobs": (0,),
}
PARAMETERS = Parameters(PASSED_ON, NEUTRAL, _OWN)

SOURCE = "openresponses"
"""Names the entry point."""
_REFUSED_INCLUDE = "message.output_text.logprobs"
_WITHOUT_EFFECT = frozenset(
    {
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "file_search_call.results",
        "message.input_image.image_url",
        "reasoning.encrypted_content",
        "web_search_call.action.sources",
        "web_search_call.results",
    }
)
"""Values of `include` for what no answer has here."""
INCLUDABLE = sorted(_WITHOUT_EFFECT | {_REFUSED_INCLUDE})
_SESSION_KEY = "session_key"
"""The key of the metadata that is for the Gateway."""
_STREAM_OPTIONS = frozenset({"include_obfuscation"})
_REASONING = frozenset(ResponseReasoning.model_fields)
_TEXT = frozenset(ResponseTextOptions.model_fields)
_FORMAT = frozenset({"type", "name", "description", "schema", "strict"})


@dataclass(frozen=True, slots=True)
class ResponsesRequest:
    """A valid request. `model` is the string that answers repeat."""

    body: Mapping[str, Any]
    """As it was sent, to read it once more with `before` or `resolved`."""
    items: Sequence[object]
    """The `input` as a list of items."""
    messages: tuple[Message, ...]
    """The instructions, and what the items are; without those of `references`."""
    references: Mapping[str, str]
    """The paths of references to items that were not resolved, by the ids of the items."""
    model: str
    stream: bool
    store: bool
    background: bool
    previous_response_id: str | None
    conversation: str | None
    session_key: str | None
    """In the metadata."""
    user: str | None
    client_tools: ClientTools | None
    params: Mapping[str, object]
    max_tool_calls: int | None
    summary: bool
    """The reasoning is asked for."""
    places: Sequence[str]
    """The path of the first item of each of the messages."""
    echo: Mapping[str, object]
    """The fields of a response object that repeat the request, as plain JSON."""
    ignored: str
    """The names of unknown fields, as a header's value; mostly empty."""
    media: Sequence[MediaPart] = ()
    """Pictures and files whose content is still to be read into the messages."""

    def run_request(
        self, headers: Headers, settings: Settings, messages: tuple[Message, ...]
    ) -> RunRequest:
        """What is asked for by the body and the headers. `messages`: with the content of `media`.
        Raises InvalidRequest."""
        asked = run_request_of(
            headers,
            settings,
            messages=messages,
            model=self.model,
            params=self.params,
            client_tools=self.client_tools,
            user=self.user,
            metadata_key=self.session_key,
            streamed=self.stream,
        )
        return replace(asked, source=SOURCE, max_tool_calls=self.max_tool_calls)


_NOTHING: Mapping[str, object] = {}


def read_request(
    body: Mapping[str, Any],
    *,
    before: Sequence[object] = (),
    resolved: Mapping[str, object] = _NOTHING,
) -> ResponsesRequest:
    """`before`: items that precede those of the body. `resolved`: the items that references stand
    for, by their ids. Raises InvalidRequest and Unsupported; their `param` is the path of the field
    at fault."""
    ignored = Ignored()
    fields = read_fields(Fields, body)
    _check_options(body, fields, ignored)
    params = PARAMETERS.read(body, ignored)
    echo_metadata = dict(fields.metadata or {})
    session_key = None
    if fields.metadata and _SESSION_KEY in fields.metadata:
        session_key = fields.metadata.pop(_SESSION_KEY)
        params["metadata"] = fields.metadata
        if not fields.metadata:
            del params["metadata"]
    media: list[MediaPart] = []
    reader = InputReader(ignored, media, resolved)
    if fields.instructions:
        reader.read([{"role": "system", "content": fields.instructions}], "instructions")
    reader.read(before, "previous")
    items = input_items(body.get("input"))
    reader.read(items)
    tools = read_response_tools(body, ignored)
    params |= _named_as_in_chat(fields)
    model = DEFAULT_MODEL if fields.model is None else fields.model
    reasoning = fields.reasoning or ResponseReasoning()
    conversation = fields.conversation
    return ResponsesRequest(
        body=body,
        items=items,
        messages=reader.messages,
        places=reader.places,
        references=reader.references,
        model=model,
        stream=bool(fields.stream),
        store=fields.store is not False,
        background=bool(fields.background),
        previous_response_id=fields.previous_response_id,
        conversation=conversation.id
        if isinstance(conversation, ResponseConversation)
        else conversation,
        session_key=session_key,
        user=fields.user,
        client_tools=tools.client,
        params=params,
        max_tool_calls=fields.max_tool_calls,
        summary=bool(reasoning.summary or reasoning.generate_summary),
        echo={
            "background": bool(fields.background),
            "frequency_penalty": fields.frequency_penalty or 0.0,
            "instructions": fields.instructions,
            "max_output_tokens": fields.max_output_tokens,
            "max_tool_calls": fields.max_tool_calls,
            "model": model,
            "parallel_tool_calls": fields.parallel_tool_calls is not False,
            "presence_penalty": fields.presence_penalty or 0.0,
            "previous_response_id": fields.previous_response_id,
            "prompt_cache_key": fields.prompt_cache_key,
            "prompt_cache_retention": fields.prompt_cache_retention,
            "reasoning": {"effort": reasoning.effort, "summary": reasoning.summary},
            "safety_identifier": fields.safety_identifier,
            "service_tier": fields.service_tier or "default",
            "store": fields.store is not False,
            "temperature": 1.0 if fields.temperature is None else fields.temperature,
            "text": _text(fields.text),
            "tool_choice": tools.choice,
            "tools": tools.tools,
            "top_logprobs": 0,
            "top_p": 1.0 if fields.top_p is None else fields.top_p,
            "truncation": "auto",
            "user": fields.user,
            "metadata": echo_metadata,
        },
        ignored=ignored.header,
        media=media,
    )


def _check_options(body: Mapping[str, Any], fields: Fields, ignored: Ignored) -> None:
    """Note what has no effect, and refuse what is not supported. Raises InvalidRequest."""
    if (options := fields.stream_options) is not None:
        if options.include_obfuscation:
            path = "stream_options.include_obfuscation"
            message = f"`{path}` is not supported. Leave it out, or send false."
            raise Unsupported(message, param=path)
        ignored.note(body["stream_options"], _STREAM_OPTIONS, "stream_options.")
    if fields.reasoning is not None:
        ignored.note(body["reasoning"], _REASONING, "reasoning.")
    if fields.text is not None:
        ignored.note(body["text"], _TEXT, "text.")
        if fields.text.format is not None:
            ignored.note(body["text"]["format"], _FORMAT, "text.format.")
    if fields.truncation == "disabled":  # History is always made to fit.
        ignored.note({"truncation": "disabled"}, frozenset())
    for i, name in enumerate(fields.include or ()):
        param = f"include[{i}]"
        if name == _REFUSED_INCLUDE:
            raise Unsupported(f"`{param}`: {name} is not supported. Leave it out.", param=param)
        if name not in _WITHOUT_EFFECT:
            allowed = ", ".join(INCLUDABLE)
            message = f"`{param}` must be one of {allowed}, not {name[:50]!r}."
            raise InvalidRequest(message, param=param)
        ignored.note({f"include.{name}": True}, frozenset())


def _named_as_in_chat(fields: Fields) -> dict[str, object]:
    """The model parameters that have other names here."""
    params: dict[str, object] = {}
    if fields.max_output_tokens is not None:
        params["max_completion_tokens"] = fields.max_output_tokens
    if fields.reasoning is not None and fields.reasoning.effort is not None:
        params["reasoning_effort"] = fields.reasoning.effort
    if fields.text is None:
        return params
    if fields.text.verbosity is not None:
        params["verbosity"] = fields.text.verbosity
    match fields.text.format:
        case ResponseTextFormat(type="json_schema") as described:
            schema = _described(described)
            params["response_format"] = {
                "type": "json_schema",
                "json_schema": {k: v for k, v in schema.items() if v is not None},
            }
        case ResponseTextFormat(type="json_object"):
            params["response_format"] = {"type": "json_object"}
    return params


def _described(described: ResponseTextFormat) -> dict[str, object]:
    return {
        "name": described.name,
        "description": described.description,
        "schema": described.schema_,
        "strict": described.strict,
    }


def _text(options: ResponseTextOptions | None) -> dict[str, object]:
    options = options or ResponseTextOptions()
    wanted: dict[str, object] = {"type": "text"}
    if options.format is not None:
        wanted = {"type": options.format.type}
        if options.format.type == "json_schema":
            wanted |= _described(options.format)
    return {"format": wanted, "verbosity": options.verbosity or "medium"}


_PARAMS: Mapping[str, str] = {
    "max_completion_tokens": "max_output_tokens",
    "messages": "input",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    SCHEMA_PARAM: "text.format.schema",
}
"""What this API calls the fields that errors of the domain and of providers name."""


_RESULT = re.compile(r"messages\[(\d{1,5})\]\.tool_call_id")


def param_of(error: InvalidRequest | ModelFailed, places: Sequence[str] = ()) -> str | None:
    """What this API calls the field that an error names. `places`: as in ResponsesRequest."""
    param = error.param or ""
    if (found := _RESULT.fullmatch(param)) and int(found[1]) < len(places):
        return f"{places[int(found[1])]}.call_id"
    return _PARAMS.get(param, error.param)
