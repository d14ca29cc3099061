"""`models.*`: where models are served, and what is known about each."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, Field

from ....domain.models import read_proxy
from .fields import Count, PathText, SecretText, Section, SomeSeconds, Text, section, setting

SERVED_APIS = ("openai-completions", "local", "scripted")
"""The values of `api` that a model client exists for."""
APIS_WITHOUT_URL = ("local", "scripted")

CALLED = "/chat/completions"
"""What the Gateway itself adds to a base URL."""
_SLASHES = re.compile(r"(?<!:)/{2,}")
"""Not those of a URL within the path, as some forwarding services have it."""
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
        raise ValueError("is not the name of a header")
    return value


def _header_value(value: str) -> str:
    if not all(char.isprintable() or char == "\t" for char in value):
        raise ValueError("must not hold control characters")
    return value


BaseUrl = Annotated[str, AfterValidator(_base_url)]
Headers = dict[
    Annotated[str, AfterValidator(_header_name)], Annotated[str, AfterValidator(_header_value)]
]


_Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Cost(Section):
    input: _Dollars = setting(0, "What is sent to the model.")
    output: _Dollars = setting(0, "What it answers.")
    cache_read: _Dollars = setting(0, "What is sent and is in the provider's cache.")


class CompatSection(Section):
    supports_store: bool = setting(True, "The provider knows `store`.")
    supports_developer_role: bool = setting(True, "The provider knows the role `developer`.")
    supports_reasoning_effort: bool = setting(True, "The provider knows `reasoning_effort`.")
    supports_usage_in_streaming: bool = setting(
        True, "The provider knows `stream_options.include_usage`.", addition=True
    )
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] | None = setting(
        None, "Send the limit under this name. Left out: as the client spelled it."
    )


class ModelEntry(Section):
    id: Text = setting(..., "The provider's own name for the model.")
    name: str | None = setting(None, "A name for people.", free_text=True)
    api: Text | None = setting(None, "The wire API, where it is not the provider's.")
    reasoning: bool = setting(False, "The model thinks before it answers.")
    context_window: Count = setting(200_000, "Tokens that fit in a call, answer included.")
    max_tokens: Count | None = setting(
        None, "Tokens an answer may have. Left out: 8192, or the whole window if that is smaller."
    )
    headers: Headers = Field(
        default_factory=dict,
        description="Headers sent with calls of this model, over the provider's.",
        json_schema_extra={"x-secret": True},
        repr=False,
    )
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="Parameters sent with every call, under OpenAI's names.",
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
        description="What the model can read, as lists of models show it: `text`, `image`; others "
        "do not count.",
    )
    cost: Cost = section(
        Cost, "What a million tokens cost, in US dollars; all zero: it is not known."
    )


class ProviderEntry(Section):
    base_url: BaseUrl | None = setting(
        None,
        "Where the API is, up to and without `/chat/completions`. Needed unless api is `local` "
        "or `scripted`, or the provider is built in.",
        machine="server",
    )
    api_key: SecretText | None = setting(
        None, "The key. Left out for a built-in provider: its variable.", secret=True
    )
    api: Text = setting(
        "openai-completions",
        "The wire API. `openai-completions`, `local` and `scripted` can be used; a model of "
        "another one cannot be an agent's.",
    )
    headers: Headers = Field(
        default_factory=dict,
        description="Headers sent with every call.",
        json_schema_extra={"x-secret": True},
        repr=False,
    )
    auth_header: bool = setting(True, "Send the key as `Authorization: Bearer`.")
    connect_timeout_seconds: SomeSeconds = setting(
        5, "How long reaching the provider may take.", addition=True
    )
    idle_timeout_seconds: SomeSeconds = setting(
        300, "Silence after which a call counts as timed out.", addition=True
    )
    max_answer_bytes: Count = setting(
        32 * 1024 * 1024,
        "Bytes of one answer as the provider sends it, decompressed. A longer one is cut off, and "
        "the call has failed.",
        addition=True,
    )
    proxy: Annotated[str, AfterValidator(_proxy)] | None = setting(
        None,
        "The http:// or https:// proxy to reach the provider through, with user name and password "
        'if it needs them; `""`: none. Left out: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY '
        "decide, but no proxy of theirs is used for this machine.",
        addition=True,
        secret=True,
        machine="server",
    )
    models: list[ModelEntry] = Field(
        default_factory=list,
        description="The models. An empty list means any, with the defaults below.",
    )


class ModelsSection(Section):
    mode: Literal["merge", "replace"] = setting(
        "merge", "`merge` keeps the built-in providers, `replace` does not."
    )
    providers: dict[Text, ProviderEntry] = Field(
        default_factory=dict, description="The providers by id; the id has no slash."
    )
