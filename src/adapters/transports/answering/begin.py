"""From a request that was read to the run that answers it."""

from __future__ import annotations

from collections.abc import Mapping

from ....domain.immutable import immutable
from ....domain.messages import Message
from ....domain.runs import OnLeave, RunRecord, RunRequest, RunSpec
from ....domain.services import Approvals, Events, Gateway
from ....domain.settings import Settings
from ....domain.tools import ClientTools
from ..http.context import RequestContext
from ..http.requests import Headers
from .approvals import (
    ApprovalPause,
    AskingEvents,
    decided_run,
    decision_in,
    without_decisions,
)
from .headers import SESSION_HINT, agent_id_in, conversation_in, model_in, session_key_in
from .resuming import (
    CurrentEvents,
    continues_without_client,
    idempotency_key_in,
    start_submitted_run,
)
from .runs import Feed, RunFrames, start_run


@immutable(frozen=True, slots=True)
class BegunRun:
    """A run, and the events that its answer is made of. `pause`: None where the answer stays open
    while the run waits for an approval."""

    run: RunSpec | RunRecord
    events: Events
    pause: ApprovalPause | None

    @property
    def continues(self) -> bool:
        """The run goes on when its client leaves."""
        return self.run.on_leave is OnLeave.CONTINUE

    def feed(self, frames: RunFrames, context: RequestContext, settings: Settings) -> Feed:
        """The answer as a stream."""
        patience = settings.chat.keepalive
        return Feed(self.events, frames, context, patience=patience, pause=self.pause)


def run_request_of(
    headers: Headers,
    settings: Settings,
    *,
    messages: tuple[Message, ...],
    model: str,
    params: Mapping[str, object],
    client_tools: ClientTools | None = None,
    user: str | None = None,
    metadata_key: str | None = None,
    streamed: bool = True,
) -> RunRequest:
    """What a request asks for by its body and its headers. `metadata_key`: the session key in the
    body's metadata. `streamed`: the answer is sent while it is written; side tasks of chat clients
    are not. Raises InvalidRequest."""
    return RunRequest(
        messages=without_decisions(messages),
        model=model,
        agent_id=agent_id_in(headers),
        session_key=session_key_in(headers),
        metadata_key=metadata_key,
        conversation=conversation_in(headers, settings.sessions.bind),
        user=user,
        params=params,
        client_tools=client_tools,
        commands=True,
        side_tasks=not streamed,
        streamed=streamed,
        chosen_model=model_in(headers),
        session_hint=SESSION_HINT,
    )


async def begin_run(
    gateway: Gateway,
    approvals: Approvals,
    context: RequestContext,
    run_request: RunRequest,
    *,
    waits: bool,
) -> BegunRun:
    """The run of a request: a new one, the one that its Idempotency-Key has begun before, or the
    one that its last message, a decision, goes on with. `waits`: the answer stays open while the
    run waits for an approval. Raises what `Gateway.submit` and `decided_run` raise."""
    key = idempotency_key_in(context.headers)
    continues = continues_without_client(context.headers) or (
        run_request.on_leave is OnLeave.CONTINUE
    )
    run: RunSpec | RunRecord
    events: Events
    last = 0
    if (decision := decision_in(run_request.messages)) is not None:
        run, following = await decided_run(gateway, approvals, context, decision, run_request.model)
        events, last = following, run.last_seq
    elif key is not None or continues:
        run, following, events = await start_submitted_run(gateway, context, run_request, key)
    else:
        run, following = await start_run(gateway, context, run_request)
        events = following
    if waits:
        return BegunRun(run, events, None)
    pause = ApprovalPause(approvals, following, context)
    asking = await context.enter(AskingEvents(events, run, pause, last=last))
    return BegunRun(run, asking, pause)


async def follow_run(
    gateway: Gateway,
    approvals: Approvals,
    context: RequestContext,
    run: RunRecord,
    *,
    waits: bool,
) -> BegunRun:
    """A run without a required format that was begun before, and its events from the first one. It
    goes on when the client leaves. `waits`: as in `begin_run`. Raises Forbidden."""
    following = await context.enter(gateway.follow(context.principal, run, kept=True, stops=False))
    context.adopt_task()
    context.began(run, run.agent_id)
    events = CurrentEvents(gateway, context, run, following, has_format=False)
    if waits:
        return BegunRun(run, events, None)
    pause = ApprovalPause(approvals, following, context)
    return BegunRun(run, await context.enter(AskingEvents(events, run, pause, last=0)), pause)
