"""From what a client asked to the Run that is accepted, with or without an idempotency key."""

from __future__ import annotations

import math
import uuid
from dataclasses import replace

from ..access import Principal
from ..chat_commands import ChatCommand, command_in
from ..errors import InvalidRequest, KeyReused
from ..messages import Role
from ..runs import RunRecord, RunRequest, RunSpec, digest
from ..sessions import bind, one_off_binding, thinking_level
from ..settings import Settings
from ..side_tasks import side_task_in
from ..text import check_name
from .ownership import namespace_of, own_key

MAX_IDEMPOTENCY_KEY = 256
_VERSION = "v2:"
"""Of the digests that `fingerprint` makes: to be raised with every change of what goes into it."""


def make_spec(
    request: RunRequest, settings: Settings, *, run_id: str, principal: Principal, at: float
) -> RunSpec:
    """The Run that the request asks for. Raises InvalidRequest and its kinds."""
    spoken = tuple(m for m in request.messages if m.role is not Role.SYSTEM)
    if not any(m.role in (Role.USER, Role.TOOL) for m in spoken):
        raise InvalidRequest("Missing user message in `messages`.", param="messages")
    side_task = request.side_task
    if (
        request.side_tasks
        and not side_task
        and request.client_tools is None
        and request.after is None
    ):
        side_task = side_task_in(request.messages, settings.sessions.side_task_patterns)
    chosen = request.chosen_model
    after = request.after
    binding = bind(
        settings.agents,
        model=request.model,
        agent_id=request.agent_id,
        session_key=request.session_key if after is None else str(after.session_key),
        user=request.user,
        source=request.source,
        new_id=run_id,
        metadata_key=request.metadata_key,
        conversation=request.conversation,
        namespace=namespace_of(principal),
        settings=settings.sessions.bind,
        allow_reserved=request.reserved_keys or after is not None,
    )
    if side_task and not binding.one_off:
        binding = one_off_binding(binding.agent, source=request.source, new_id=run_id)
    return RunSpec(
        id=run_id,
        agent_id=binding.agent.id,
        session_key=own_key(binding.key, principal),
        principal_id=principal.id,
        messages=spoken,
        generation=settings.generation,
        instructions=tuple(m for m in request.messages if m.role is Role.SYSTEM),
        params=request.params,
        on_leave=request.on_leave,
        streamed=request.streamed,
        accepted_at=at,
        timeout=None if request.timeout is None else _limit(request.timeout),
        one_off=binding.one_off if after is None else after.one_off,
        bound_by=binding.by,
        source=request.source,
        client_tools=request.client_tools,
        thinking=None if request.thinking is None else thinking_level(request.thinking),
        command=command_of(request, settings),
        scopes=principal.scopes,
        agents=principal.agents,
        parent=request.parent,
        hops=request.hops,
        side_task=side_task,
        chosen_model=settings.models.choose(chosen, param="chosen_model").ref if chosen else "",
        after_run="" if after is None else after.run_id,
        max_tool_calls=request.max_tool_calls,
    )


def command_of(request: RunRequest, settings: Settings) -> ChatCommand | None:
    """The command that the request is; None: it is said to the model."""
    if not request.commands or not settings.text_commands:
        return None
    command = command_in(request.messages)
    return None if command is None else replace(command, session_hint=request.session_hint)


def check_key(key: str) -> str:
    """The idempotency key, which becomes the Run's id. Raises InvalidRequest."""
    if not key.strip() or len(key) > MAX_IDEMPOTENCY_KEY:
        raise InvalidRequest(
            f"idempotencyKey must have 1 to {MAX_IDEMPOTENCY_KEY} characters",
            param="idempotencyKey",
        )
    return check_name(key, "idempotencyKey")


def run_id_of_key(principal: Principal, key: str) -> str:
    """The id of the Run that the principal's requests under an idempotency key begin: equal keys of
    two principals give two ids. It is a UUID, as the ids of a client's tool calls need one."""
    return str(uuid.UUID(hex=digest(("idempotency key", principal.id, key))[:32]))


def fingerprint(request: RunRequest, spec: RunSpec) -> str:
    """A digest of all that was asked: the same for a request that is sent once more.

    It is of the request as it was understood, so that two spellings of one session, or of one
    level of thinking, are the same. Who is asking does not count, nor does the configuration.
    """
    return _VERSION + digest(
        {
            # The keys are part of the digest: another name here is another digest.
            "door": spec.source,
            # It holds what the request's agent, model and user came to.
            "session": str(spec.session_key),
            "messages": request.messages,
            "params": request.params,
            "thinking": spec.thinking,
            "timeout": request.timeout or None,
            "on_leave": spec.on_leave,
            # Left out where there are none, as in the digests of versions that knew none.
            **({} if spec.client_tools is None else {"tools": spec.client_tools.data}),
            **({"chosen_model": spec.chosen_model} if spec.chosen_model else {}),
            **({"after_run": spec.after_run} if spec.after_run else {}),
            **({} if spec.max_tool_calls is None else {"max_tool_calls": spec.max_tool_calls}),
        }
    )


def check_repeated(record: RunRecord, asked: str) -> None:
    """Raises KeyReused where the earlier request under the same key asked for something else.

    A record that another version of the Gateway made cannot be compared. It is taken for the same
    request, since refusing would begin a second Run for one that is merely sent again.
    """
    if record.fingerprint != asked and _is_comparable(record.fingerprint):
        raise KeyReused(
            f"The idempotency key {record.id!r} stands for another request already; "
            "a new request needs a new key.",
            param="idempotencyKey",
        )


def _is_comparable(stored: str) -> bool:
    """A Run that was begun without an idempotency key has no digest, and equals no request."""
    return not stored or stored.startswith(_VERSION)


def _limit(seconds: float) -> float | None:
    """The time limit that a client sets; 0 sets none. Raises InvalidRequest."""
    if not math.isfinite(seconds) or seconds < 0:
        raise InvalidRequest(
            f"timeout must be a number of seconds from 0 up, not {seconds}", param="timeout"
        )
    return seconds or None
