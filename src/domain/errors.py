"""Everything that can be refused or go wrong, as one tree.

GatewayError
├── Unauthenticated          no credential, or a wrong one
│   └── LockedOut            too many wrong ones from this address
├── Forbidden                known, but without the scope
│   └── NotLocal             without authentication only this machine is served
├── InvalidRequest           something in the request is wrong; `param` names it
│   ├── Unsupported          known to the protocol, not to this Gateway
│   ├── UnknownAgent         the request names an agent that is not configured
│   ├── SessionKeyInvalid    the session key breaks the grammar
│   │   └── AgentConflict    it belongs to another agent than the request asks for
│   ├── SendBlocked          a rule says that the session is not to be written to
│   └── KeyReused            the idempotency key stands for another request already
├── SessionBusy              the session's queue is full
├── GatewayBusy              the queue over all sessions is full
├── RateLimited              the API key has reached a limit that passes within seconds
│   └── QuotaExceeded        it has used up its tokens or its budget
├── ShuttingDown             the Gateway accepts no more runs
├── UnknownRun               no run of that id is known (any more)
├── UnknownApproval          no approval of that id is kept
├── ApprovalDecided          the approval was decided before, or its run has ended
├── UnknownTool              no tool of that name may be called
├── UnknownKey               no API key of that name or id is kept
├── UnknownSession           no session of that key, id or label is kept
├── Unavailable              known to the protocol, with no meaning in this Gateway
├── EventsExpired            the requested events of a run are no longer kept
├── StoreFailed              sessions cannot be read or written
├── LeaseLost                another executor has the run now
└── RunFailed                a run ended without an answer
    ├── RunTimedOut          it took longer than the agent may
    ├── RunAborted           somebody stopped it
    ├── RunInterrupted       the Gateway died while it was going on
    ├── AgentFailed          the code of the agent failed, or cannot be loaded
    ├── InvalidStructuredOutput  the answer breaks the format that the request requires
    └── ModelFailed          the model call failed; `kind` says how

`code` is a stable slug for programs, the message is for a person. No HTTP status is known here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class GatewayError(Exception):
    """Root of the tree. `code`: stable slug; `retry_after`: seconds, where waiting helps."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class Unauthenticated(GatewayError):
    code = "invalid_api_key"


class LockedOut(Unauthenticated):
    code = "too_many_failures"


class Forbidden(GatewayError):
    """`scope` is the one that is missing; None where something else than a scope is."""

    code = "missing_scope"

    def __init__(self, message: str, *, scope: str | None = None) -> None:
        super().__init__(message)
        self.scope = scope


class NotLocal(Forbidden):
    """Without authentication, the client is not on this machine, or not provably."""

    code = "authentication_required"


class InvalidRequest(GatewayError):
    """`param` is the dotted path of the field at fault: as the client spelled it, or a field of
    RunRequest, for which a transport puts what its clients call it."""

    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class Unsupported(InvalidRequest):
    code = "unsupported_parameter"


class UnknownAgent(InvalidRequest):
    code = "model_not_found"


class UnknownModel(InvalidRequest):
    code = "model_not_found"


class SessionKeyInvalid(InvalidRequest):
    code = "invalid_session_key"


class AgentConflict(SessionKeyInvalid):
    """The session key belongs to the agent `of_key`, and the field `named_by` asks for `agent`."""

    def __init__(self, of_key: str, agent: str, *, named_by: str, param: str | None) -> None:
        super().__init__(
            f"The session key names the agent {of_key!r}, but {named_by} asks for {agent!r}.",
            param=param,
        )
        self.of_key = of_key
        self.agent = agent
        self.named_by = named_by


class SendBlocked(InvalidRequest):
    code = "send_blocked"


class TurnNotStored(InvalidRequest):
    """The Run that another one is to follow has stored no turn, or none that is still kept."""

    code = "no_stored_turn"


class UnknownResponse(InvalidRequest):
    """There is no such response, or it is another principal's: clients cannot tell these apart."""

    code = "response_not_found"


class UnknownPreviousResponse(UnknownResponse):
    code = "previous_response_not_found"


class UnknownConversation(InvalidRequest):
    """The same of conversations and of their items."""

    code = "conversation_not_found"


class ConversationLocked(InvalidRequest):
    """A response of the conversation has not ended."""

    code = "conversation_locked"


class ConversationTooLarge(InvalidRequest):
    """A conversation, or those of a principal, or all, would take more bytes than they may."""

    code = "conversation_too_large"


class NotInBackground(InvalidRequest):
    """Only a response that was begun with `background` can be cancelled."""

    code = "not_in_background"


class KeyReused(InvalidRequest):
    code = "idempotency_key_reused"


class SessionBusy(GatewayError):
    code = "session_busy"


class GatewayBusy(GatewayError):
    code = "gateway_busy"


class RateLimited(GatewayError):
    code = "rate_limit_exceeded"


class QuotaExceeded(RateLimited):
    code = "insufficient_quota"


class ShuttingDown(GatewayError):
    code = "shutting_down"


class UnknownRun(GatewayError):
    code = "run_not_found"


class UnknownKey(GatewayError):
    code = "key_not_found"


class UnknownSession(GatewayError):
    code = "session_not_found"


class UnknownApproval(GatewayError):
    code = "approval_not_found"


class ApprovalDecided(GatewayError):
    """The approval was decided before, or its run has ended."""

    code = "approval_decided"


class UnknownTool(GatewayError):
    """There is no such tool, or it may not be called: clients cannot tell these apart."""

    code = "tool_not_found"


class Unavailable(GatewayError):
    code = "unavailable"


class EventsExpired(GatewayError):
    code = "events_expired"


class StoreFailed(GatewayError):
    code = "store_failed"


class RunFailed(GatewayError):
    code = "run_failed"


class RunTimedOut(RunFailed):
    code = "run_timeout"


class RunAborted(RunFailed):
    code = "run_aborted"


class LeaseLost(GatewayError):
    """Whoever raises it has changed nothing: the run belongs to another owner or attempt."""

    code = "lease_lost"


class RunInterrupted(RunFailed):
    code = "run_interrupted"


class AgentFailed(RunFailed):
    code = "agent_failed"


class InvalidStructuredOutput(RunFailed):
    code = "invalid_structured_output"


class FailureKind(StrEnum):
    """Why a model call failed; the names follow what operators look for."""

    AUTH = "auth"
    RATE_LIMIT = "rate_limit"
    BILLING = "billing"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"
    BAD_REQUEST = "bad_request"
    CONTEXT_TOO_LONG = "context_too_long"
    BAD_RESPONSE = "bad_response"
    """The provider answered with something that is no answer: garbage, or a stream cut short."""
    UNREACHABLE = "unreachable"


class ModelFailed(RunFailed):
    """A model call failed.

    `kind` decides what is tried next and the message for the client; `status` is that of the
    provider's HTTP answer. `reason` is the message without what it quotes from the provider, so it
    repeats no part of a conversation. `detail` is for the log only; it may quote, and holds no
    secret.
    """

    code = "model_failed"

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        param: str | None = None,
        reason: str = "",
        detail: str = "",
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.kind = kind
        self.reason = reason or message
        self.status = status
        self.param = param
        self.detail = detail
