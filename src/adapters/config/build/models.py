"""`models.*` and `agents.defaults.models`: the models, each complete with its provider."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ....domain.agents import Agent
from ....domain.models import (
    Compat,
    FormatSupport,
    ModelDirectory,
    ModelTarget,
    Price,
    Provider,
    Secret,
    proxy_from_environment,
)
from ..errors import KeyPath, guess, listing
from ..locations import first_set
from ..read import Building, nearest
from ..schema.providers import (
    APIS_WITHOUT_URL,
    CALLED,
    EMBEDDING_APIS,
    SERVED_APIS,
    ModelEntry,
    ProviderEntry,
)
from .aliases import Aliases, NoSuchModel
from .built_in import BUILT_IN, UNSERVED_APIS

DEFAULT_MODEL = "openai/gpt-5.2"
_INPUTS = ("text", "image")
_NO_MODEL = "has no model after the slash"
_DEFAULT_MAX_TOKENS = 8_192
_PROVIDERS = ("models", "providers")
_EMBEDDING_MODELS = ("gateway", "http", "endpoints", "embeddings", "models")
_OTHER_ENDPOINTS = ("/responses", "/completions", "/messages", "/embeddings")


@dataclass(slots=True)
class Models:
    """Finds models. Errors of the providers themselves are reported on construction."""

    building: Building
    aliases: Aliases
    providers: dict[str, ProviderEntry] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        section = self.building.config.models
        if section.mode == "merge":
            self.providers.update({name: ProviderEntry() for name in BUILT_IN})
        self.providers.update(section.providers)
        for provider_id, entry in section.providers.items():
            self._check(provider_id, entry)

    def target(self, name: str) -> ModelTarget | None:
        """The model that a reference or an alias names.

        None if the error has been reported already. Raises NoSuchModel.
        """
        reference = self.aliases.resolve(name)
        if reference is None:
            return None
        provider_id, _, model_id = reference.partition("/")
        if self.building.broken(*_PROVIDERS, provider_id):
            return None
        provider = self.providers.get(provider_id)
        if provider is None:
            raise NoSuchModel(self._unknown_provider(provider_id))
        entry = _entry(provider, provider_id, model_id)
        api = entry.api or provider.api
        if api not in SERVED_APIS:
            raise NoSuchModel(f"`{reference}` is served by the api `{api}`, {_unserved(api)}")
        self.used.add(provider_id)
        return self._target(provider_id, entry, api, reference)

    def embedding_target(self, name: str) -> ModelTarget | None:
        """The embedding model of that name. A provider need not list it among its models; the
        provider `local` needs no configuration. Otherwise as `target`."""
        reference = self.aliases.resolve(name)
        if reference is None:
            return None
        provider_id, _, model_id = reference.partition("/")
        if self.building.broken(*_PROVIDERS, provider_id):
            return None
        if provider_id == "local":
            self.providers.setdefault(provider_id, ProviderEntry(api="local"))
        provider = self.providers.get(provider_id)
        if provider is None:
            raise NoSuchModel(self._unknown_provider(provider_id))
        listed = (entry for entry in provider.models if entry.id == model_id)
        if not model_id:
            raise NoSuchModel(_NO_MODEL)
        entry = next(listed, None) or ModelEntry(id=model_id)
        api = entry.api or provider.api
        if api not in EMBEDDING_APIS:
            raise NoSuchModel(
                f"`{reference}` is served by the api `{api}`, which has no embeddings here; "
                f"use one of these: {listing(EMBEDDING_APIS)}"
            )
        self.used.add(provider_id)
        return self._target(provider_id, entry, api, reference)

    def listed(self) -> Iterator[ModelTarget]:
        """The callable models that the providers list."""
        for provider_id, provider in self.providers.items():
            if self.building.broken(*_PROVIDERS, provider_id):
                continue
            for entry in provider.models:
                api = entry.api or provider.api
                if api in SERVED_APIS:
                    yield self._target(provider_id, entry, api, f"{provider_id}/{entry.id}")

    def note_the_rest(self) -> None:
        """Note providers that cannot be called; to be run after all agents have their models."""
        for provider_id, entry in self.building.config.models.providers.items():
            apis = {entry.api, *(model.api or entry.api for model in entry.models)}
            for api in sorted(apis - set(SERVED_APIS)):
                self.building.note(
                    f"models.providers.{provider_id} has the api `{api}`, {_unserved(api)}."
                )
        for name in sorted(self.used & set(BUILT_IN)):
            variables = BUILT_IN[name].variables
            if variables and not self._has_credential(name):
                self.building.note(
                    f"There is no API key for the provider `{name}`, so its calls will fail: set "
                    f"{variables[0]} or models.providers.{name}.apiKey."
                )

    def _unknown_provider(self, provider_id: str) -> str:
        return (
            f"there is no provider `{provider_id}`{guess(provider_id, self.providers)} "
            f"Providers: {listing(sorted(self.providers))}"
        )

    def _check(self, provider_id: str, entry: ProviderEntry) -> None:
        where = (*_PROVIDERS, provider_id)
        if "/" in provider_id:
            self.building.report("the id of a provider must not contain a slash", *where)
            return
        self._check_api(entry.api, (*where, "api"))
        named = entry.base_url is not None or self.building.broken(*where, "baseUrl")
        if not named and provider_id not in BUILT_IN and entry.api not in APIS_WITHOUT_URL:
            message = f"is required for the api `{entry.api}`: the URL of the provider"
            self.building.report(message, *where, "baseUrl")
        if entry.api == "openai-completions" and (wrong := _other_endpoint(entry.base_url)):
            message = f"must end before `{wrong}`; the Gateway appends `{CALLED}`"
            self.building.report(message, *where, "baseUrl")
        seen: set[str] = set()
        for i, model in enumerate(entry.models):
            if model.api is not None:
                self._check_api(model.api, (*where, "models", i, "api"))
            if model.id in seen:
                message = "another model of this provider has the same id"
                self.building.report(message, *where, "models", i, "id")
            seen.add(model.id)

    def _target(self, provider_id: str, entry: ModelEntry, api: str, reference: str) -> ModelTarget:
        limit = self.building.config.agents.defaults.context_tokens
        window = min(entry.context_window, limit or entry.context_window)
        params: dict[str, Any] = {**entry.params, **self.aliases.params(reference)}
        compat = entry.compat
        return ModelTarget(
            provider=self._provider(provider_id, entry, api),
            model=entry.id,
            context_window=window,
            max_tokens=min(entry.max_tokens or _DEFAULT_MAX_TOKENS, window),
            reasoning=entry.reasoning,
            params=tuple(params.items()),
            compat=Compat(
                supports_store=compat.supports_store,
                supports_developer_role=compat.supports_developer_role,
                supports_reasoning_effort=compat.supports_reasoning_effort,
                supports_usage_in_stream=compat.supports_usage_in_streaming,
                max_tokens_field=compat.max_tokens_field,
                response_format=FormatSupport(compat.response_format),
            ),
            price=Price(entry.cost.input, entry.cost.output, entry.cost.cache_read),
            inputs=tuple(kind for kind in entry.input if kind in _INPUTS),
            file=None if entry.file is None else self.building.path(entry.file),
        )

    def _provider(self, provider_id: str, model: ModelEntry, api: str) -> Provider:
        entry = self.providers[provider_id]
        fallback_url = BUILT_IN[provider_id].base_url if provider_id in BUILT_IN else ""
        base_url = entry.base_url or fallback_url
        proxy = entry.proxy
        if proxy is None:
            proxy = proxy_from_environment(base_url, self.building.env)
        headers = {name.lower(): (name, text) for name, text in entry.headers.items()}
        headers |= {name.lower(): (name, text) for name, text in model.headers.items()}
        return Provider(
            id=provider_id,
            api=api,
            base_url=base_url,
            api_key=self._key(provider_id),
            headers=tuple((name, Secret(text)) for name, text in headers.values()),
            auth_header=(
                api != "anthropic-messages" if entry.auth_header is None else entry.auth_header
            ),
            connect_timeout=float(entry.connect_timeout_seconds),
            idle_timeout=float(entry.idle_timeout_seconds),
            max_answer_bytes=entry.max_answer_bytes,
            proxy=Secret(proxy) if proxy else None,
        )

    def _check_api(self, api: str, where: KeyPath) -> None:
        """Report a misspelt api; unsupported ones are noted later."""
        near = None if api in (*SERVED_APIS, *UNSERVED_APIS) else nearest(api, [*SERVED_APIS])
        if near is not None:
            self.building.report(f"there is no api `{api}`; did you mean `{near}`?", *where)

    def _has_credential(self, provider_id: str) -> bool:
        headers = {name.lower() for name in self.providers[provider_id].headers}
        return self._key(provider_id) is not None or bool(headers & {"authorization", "x-api-key"})

    def _key(self, provider_id: str) -> Secret | None:
        key = self.providers[provider_id].api_key
        if key is None and provider_id in BUILT_IN:
            key = first_set(self.building.env, *BUILT_IN[provider_id].variables)
        return None if key is None else Secret(key)


def _other_endpoint(base_url: str | None) -> str:
    """The path of another endpoint at the end of a base URL; empty if there is none."""
    path = urlsplit(base_url or "").path
    return next((end for end in _OTHER_ENDPOINTS if path.endswith(end)), "")


def _unserved(api: str) -> str:
    """The advice for an api without a model client."""
    other = f"use one of these: {listing(SERVED_APIS)}"
    return f"which is not available here; {UNSERVED_APIS.get(api, other)}"


def _entry(provider: ProviderEntry, provider_id: str, model_id: str) -> ModelEntry:
    if not model_id:
        raise NoSuchModel(_NO_MODEL)
    if not provider.models:
        return ModelEntry(id=model_id, input=list(_INPUTS))  # Nothing is known of it.
    known = {entry.id: entry for entry in provider.models}
    if model_id not in known:
        raise NoSuchModel(
            f"the provider `{provider_id}` has no model `{model_id}`{guess(model_id, known)} "
            f"Its models: {listing(known)}"
        )
    return known[model_id]


def build_directory(models: Models, agents: Sequence[Agent]) -> ModelDirectory:
    """The listed models of every provider, those of `agents.defaults.models`, and the agents' own,
    those of their sub-agents and side tasks included.

    If `agents.defaults.models` is not empty, sessions can choose only these and the agents' own.
    """
    named = models.building.config.agents.defaults.models
    chosen = [target for name in named for target in _found(models, name)]
    own = [target for agent in agents for target in agent.models]
    side = [target for agent in agents for target in agent.side_task_models]
    for name in {agent.subagents.model for agent in agents} - {""}:
        own += _found(models, name)
    return ModelDirectory(
        (*models.listed(), *side, *chosen, *own),
        aliases=models.aliases.names,
        selectable=[target.ref for target in (*chosen, *own)] if named else (),
    )


def _found(models: Models, name: str) -> Iterable[ModelTarget]:
    """The model, if there is one: an unused name in the list may be unknown."""
    try:
        target = models.target(name)
    except NoSuchModel:
        return ()
    return () if target is None else (target,)


def build_embedding_models(models: Models) -> tuple[ModelTarget, ...]:
    """`gateway.http.endpoints.embeddings.models`, in their order."""
    building, found = models.building, list[ModelTarget]()
    section = building.config.gateway.http.endpoints.embeddings
    for i, name in enumerate(section.models):
        try:
            target = models.embedding_target(name)
        except NoSuchModel as error:
            building.report(str(error), *_EMBEDDING_MODELS, i)
            continue
        if target is not None:
            found.append(target)
    if section.enabled and not section.models:
        named = ".".join(_EMBEDDING_MODELS)
        building.note(f"{named} names no model, so requests for embeddings are refused.")
    return tuple({target.ref: target for target in found}.values())
