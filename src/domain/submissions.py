"""From what a client asked to the Run that is accepted, with or without an idempotency key."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from .errors import InvalidRequest, KeyReused
from .messages import Role
from .run_records import RunRecord
from .runs import Run, RunRequest
from .session_settings import thinking_level
from .sessions import bind
from .settings import Settings
from .terminal_text import check_name

MAX_IDEMPOTENCY_KEY = 256


@dataclass(frozen=True, slots=True)
class Submission:
    """A Run that was accepted; `fresh` is False where an earlier request began it."""

    record: RunRecord
    fresh: bool


def make_run(
    request: RunRequest, settings: Settings, *, run_id: str, principal_id: str, at: float
) -> Run:
    """The Run that the request asks for. Raises InvalidRequest and its kinds."""
    spoken = tuple(m for m in request.messages if m.role is not Role.SYSTEM)
    if not any(m.role in (Role.USER, Role.TOOL) for m in spoken):
        raise InvalidRequest("Missing user message in `messages`.", param="messages")
    binding = bind(
        settings.agents,
        model=request.model,
        agent_header=request.agent_id,
        session_key=request.session_key,
        user=request.user,
        door=request.door,
        new_id=run_id,
        allow_reserved=request.reserved_keys,
    )
    agent = binding.agent
    if request.timeout is not None:
        agent = replace(agent, timeout=request.timeout or None)
    return Run(
        id=run_id,
        agent=agent,
        session_key=binding.key,
        principal_id=principal_id,
        messages=spoken,
        instructions=tuple(m for m in request.messages if m.role is Role.SYSTEM),
        params=request.params,
        on_leave=request.on_leave,
        accepted_at=at,
        one_off=binding.one_off,
        door=request.door,
        thinking=None if request.thinking is None else thinking_level(request.thinking),
    )


def check_key(key: str) -> str:
    """The idempotency key, which becomes the Run's id. Raises InvalidRequest."""
    if not key.strip() or len(key) > MAX_IDEMPOTENCY_KEY:
        raise InvalidRequest(
            f"idempotencyKey must have 1 to {MAX_IDEMPOTENCY_KEY} characters",
            param="idempotencyKey",
        )
    return check_name(key, "idempotencyKey")


def fingerprint(run: Run) -> str:
    """A digest of what is asked: the same for a request that is sent once more."""
    asked = (run.door, str(run.session_key), run.messages, run.instructions, sorted(run.params))
    return hashlib.sha256(repr(asked).encode("utf-8", "surrogatepass")).hexdigest()


def repeated(record: RunRecord, asked: str) -> Submission:
    """The Run that an earlier request under the same key began. Raises KeyReused when that one
    asked for something else."""
    if record.fingerprint != asked:
        raise KeyReused(
            f"The idempotency key {record.id!r} stands for another request already; "
            "a new request needs a new key.",
            param="idempotencyKey",
        )
    return Submission(record, fresh=False)
