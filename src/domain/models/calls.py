"""One call of a model: the request and the events of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ..immutable import immutable
from ..messages import Message
from ..tools import ToolSpec


class Secret:
    """A value that its `repr` hides; only `reveal()` returns it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class FormatSupport(StrEnum):
    """The forms of `response_format` that a provider accepts; each includes the ones below it."""

    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Compat:
    """Deviations of a provider from OpenAI's API (`models.providers.*.models[].compat`)."""

    supports_store: bool = True
    supports_developer_role: bool = True
    supports_reasoning_effort: bool = True
    supports_usage_in_stream: bool = True
    max_tokens_field: str | None = None
    """`max_tokens` or `max_completion_tokens`: the name of the limit; None: the client's."""
    response_format: FormatSupport = FormatSupport.JSON_SCHEMA
    """Of the other forms the model is told in its instructions."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A server of models. `api` names its ModelClient."""

    id: str
    api: str
    base_url: str = ""
    api_key: Secret | None = None
    headers: tuple[tuple[str, Secret], ...] = ()
    auth_header: bool = True
    """Send the key as `Authorization: Bearer`."""
    connect_timeout: float = 5.0
    """Seconds to connect, after which the provider is unreachable."""
    idle_timeout: float = 300.0
    """Seconds of silence, before or within an answer, after which the call has timed out."""
    max_answer_bytes: int = 32 * 1024 * 1024
    """Maximum size of one decompressed response; the rest of a longer one is not read."""
    proxy: Secret | None = None
    """The URL of the provider's proxy, which may contain a password."""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens; all zero: unknown."""

    input: float = 0.0
    output: float = 0.0
    cached: float = 0.0
    """For input in the provider's cache."""

    @property
    def known(self) -> bool:
        return any((self.input, self.output, self.cached))

    def of(self, input_tokens: int, output_tokens: int, cached_tokens: int) -> float:
        """US dollars; `cached_tokens` are part of `input_tokens`."""
        fresh = max(0, input_tokens - cached_tokens)
        paid = fresh * self.input + cached_tokens * self.cached + output_tokens * self.output
        return paid / 1_000_000


@dataclass(frozen=True, slots=True)
class ModelTarget:
    """One model of one provider, with all the parameters of a call."""

    provider: Provider
    model: str
    """The provider's own name for the model."""
    context_window: int = 200_000
    """Maximum tokens of a call, including the answer."""
    max_tokens: int = 8_192
    """Default maximum tokens of an answer; reserved when history is trimmed."""
    reasoning: bool = False
    params: tuple[tuple[str, object], ...] = ()
    """Parameters of every call; those of the request take precedence."""
    compat: Compat = field(default_factory=Compat)
    price: Price = field(default_factory=Price)
    inputs: tuple[str, ...] = ("text",)
    """The kinds of input in its configuration: `text`, `image`."""
    file: str | None = None
    """A local model file, for clients that run the model."""

    @property
    def ref(self) -> str:
        """`provider/model`, as in the configuration."""
        return f"{self.provider.id}/{self.model}"


@immutable(frozen=True, slots=True)
class ModelRequest:
    """A call: system messages first, then the conversation. `params` use OpenAI's names."""

    target: ModelTarget
    messages: tuple[Message, ...]
    params: Mapping[str, object] = field(default_factory=dict)
    tools: tuple[ToolSpec, ...] = ()


class StopReason(StrEnum):
    """Why an answer ended. The first four are those of models, with OpenAI's values; the others are
    limits of a Run."""

    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    TOOL_CALLS = "tool_calls"
    MAX_STEPS = "max_steps"
    MAX_TOOL_CALLS = "max_tool_calls"
    MAX_OUTPUT_TOKENS = "max_output_tokens"
    MAX_SECONDS = "max_seconds"
    MAX_COST = "max_cost"
    REPEATED_CALL = "repeated_call"

    @property
    def finish_reason(self) -> str:
        """The value of OpenAI's `finish_reason`, whose clients may refuse any other."""
        return str(self if self in _OF_MODELS else StopReason.LENGTH)


_OF_MODELS = frozenset(
    (StopReason.STOP, StopReason.LENGTH, StopReason.CONTENT_FILTER, StopReason.TOOL_CALLS)
)


@immutable(frozen=True, slots=True)
class Usage:
    """Tokens. `estimated`: computed from the text, because the provider reported none.

    `reasoning` is part of `output`, `cached` part of `input`, as in OpenAI's accounting.
    """

    input: int
    output: int
    reasoning: int = 0
    cached: int = 0
    estimated: bool = False
    cache_writes: int = field(default=0, compare=False)
    """Part of `input`, too: what the provider has written to its cache, where it reports that."""

    @property
    def total(self) -> int:
        return self.input + self.output

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.reasoning + other.reasoning,
            self.cached + other.cached,
            self.estimated or other.estimated,
            self.cache_writes + other.cache_writes,
        )


@immutable(frozen=True, slots=True)
class TextDelta:
    """`refusal`: the model says in it why it does not answer."""

    text: str
    refusal: bool = False


@immutable(frozen=True, slots=True)
class ReasoningDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningSigned:
    """The end of a block of reasoning; see Reasoning. A redacted block has no other events."""

    signature: str
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of call number `index`. Its names and its arguments are joined."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@immutable(frozen=True, slots=True)
class ModelFinished:
    """The last event of every successful call. `usage`: None if the provider reported none.
    `stop_sequence`: the one of the request's `stop` that ended the answer, where the provider
    reports it."""

    stop: StopReason
    usage: Usage | None = None
    stop_sequence: str = ""


ModelEvent = TextDelta | ReasoningDelta | ReasoningSigned | ToolCallDelta | ModelFinished
