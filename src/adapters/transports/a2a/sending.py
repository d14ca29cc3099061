"""From the message of a client to its run."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

from a2a.types import InvalidParamsError, UnsupportedOperationError

from ....domain.access import Principal
from ....domain.concurrency import drop_tracebacks
from ....domain.errors import GatewayError, InvalidRequest
from ....domain.messages import Message
from ....domain.ports import WebClient
from ....domain.runs import OnLeave, RunRecord, RunRequest
from ....domain.services import Approvals, Gateway, run_id_of_key
from ....domain.tools import Decision
from ..answering import (
    PAUSED,
    BegunRun,
    begin_run,
    collect,
    decision_in,
    follow_run,
    idempotency_key_in,
    run_request_of,
    waits_for_approval,
)
from ..http.context import RequestContext
from ..media import MediaReader
from .contexts import SOURCE, binding_of, context_id_of
from .questions import Question
from .tasks import Tasks

_PATIENCE = 5.0
"""Seconds in which a run that has ended is nearly always stored."""
_ENDED_WITHOUT_ANSWER = ("failed", "aborted")


class Sending:
    """Begins runs, and goes on with those that wait."""

    def __init__(
        self, gateway: Gateway, approvals: Approvals, web: WebClient, tasks: Tasks
    ) -> None:
        self._gateway = gateway
        self._approvals = approvals
        self._media = MediaReader(web)
        self._tasks = tasks

    async def begin(self, context: RequestContext, question: Question, agent_id: str) -> BegunRun:
        """The run that a message begins, or goes on with."""
        principal = context.principal
        decision = decision_in((question.message,))
        if question.task_id:
            run = await self._tasks.find(principal, question.task_id, agent_id)
            _check_context(run, question, principal)
            if run.status.final:
                raise UnsupportedOperationError(
                    f"Task {run.id} has ended. To go on with the conversation, send `contextId` "
                    "without `taskId`."
                )
            if decision is None:
                raise InvalidParamsError(
                    f"Task {run.id} takes no other messages than decisions about its approvals: "
                    "`approve CODE` or `deny CODE`.",
                    data={"param": "message.taskId"},
                )
            return await self._decide(context, question, decision, agent_id)
        if decision is not None:
            return await self._decide(context, question, decision, agent_id)
        asked = self._run_request(context, question, agent_id)
        settings = self._gateway.settings.chat
        if question.media:
            read = await self._media.read(asked.messages, question.media, settings, context.charge)
            asked = replace(asked, messages=read)
        waits = waits_for_approval(context.headers)
        return await begin_run(self._gateway, self._approvals, context, asked, waits=waits)

    async def _decide(
        self,
        context: RequestContext,
        question: Question,
        decision: tuple[Decision, str],
        agent_id: str,
    ) -> BegunRun:
        """The run that goes on by a decision. Nothing is decided where the message names another
        task or context."""
        principal = context.principal
        approval = await self._approvals.find_by_code(principal, decision[1])
        asked_by = await self._approvals.asked_by(approval)
        run = await self._tasks.find(principal, asked_by, agent_id)
        if question.task_id not in ("", run.id):
            raise InvalidParamsError(
                "The code is of an approval of another task.", data={"param": "message.taskId"}
            )
        _check_context(run, question, principal)
        waits = waits_for_approval(context.headers)
        await self._approvals.decide(principal, approval.id, decision[0])
        return await follow_run(self._gateway, self._approvals, context, run, waits=waits)

    def _run_request(
        self, context: RequestContext, question: Question, agent_id: str
    ) -> RunRequest:
        settings = self._gateway.settings
        messages: tuple[Message, ...] = (question.message,)
        asked = run_request_of(context.headers, settings, messages=messages, model="", params={})
        # A program wrote the message: it is no command.
        asked = replace(asked, source=SOURCE, on_leave=OnLeave.CONTINUE, commands=False)
        if agent_id:
            if asked.agent_id is not None and asked.agent_id.strip().lower() != agent_id:
                name = "x-opensoul-agent-id"
                message = f"The header {name} names another agent than the path."
                raise InvalidRequest(message, param=name)
            asked = replace(asked, agent_id=agent_id)
        context_id = question.context_id
        if asked.session_key is not None:
            if context_id:
                raise InvalidParamsError(
                    "A message has a `contextId` or the header x-opensoul-session-key, not both.",
                    data={"param": "message.contextId"},
                )
            return asked
        key = idempotency_key_in(context.headers)
        if not context_id:  # A repeated request gets the same new context.
            context_id = str(uuid4()) if key is None else run_id_of_key(context.principal, key)
        binding = binding_of(context_id)
        return replace(asked, session_key=binding.session_key, conversation=binding.conversation)

    async def settle(self, context: RequestContext, begun: BegunRun) -> None:
        """Return when the run has ended, or waits for a decision."""
        try:
            answer = await collect(begun.events, context, begun.pause)
        except GatewayError as error:
            if context.outcome not in _ENDED_WITHOUT_ANSWER:
                raise
            drop_tracebacks(error)
        else:
            if answer.finished is PAUSED:
                return
        await self._gateway.wait(context.principal, begun.run.id, _PATIENCE)


def _check_context(run: RunRecord, question: Question, principal: Principal) -> None:
    """Raises InvalidParamsError where the message names another context than that of the run."""
    if question.context_id not in ("", context_id_of(run.session_key, principal)):
        raise InvalidParamsError(
            "`contextId` is not that of the task.", data={"param": "message.contextId"}
        )
