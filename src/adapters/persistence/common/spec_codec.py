"""A RunSpec as bytes, and back, so that another process can execute the Run."""

from __future__ import annotations

import json

from ....domain.access import Scope
from ....domain.runs import OnLeave, RunSpec
from ....domain.sessions import BoundBy, SessionKey
from ....domain.tools import CLIENT_SOURCE, ChoiceMode, ClientTools, ToolChoice, ToolSpec
from .codec import Undecodable
from .journal_codec import dump_messages, load_messages, typed

_VERSION = 1
_TEXTS = (
    *("id", "agent_id", "principal_id", "generation", "source", "side_task", "chosen_model"),
    "after_run",
)
_LATER: dict[str, object] = {
    "scopes": None,
    "agents": None,
    "parent": "",
    "hops": 0,
    "client_tools": None,
    "bound_by": BoundBy.KEY.value,
    "side_task": "",
    "chosen_model": "",
    "after_run": "",
    "max_tool_calls": None,
    "streamed": True,
}
"""What earlier releases have not stored."""


def encode_spec(spec: RunSpec) -> bytes:
    """The spec as JSON; texts with lone surrogates as in `codec.encode`."""
    body = {
        "version": _VERSION,
        **{name: getattr(spec, name) for name in _TEXTS},
        "session_key": [spec.session_key.agent_id, spec.session_key.rest],
        "messages": dump_messages(spec.messages),
        "instructions": dump_messages(spec.instructions),
        "params": dict(spec.params),
        "on_leave": spec.on_leave.value,
        "accepted_at": spec.accepted_at,
        "timeout": spec.timeout,
        "one_off": spec.one_off,
        "bound_by": spec.bound_by.value,
        "thinking": spec.thinking,
        "scopes": None if spec.scopes is None else sorted(spec.scopes),
        "agents": None if spec.agents is None else sorted(spec.agents),
        "parent": spec.parent,
        "hops": spec.hops,
        "client_tools": None if spec.client_tools is None else spec.client_tools.data,
        "max_tool_calls": spec.max_tool_calls,
        "streamed": spec.streamed,
    }
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def decode_spec(data: bytes) -> RunSpec:
    """The spec that `encode_spec` made into `data`. Raises Undecodable."""
    try:
        body = _LATER | json.loads(data.decode("utf-8", "surrogatepass"))
        if body["version"] != _VERSION:
            raise Undecodable(f"a stored run has the unknown version {body['version']!r}")
        texts = {name: typed(body[name], str) for name in _TEXTS}
        agent_id, rest = body["session_key"]
        thinking, timeout, agents = body["thinking"], body["timeout"], body["agents"]
        scopes, client_tools = body["scopes"], body["client_tools"]
        max_calls = body["max_tool_calls"]
        return RunSpec(
            **texts,
            session_key=SessionKey(typed(agent_id, str), typed(rest, str)),
            messages=load_messages(body["messages"]),
            instructions=load_messages(body["instructions"]),
            params=typed(body["params"], dict),
            on_leave=OnLeave(body["on_leave"]),
            accepted_at=float(typed(body["accepted_at"], (int, float))),
            timeout=None if timeout is None else float(typed(timeout, (int, float))),
            one_off=typed(body["one_off"], bool),
            bound_by=BoundBy(body["bound_by"]),
            thinking=None if thinking is None else typed(thinking, str),
            scopes=None if scopes is None else _scopes(typed(scopes, list)),
            agents=None if agents is None else frozenset(typed(one, str) for one in agents),
            parent=typed(body["parent"], str),
            hops=typed(body["hops"], int),
            client_tools=None if client_tools is None else _load_tools(client_tools),
            max_tool_calls=None if max_calls is None else typed(max_calls, int),
            streamed=typed(body["streamed"], bool),
        )
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:
        if isinstance(error, Undecodable):
            raise
        raise Undecodable(f"a stored run cannot be read: {error!r}") from error


def _load_tools(body: dict[str, list[list[object]]]) -> ClientTools:
    tools = [
        ToolSpec(
            typed(name, str),
            typed(description, str),
            typed(parameters, dict),
            effects=frozenset(),
            source=CLIENT_SOURCE,
            strict=None if strict is None else typed(strict, bool),
        )
        for name, description, parameters, strict in body["tools"]
    ]
    mode, name = body["choice"]
    choice = ToolChoice(ChoiceMode(typed(mode, str)), typed(name, str))
    return ClientTools(tuple(tools), choice)


def _scopes(names: list[object]) -> frozenset[Scope]:
    """A scope that this version does not know permits nothing here."""
    return frozenset(scope for scope in Scope if scope in names)
