"""`models.*`: the providers and their models."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, Field

from ....domain.models import read_proxy
from .fields import Count, PathText, SecretText, Section, SomeSeconds, Text, setting

SERVED_APIS = ("openai-completions", "anthropic-messages", "local", "scripted")
"""The values of `api` that a model client exists for."""
EMBEDDING_APIS = ("openai-completions", "local")
"""Those of them whose providers may have embedding models."""
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
    input: _Dollars = 0
    """Input tokens."""
    output: _Dollars = 0
    """Output tokens."""
    cache_read: _Dollars = 0
    """Input tokens that are in the provider's cache."""


class CompatSection(Section):
    supports_store: bool = True
    """The provider accepts `store`."""
    supports_developer_role: bool = True
    """The provider accepts the role `developer`."""
    supports_reasoning_effort: bool = True
    """The provider accepts `reasoning_effort`."""
    supports_usage_in_streaming: bool = setting(True, addition=True)
    """The provider accepts `stream_options.include_usage`."""
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] | None = None
    """The name to send the token limit under. Left out: the name in the client's request."""
    response_format: Literal["json_schema", "json_object", "none"] = setting(
        "json_schema", addition=True
    )
    """The forms of `response_format` that the provider accepts: both, objects without a schema, or
    none. An instruction takes the place of the others."""


class ModelEntry(Section):
    id: Text
    """The provider's own name for the model."""
    name: str | None = setting(None, free_text=True)
    """A name for people."""
    api: Text | None = None
    """The wire API, if it differs from the provider's."""
    reasoning: bool = False
    """The model reasons before it answers."""
    context_window: Count = 200_000
    """The context window in tokens, including the answer."""
    max_tokens: Count | None = None
    """The most tokens of an answer. Left out: 8192, or the whole window if that is smaller."""
    headers: Headers = setting(dict, secret=True)
    """Headers for calls of this model; they override the provider's."""
    params: dict[str, Any] = setting(dict, addition=True)
    """Parameters sent with every call, under OpenAI's names. For `anthropic-messages` also under
    that API's own, and `cacheRetention`: `none`, `short` or `long`."""
    file: PathText | None = setting(None, addition=True, machine="file")
    """The model file, for api `local`; relative to the configuration."""
    compat: CompatSection = setting(CompatSection)
    """How the provider differs from the OpenAI API."""
    input: list[Text] = setting(["text"])
    """What the model takes: `text`, `image`; others are ignored. A model without `image` gets no
    pictures: a request with a picture in its newest message is refused."""
    cost: Cost = setting(Cost)
    """The price of a million tokens, in US dollars; all zero: unknown."""


class ProviderEntry(Section):
    base_url: BaseUrl | None = setting(None, machine="server")
    """The URL of the API, without `/chat/completions` or `/v1/messages`. Required unless api is
    `local` or `scripted`, or the provider is built in."""
    api_key: SecretText | None = setting(None, secret=True)
    """The API key. Left out for a built-in provider: its environment variable."""
    api: Text = "openai-completions"
    """The wire API. `openai-completions`, `anthropic-messages`, `local` and `scripted` can be used;
    a model of another one cannot be an agent's."""
    headers: Headers = setting(dict, secret=True)
    """Headers sent with every call."""
    auth_header: bool | None = None
    """Send the key as `Authorization: Bearer`. Left out: true, but false for `anthropic-messages`,
    where it is then sent as `x-api-key`."""
    connect_timeout_seconds: SomeSeconds = setting(5, addition=True)
    """The timeout for connecting to the provider."""
    idle_timeout_seconds: SomeSeconds = setting(300, addition=True)
    """The time without data after which a call has timed out."""
    max_answer_bytes: Count = setting(32 * 1024 * 1024, addition=True)
    """The most bytes of one answer, decompressed. A call with a longer answer fails."""
    proxy: Annotated[str, AfterValidator(_proxy)] | None = setting(
        None, addition=True, secret=True, machine="server"
    )
    """The http:// or https:// proxy for the provider, with user name and password if it needs them;
    `""`: none. Left out: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY decide, except that this
    machine is always reached directly."""
    models: list[ModelEntry] = setting(list)
    """The models. An empty list allows any model, with the defaults below and pictures."""


class ModelsSection(Section):
    mode: Literal["merge", "replace"] = "merge"
    """`merge` keeps the built-in providers, `replace` does not."""
    providers: dict[Text, ProviderEntry] = setting(dict)
    """The providers by id; the id has no slash."""
