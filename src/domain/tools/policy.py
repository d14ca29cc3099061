"""Which tools an agent may call: one pure function of the configured rules.

The rules are in layers. A layer with a profile or an `allow` admits only the tools that it names;
every layer may deny, and every layer may require approval. A tool that no layer names is denied.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from types import MappingProxyType

from ..messages import ToolCall
from ..scopes import Scope, covers
from .commands import allows, command_of
from .names import GROUP, NO_NAMES, PROFILES, Names
from .spec import Effect, ToolSpec

EXEC = "exec"
_SHARED = "tools"
_OWN = "agents.list[].tools"
SUBAGENTS_DENY = ("group:sessions", "group:memory")
"""What sub-agents may not use where no key says otherwise."""
_PARENTS_DENY = ("sessions_send", "group:memory")
"""The same for sub-agents that may start further ones."""
_DEPTH = "agents.defaults.subagents.maxSpawnDepth"

NEEDED_SCOPES: Mapping[Effect, Scope] = MappingProxyType(
    {
        Effect.WRITE: Scope.WRITE,
        Effect.EXECUTE: Scope.WRITE,
        Effect.NETWORK: Scope.WRITE,
        Effect.READ: Scope.READ,
    }
)
"""The scope that a principal needs for a tool with an effect. A request to the network is more than
reading, because it can carry data out."""


class Verdict(IntEnum):
    """The greater one wins."""

    ALLOWED = 0
    ASK = 1
    DENIED = 2

    def __str__(self) -> str:
        return self.name.lower()


class Layer(StrEnum):
    """Where a rule stands, in the order in which the layers are consulted."""

    PROFILE = "profile"
    PROVIDER_PROFILE = "provider profile"
    GLOBAL = "global"
    PROVIDER = "global by provider"
    AGENT = "agent"
    AGENT_PROVIDER = "agent by provider"
    SUBAGENT = "sub-agent"
    SCOPES = "scopes"
    """The scopes of the principal that started the run."""
    TOOL = "tool"
    """The tool itself asks."""
    DEFAULT = "default"
    """No rule names the tool."""


class Security(StrEnum):
    """Which commands `exec` may run."""

    DENY = "deny"
    ALLOWLIST = "allowlist"
    FULL = "full"


class Ask(StrEnum):
    """Which commands of `exec` wait for an approval. A miss: the allow-list does not name it."""

    OFF = "off"
    ON_MISS = "on-miss"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class ExecRules:
    """The `exec` object of a layer; None: the key is not set."""

    security: Security | None = None
    ask: Ask | None = None
    allowlist: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ToolRules:
    """One object of rules, `tools` or a part of it. None: the key is not set."""

    profile: str | None = None
    allow: Names | None = None
    also_allow: Names = NO_NAMES
    deny: Names | None = None
    ask: Names = NO_NAMES
    by_provider: Mapping[str, ToolRules] = field(default_factory=lambda: MappingProxyType({}))
    """By the id of a provider, or by `provider/model`; in lower case."""
    subagents: ToolRules | None = None
    exec: ExecRules = ExecRules()

    @property
    def grants(self) -> bool:
        """Whether there is a key that can name tools."""
        if self.profile or self.allow or self.also_allow:
            return True
        return bool(self.by_provider) and any(rules.grants for rules in self.by_provider.values())

    def may_name(self, prefix: str, source: str) -> bool:
        """Whether a tool of the source whose name begins with the prefix may be named."""
        profile = Names(PROFILES.get(self.profile or "", ()))
        names = (profile, self.allow or NO_NAMES, self.also_allow)
        return any(one.may_match(prefix, source) for one in names) or any(
            rules.may_name(prefix, source) for rules in self.by_provider.values()
        )


@dataclass(frozen=True, slots=True)
class ToolPolicy:
    """What an Agent may use: the rules of all agents, and its own. By default: nothing."""

    shared: ToolRules = ToolRules()
    own: ToolRules = ToolRules()

    @property
    def grants(self) -> bool:
        """False: no tool is allowed, whichever there are."""
        return self.shared.grants or self.own.grants

    def may_name(self, prefix: str, source: str) -> bool:
        """False: no tool of the source whose name begins with the prefix is allowed."""
        return self.shared.may_name(prefix, source) or self.own.may_name(prefix, source)


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule that decided. `entry`: the entry of the list, or the value of the key, that applies;
    empty where the key decided because it does not name the tool."""

    layer: Layer
    key: str = ""
    entry: str = ""

    def __str__(self) -> str:
        if self.layer is Layer.DEFAULT:
            return "no profile, allow or alsoAllow names it"
        if self.layer is Layer.SCOPES:
            return f"missing scope: {self.key}"
        if self.layer is Layer.TOOL:
            return "the tool itself requires approval"
        return f"{self.key}: {self.entry}" if self.entry else f"{self.key} does not name it"


@dataclass(frozen=True, slots=True)
class Ruling:
    """What holds for a tool. `model`: only if one of several models of the agent is the reason."""

    tool: str
    verdict: Verdict
    rule: Rule
    model: str = ""


def effective(
    tools: Iterable[ToolSpec],
    policy: ToolPolicy,
    *,
    models: Sequence[str] = (),
    depth: int = 0,
    max_depth: int = 1,
    scopes: Collection[Scope] | None = None,
    call: ToolCall | None = None,
) -> tuple[Ruling, ...]:
    """The ruling for each tool, in the order of `tools`.

    `depth`: how deep the run is nested as a sub-agent; at `max_depth` it may start no further one.
    `scopes`: those of the principal, which has to hold what `NEEDED_SCOPES` names for the effects
    of a tool; None: they are not restricted.
    `models`: every `provider/model` that may be called. The strictest ruling among them applies,
    because a fallback gets the tools of the model before it. `call`: rule on this call; without it,
    a tool whose calls may have to wait has the verdict ASK.
    """
    if not (policy.shared.by_provider or policy.own.by_provider):
        models = models[:1]  # The rules are the same for all.
    limits = tuple(_subagent(policy, max_depth, depth < max_depth)) if depth else ()
    by_model = [(model, _Rules.of(policy, model, limits)) for model in models or ("",)]
    return tuple(_within(scopes, tool, _strictest(tool, by_model, policy, call)) for tool in tools)


def unmatched(tools: Sequence[ToolSpec], policy: ToolPolicy) -> tuple[tuple[str, str], ...]:
    """The entries that name none of the tools, with their keys: perhaps spelled wrong. Groups are
    left out."""
    return tuple(
        (key, entry)
        for key, names in _all_lists(policy)
        for entry in names.entries
        if not entry.strip().lower().startswith(GROUP)
        and not any(Names((entry,)).match(tool) for tool in tools)
    )


def _all_lists(policy: ToolPolicy) -> Iterator[tuple[str, Names]]:
    for key, rules in ((_SHARED, policy.shared), (_OWN, policy.own)):
        parts = [(key, rules)]
        parts += [(f"{key}.byProvider.{name}", one) for name, one in rules.by_provider.items()]
        if rules.subagents is not None:
            parts.append((f"{key}.subagents.tools", rules.subagents))
        for place, part in parts:
            yield f"{place}.allow", part.allow or NO_NAMES
            yield f"{place}.alsoAllow", part.also_allow
            yield f"{place}.deny", part.deny or NO_NAMES
            yield f"{place}.ask", part.ask


def _strictest(
    tool: ToolSpec,
    by_model: Sequence[tuple[str, _Rules]],
    policy: ToolPolicy,
    call: ToolCall | None,
) -> Ruling:
    verdict, rule, model = Verdict.ALLOWED, Rule(Layer.DEFAULT), ""
    for number, (name, rules) in enumerate(by_model):
        found, why = rules.ruling(tool, call)
        if number == 0 or found > verdict:
            verdict, rule, model = found, why, name if number else ""
    if tool.name.lower() == EXEC:
        found, why = _exec_ruling(policy, call)
        if found > verdict:
            verdict, rule, model = found, why, ""
    return Ruling(tool.name, verdict, rule, model)


def _within(scopes: Collection[Scope] | None, tool: ToolSpec, ruling: Ruling) -> Ruling:
    """The ruling, or the denial for a principal with these scopes."""
    if scopes is None or ruling.verdict is Verdict.DENIED:
        return ruling
    for effect, scope in NEEDED_SCOPES.items():
        if effect in tool.effects and not covers(scopes, scope):
            return Ruling(tool.name, Verdict.DENIED, Rule(Layer.SCOPES, scope))
    return ruling


@dataclass(frozen=True, slots=True)
class _List:
    """A list at its key. `label`: what is shown instead of the entry that names a tool."""

    key: str
    names: Names
    label: str = ""


@dataclass(frozen=True, slots=True)
class _Lists:
    """The lists of a layer. `filters`: the key that denies the tools that the layer does not name;
    empty: the layer filters nothing."""

    layer: Layer
    named: tuple[_List, ...] = ()
    filters: str = ""
    deny: tuple[_List, ...] = ()
    ask: tuple[_List, ...] = ()


@dataclass(frozen=True, slots=True)
class _Rules:
    """All layers, for one model."""

    layers: tuple[_Lists, ...]

    @classmethod
    def of(cls, policy: ToolPolicy, model: str, limits: Sequence[_Lists]) -> _Rules:
        """`limits`: the layers of the run itself, which only take away."""
        shared, own = (_SHARED, policy.shared), (_OWN, policy.own)
        shared_by = tuple(_of_provider(*shared, model))
        own_by = tuple(_of_provider(*own, model))
        layers = [
            _profile(Layer.PROFILE, (own, shared)),
            _profile(Layer.PROVIDER_PROFILE, (*own_by, *shared_by)),
            _lists(Layer.GLOBAL, *shared),
            *(_lists(Layer.PROVIDER, *rules) for rules in shared_by),
            _lists(Layer.AGENT, *own),
            *(_lists(Layer.AGENT_PROVIDER, *rules) for rules in own_by),
            *limits,
        ]
        return cls(tuple(layers))

    def ruling(self, tool: ToolSpec, call: ToolCall | None) -> tuple[Verdict, Rule]:
        for layer in self.layers:
            if (rule := _first(layer.layer, layer.deny, tool)) is not None:
                return Verdict.DENIED, rule
        named: Rule | None = None
        for layer in self.layers:
            rule = _first(layer.layer, layer.named, tool)
            if rule is None and layer.filters:
                return Verdict.DENIED, Rule(layer.layer, layer.filters)
            if layer.layer is not Layer.SUBAGENT:  # It only takes away.
                named = named or rule
        if named is None:
            return Verdict.DENIED, Rule(Layer.DEFAULT)
        for layer in self.layers:
            if (rule := _first(layer.layer, layer.ask, tool)) is not None:
                return Verdict.ASK, rule
        if tool.ask and (call is None or tool.asks(call)):
            return Verdict.ASK, Rule(Layer.TOOL)
        return Verdict.ALLOWED, named


def _first(layer: Layer, lists: Sequence[_List], tool: ToolSpec) -> Rule | None:
    for one in lists:
        if (entry := one.names.match(tool)) is not None:
            return Rule(layer, one.key, one.label or entry)
    return None


def _profile(layer: Layer, objects: Sequence[tuple[str, ToolRules]]) -> _Lists:
    """The first profile of the objects, and what all of them allow besides."""
    also = tuple(_List(f"{key}.alsoAllow", rules.also_allow) for key, rules in objects)
    for key, rules in objects:
        if rules.profile is not None:
            filters = f"{key}.profile"
            named = _List(filters, Names(PROFILES[rules.profile]), rules.profile)
            return _Lists(layer, (named, *also), filters)
    return _Lists(layer, also)


def _lists(layer: Layer, key: str, rules: ToolRules) -> _Lists:
    allow, filters = rules.allow, ""
    named = [_List(f"{key}.alsoAllow", rules.also_allow)]
    if allow is not None:
        filters = f"{key}.allow"
        named.insert(0, _List(filters, allow))
    deny = _List(f"{key}.deny", rules.deny or NO_NAMES)
    return _Lists(layer, tuple(named), filters, (deny,), (_List(f"{key}.ask", rules.ask),))


def _subagent(policy: ToolPolicy, max_depth: int, may_spawn: bool) -> Iterator[_Lists]:
    """Without a `deny` of either object, a default one."""
    if not may_spawn:
        spawn = _List(_DEPTH, Names(("sessions_spawn",)), str(max_depth))
        yield _Lists(Layer.SUBAGENT, deny=(spawn,))
    found = [
        (f"{key}.subagents.tools", rules.subagents)
        for key, rules in ((_SHARED, policy.shared), (_OWN, policy.own))
        if rules.subagents is not None
    ]
    if all(rules.deny is None for _, rules in found):
        default = Names(_PARENTS_DENY if may_spawn else SUBAGENTS_DENY)
        deny = _List(f"{_SHARED}.subagents.tools.deny", default)
        yield _Lists(Layer.SUBAGENT, deny=(deny,))
    for key, rules in found:
        yield _lists(Layer.SUBAGENT, key, rules)


def _of_provider(key: str, rules: ToolRules, model: str) -> Iterator[tuple[str, ToolRules]]:
    """The objects of `byProvider` for a model; that of the model itself first."""
    plain = model.lower()
    for name in (plain, plain.partition("/")[0]) if rules.by_provider else ():
        found = rules.by_provider.get(name)
        if found is not None:
            yield f"{key}.byProvider.{name}", found


def _exec_ruling(policy: ToolPolicy, call: ToolCall | None) -> tuple[Verdict, Rule]:
    """The ruling of the `exec` objects for a call, or for any. A key of the agent replaces the
    shared one."""
    own, shared = policy.own.exec, policy.shared.exec
    security = own.security or shared.security or Security.FULL
    ask = own.ask or shared.ask or Ask.OFF
    security_rule = _exec_rule("security", security, own.security)
    ask_rule = _exec_rule("ask", ask, own.ask)
    if security is Security.DENY:
        return Verdict.DENIED, security_rule
    if ask is Ask.ALWAYS:
        return Verdict.ASK, ask_rule
    if call is None:
        return (Verdict.ALLOWED if ask is Ask.OFF else Verdict.ASK), ask_rule
    inherited = own.allowlist is None
    listed = shared.allowlist if inherited else own.allowlist
    command = command_of(call.arguments)
    if command is not None and allows(listed or (), command):
        return Verdict.ALLOWED, security_rule
    if ask is Ask.ON_MISS:
        return Verdict.ASK, ask_rule
    if security is Security.ALLOWLIST:
        layer, key = (Layer.GLOBAL, _SHARED) if inherited else (Layer.AGENT, _OWN)
        return Verdict.DENIED, Rule(layer, f"{key}.exec.allowlist")
    return Verdict.ALLOWED, security_rule


def _exec_rule(key: str, value: Security | Ask, own: Security | Ask | None) -> Rule:
    if own is None:
        return Rule(Layer.GLOBAL, f"{_SHARED}.exec.{key}", value)
    return Rule(Layer.AGENT, f"{_OWN}.exec.{key}", value)
