"""Answers the calls of A2A clients. Everything here needs the SDK."""

from __future__ import annotations

from functools import partial
from typing import assert_never
from urllib.parse import quote

from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    GetTaskRequest,
    InvalidRequestError,
    PushNotificationNotSupportedError,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
    TaskNotCancelableError,
    UnsupportedOperationError,
)
from a2a.utils.errors import A2AError, JSONParseError
from quart import Response, request

from ....domain.concurrency import drop_tracebacks, off_loop
from ....domain.errors import GatewayError, InvalidRequest
from ....domain.ports import WebClient
from ....domain.runs import RunRecord, RunStatus
from ....domain.services import Approvals, Gateway
from ..answering import (
    BegunRun,
    Feed,
    decision_in,
    follow_run,
    ignored_names,
    streamed,
    waits_for_approval,
)
from ..http.bodies import NotAnObject, read_object
from ..http.context import RequestContext, current
from ..http.errors import answer, problem_of
from .cards import base_url, extended_card, public_body, public_card
from .failures import status_of
from .frames import TaskFrames
from .listing import Listing
from .questions import Question, length_in, read_question
from .rpc import (
    Call,
    Operation,
    Results,
    check_version,
    failure_of,
    failure_of_problem,
    read_call,
)
from .sending import Sending
from .shapes import TaskIds, is_final
from .tasks import Tasks

PATH = "/a2a"
_PATIENCE = 5.0
"""Seconds in which a run that is cancelled nearly always ends."""


class Calls:
    """The methods of the protocol."""

    def __init__(self, gateway: Gateway, approvals: Approvals, web: WebClient) -> None:
        self._gateway = gateway
        self._approvals = approvals
        self._tasks = Tasks(gateway, approvals)
        self._sending = Sending(gateway, approvals, web, self._tasks)
        self._listing = Listing(gateway, self._tasks)

    def card(self, agent_id: str) -> bytes:
        """The public card of an agent; empty: of the default one."""
        return public_body(public_card(_url(agent_id), self._gateway.settings))

    async def answer(self, agent_id: str) -> Response:
        """The response to the call in the body of the current request."""
        context, call, agent_id = current(), Call(), agent_id.lower()
        try:
            call = await self._read(context)
            if call.error is not None:
                raise call.error
            check_version(context.headers.get(b"a2a-version", b"").decode("latin-1"))
            return await self._answer(context, call, agent_id)
        except A2AError as error:
            drop_tracebacks(error)
            context.log_fields["code"] = type(error).__name__
            context.outcome = context.outcome or "refused"
            return _json(failure_of(call.id, error))
        except GatewayError as error:
            drop_tracebacks(error)
            problem = problem_of(error)
            context.reported(problem)
            response = answer(problem)
            response.status_code = status_of(problem)
            response.set_data(failure_of_problem(call.id, problem))
            return response

    async def _read(self, context: RequestContext) -> Call:
        try:
            call = await read_object(request.body, context, read_call)
        except NotAnObject:
            raise InvalidRequestError(
                "The body must be one request, a JSON object; batches are not supported."
            ) from None
        except InvalidRequest as error:
            raise JSONParseError(error.message) from None
        if ignored := ignored_names(call.ignored.header, context.headers):
            context.response_headers["x-opensoul-ignored"] = ignored
        return call

    async def _answer(self, context: RequestContext, call: Call, agent_id: str) -> Response:
        operation, asked = call.operation, call.request
        assert operation is not None  # noqa: S101 - Calls without one have an error.
        context.log_fields["call"] = operation.value
        results = Results(call.id, call.legacy)
        match operation:
            case Operation.SEND:
                return await self._send(context, asked, results, agent_id)
            case Operation.STREAM:
                return await self._stream(context, asked, results, agent_id)
            case Operation.GET:
                return _json(results.task(await self._get(context, asked, agent_id)))
            case Operation.LIST:
                return _json(
                    results.tasks(await self._listing.page(context.principal, asked, agent_id))
                )
            case Operation.CANCEL:
                return _json(results.task(await self._cancel(context, asked, agent_id)))
            case Operation.SUBSCRIBE:
                return await self._subscribe(context, asked, results, agent_id)
            case Operation.CARD:
                return _json(results.card(self._extended_card(context, agent_id)))
            case Operation.PUSH:
                raise PushNotificationNotSupportedError(
                    "Push notifications are not supported; stream the task, or ask for it again."
                )
            case _:
                assert_never(operation)

    async def _send(
        self, context: RequestContext, asked: SendMessageRequest, results: Results, agent_id: str
    ) -> Response:
        question = await _question(asked, results)
        begun = await self._sending.begin(context, question, agent_id)
        if question.blocking:
            await self._sending.settle(context, begun)
        run = await self._gateway.run(context.principal, begun.run.id)
        return _json(results.sent(await self._task(context, run, question)))

    async def _stream(
        self, context: RequestContext, asked: SendMessageRequest, results: Results, agent_id: str
    ) -> Response:
        question = await _question(asked, results)
        begun = await self._sending.begin(context, question, agent_id)
        run = begun.run
        if not isinstance(run, RunRecord):
            run = await self._gateway.run(context.principal, run.id)
        task = await self._task(context, run, question)
        return await self._streamed(context, begun, task, results)

    async def _subscribe(
        self,
        context: RequestContext,
        asked: SubscribeToTaskRequest,
        results: Results,
        agent_id: str,
    ) -> Response:
        run = await self._tasks.find(context.principal, asked.id, agent_id)
        if run.status.final:
            raise UnsupportedOperationError(f"Task {run.id} has ended: nothing follows.")
        waits = waits_for_approval(context.headers)
        begun = await follow_run(self._gateway, self._approvals, context, run, waits=waits)
        task = await self._tasks.task(context.principal, run)
        return await self._streamed(context, begun, task, results)

    async def _streamed(
        self, context: RequestContext, begun: BegunRun, task: Task, results: Results
    ) -> Response:
        """The events behind `task`, which comes first, and is all there is of a run that had
        ended."""
        context.log_fields["stream"] = True
        frames = TaskFrames(results, TaskIds(task.id, task.context_id))
        frames.ended = is_final(task)
        patience = self._gateway.settings.chat.keepalive
        feed = _OpenedFeed(begun.events, frames, context, patience=patience, pause=begun.pause)
        feed.opening = results.opening(task)
        return await streamed(feed, context)

    async def _task(self, context: RequestContext, run: RunRecord, question: Question) -> Task:
        """The task of a message as it stands."""
        return await self._tasks.task(
            context.principal,
            run,
            history_length=question.history_length,
            message_id="" if decision_in((question.message,)) else question.id,
        )

    async def _get(self, context: RequestContext, asked: GetTaskRequest, agent_id: str) -> Task:
        run = await self._tasks.find(context.principal, asked.id, agent_id)
        length = length_in(asked)
        return await self._tasks.task(context.principal, run, history_length=length)

    async def _cancel(
        self, context: RequestContext, asked: CancelTaskRequest, agent_id: str
    ) -> Task:
        principal = context.principal
        run = await self._tasks.find(principal, asked.id, agent_id)
        if not run.status.final:
            await self._gateway.abort(principal, run.id, f"Cancelled by {principal.id}.")
            run = await self._gateway.wait(principal, run.id, _PATIENCE)
            if not run.status.final or run.status is RunStatus.ABORTED:
                return await self._tasks.task(principal, run)
        raise TaskNotCancelableError(f"Task {run.id} has ended.")

    def _extended_card(self, context: RequestContext, agent_id: str) -> AgentCard:
        directory = self._gateway.directory(context.principal)
        agent = directory.find(agent_id, param="agent_id") if agent_id else directory.default
        return extended_card(_url(agent_id), self._gateway.settings, agent)


class _OpenedFeed(Feed):
    """A feed whose first frame is there already."""

    opening = b""

    async def take(self) -> bytes | None:
        if self.opening:
            frames, self.opening = self.opening, b""
            return frames
        return await super().take()


async def _question(asked: SendMessageRequest, results: Results) -> Question:
    return await off_loop(asked.ByteSize(), partial(read_question, asked, legacy=results.legacy))


def _url(agent_id: str) -> str:
    base = base_url(current(), request.scheme, request.host)
    return f"{base}{PATH}/{quote(agent_id, safe='')}" if agent_id else f"{base}{PATH}"


def _json(body: bytes) -> Response:
    return Response(body, content_type="application/json")
