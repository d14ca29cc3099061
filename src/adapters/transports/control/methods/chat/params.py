"""The parameters of `agent` and `chat.*`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ...connection import Params
from ...protocol import NAMING, Attachments, Name, SessionKeyText

Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Milliseconds = Annotated[int, Field(ge=0, le=86_400_000)]
Key = Annotated[str, Field(min_length=1, max_length=256)]


class AgentParams(Params):
    """`timeout`: seconds, fractions allowed; it can only shorten the agent's limit, and 0 sets
    none. Parameters of chat channels are accepted and ignored, but `deliver` and `channel` are
    rejected if they request a delivery."""

    message: Annotated[str, Field(min_length=1)]
    idempotency_key: Key
    agent_id: Name | None = None
    session_key: SessionKeyText | None = None
    session_id: Name | None = None
    thinking: Name | None = None
    timeout: Seconds | None = None
    attachments: Attachments = Field(default_factory=list)
    extra_system_prompt: str | None = None
    model: Name | None = None
    provider: Name | None = None
    label: Name | None = None
    lane: Name | None = None
    spawned_by: Name | None = None
    task_id: Name | None = None
    deliver: bool | None = None
    channel: Name | None = None
    reply_channel: Name | None = None
    best_effort_deliver: bool | None = None
    to: Any = None
    reply_to: Any = None
    account_id: Any = None
    reply_account_id: Any = None
    thread_id: Any = None
    group_id: Any = None
    group_channel: Any = None
    group_space: Any = None
    cwd: Any = None
    model_run: Any = None
    prompt_mode: Any = None
    expected_existing_session_id: Any = None
    bootstrap_context_mode: Any = None
    session_effects: Any = None
    disable_message_tool: Any = None


class SendParams(Params):
    """`message` may be empty if there are attachments. `timeout_ms`: milliseconds; it can only
    shorten the agent's limit, and 0 sets none. `suppress_command_interpretation`: send commands
    such as `/status` to the model."""

    session_key: SessionKeyText
    message: str
    idempotency_key: Key
    agent_id: Name | None = None
    session_id: Name | None = None
    thinking: Name | None = None
    deliver: bool | None = None
    attachments: Attachments = Field(default_factory=list)
    timeout_ms: Milliseconds | None = None
    queue_mode: Any = None
    fast_mode: Any = None
    reply_to_id: Any = None
    mentions: Any = None
    work_context: Any = None
    expected_session_id: Any = None
    suppress_command_interpretation: bool | None = None
    control_ui_reconnect_resume: Annotated[Any, Field(alias="__controlUiReconnectResume")] = None


class AbortParams(Params):
    """`run_id`: by default, every run of the session."""

    session_key: SessionKeyText
    run_id: Name | None = None
    agent_id: Name | None = None
    preserve_side_runs: bool | None = None


class InjectParams(Params):
    """`label` is put before the message."""

    session_key: SessionKeyText
    message: Annotated[str, Field(min_length=1)]
    label: Annotated[str, Field(max_length=100), NAMING] | None = None
    agent_id: Name | None = None
