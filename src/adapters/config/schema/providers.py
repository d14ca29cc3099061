"""`models.*`: the providers and their models."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, Field

from ....domain.models import read_proxy
from .fields import Count, PathText, SecretText, Section, SomeSeconds, Text, section, setting

SERVED_APIS = ("openai-completions", "anthropic-messages", "local", "scripted")
"""The values of `api` that a model client exists for."""
APIS_WITHOUT_URL = ("local", "scripted")

CALLED = "/chat/completions"
"""The path that the Gateway appends to a base URL."""
_SLASHES = re.compile(r"(?<!:)/{2,}")
"""Repeated slashes, except those of a URL within the path, as some forwarding services have."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _base_url(value: str) -> str:
    problem = ValueError("must be an http:// or https:// URL without user name or fragment")
    try:
        url = urlsplit(value)
        fit = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        raise problem from None
    if not fit or url.username is not None or url.fragment or not value.isprintable():
        raise problem
    if " " in value:
        raise problem
    path = _SLASHES.sub("/", url.path).rstrip("/").removesuffix(CALLED).rstrip("/")
    return urlunsplit((url.scheme, url.netloc, path, url.query, ""))


def _proxy(value: str) -> str:
    if value:
        read_proxy(value)
    return value


def _header_name(value: str) -> str:
    if not _HEADER_NAME.fullmatch(value):
        raise ValueError("is not a valid header name")
    return value


def _header_value(value: str) -> str:
    if not all(char.isprintable() or char == "\t" for char in value):
        raise ValueError("must not contain control characters")
    return value


BaseUrl = Annotated[str, AfterValidator(_base_url)]
Headers = dict[
    Annotated[str, AfterValidator(_header_name)], Annotated[str, AfterValidator(_header_value)]
]


_Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Cost(Section):
    input: _Dollars = setting(0, "Input tokens.")
    output: _Dollars = setting(0, "Output tokens.")
    cache_read: _Dollars = setting(0, "Input tokens that are in the provider's cache.")


class CompatSection(Section):
    supports_store: bool = setting(True, "The provider accepts `store`.")
    supports_developer_role: bool = setting(True, "The provider accepts the role `developer`.")
    supports_reasoning_effort: bool = setting(True, "The provider accepts `reasoning_effort`.")
    supports_usage_in_streaming: bool = setting(
        True, "The provider accepts `stream_options.include_usage`.", addition=True
    )
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] | None = setting(
        None, "The name to send the token limit under. Left out: the name in the client's request."
    )


class ModelEntry(Section):
    id: Text = setting(..., "The provider's own name for the model.")
    name: str | None = setting(None, "A name for people.", free_text=True)
    api: Text | None = setting(None, "The wire API, if it differs from the provider's.")
    reasoning: bool = setting(False, "The model reasons before it answers.")
    context_window: Count = setting(200_000, "The context window in tokens, including the answer.")
    max_tokens: Count | None = setting(
        None,
        "The most tokens of an answer. Left out: 8192, or the whole window if that is smaller.",
    )
    headers: Headers = Field(
        default_factory=dict,
        description="Headers for calls of this model; they override the provider's.",
        json_schema_extra={"x-secret": True},
        repr=False,
    )
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="Parameters sent with every call, under OpenAI's names. For "
        "`anthropic-messages` also under that API's own, and `cacheRetention`: `none`, `short` or "
        "`long`.",
        json_schema_extra={"x-addition": True},
    )
    file: PathText | None = setting(
        None,
        "The model file, for api `local`; relative to the configuration.",
        addition=True,
        machine="file",
    )
    compat: CompatSection = Field(
        default_factory=CompatSection,
        description="How the provider differs from the OpenAI API.",
    )
    input: list[Text] = Field(
        default=["text"],
        description="The input types in lists of models: `text`, `image`; others are ignored.",
    )
    cost: Cost = section(Cost, "The price of a million tokens, in US dollars; all zero: unknown.")


class ProviderEntry(Section):
    base_url: BaseUrl | None = setting(
        None,
        "The URL of the API, without `/chat/completions` or `/v1/messages`. Required unless api is "
        "`local` or `scripted`, or the provider is built in.",
        machine="server",
    )
    api_key: SecretText | None = setting(
        None,
        "The API key. Left out for a built-in provider: its environment variable.",
        secret=True,
    )
    api: Text = setting(
        "openai-completions",
        "The wire API. `openai-completions`, `anthropic-messages`, `local` and `scripted` can be "
        "used; a model of another one cannot be an agent's.",
    )
    headers: Headers = Field(
        default_factory=dict,
        description="Headers sent with every call.",
        json_schema_extra={"x-secret": True},
        repr=False,
    )
    auth_header: bool | None = setting(
        None,
        "Send the key as `Authorization: Bearer`. Left out: yes, but for `anthropic-messages`, "
        "where false sends it as `x-api-key`, no.",
    )
    connect_timeout_seconds: SomeSeconds = setting(
        5, "The timeout for connecting to the provider.", addition=True
    )
    idle_timeout_seconds: SomeSeconds = setting(
        300, "The time without data after which a call has timed out.", addition=True
    )
    max_answer_bytes: Count = setting(
        32 * 1024 * 1024,
        "The most bytes of one answer, decompressed. A call with a longer answer fails.",
        addition=True,
    )
    proxy: Annotated[str, AfterValidator(_proxy)] | None = setting(
        None,
        "The http:// or https:// proxy for the provider, with user name and password if it needs "
        'them; `""`: none. Left out: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY decide, '
        "except that this machine is always reached directly.",
        addition=True,
        secret=True,
        machine="server",
    )
    models: list[ModelEntry] = Field(
        default_factory=list,
        description="The models. An empty list allows any model, with the defaults below.",
    )


class ModelsSection(Section):
    mode: Literal["merge", "replace"] = setting(
        "merge", "`merge` keeps the built-in providers, `replace` does not."
    )
    providers: dict[Text, ProviderEntry] = Field(
        default_factory=dict, description="The providers by id; the id has no slash."
    )
