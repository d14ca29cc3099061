"""Answers the calls of A2A clients. Everything here needs the SDK."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import assert_never
from urllib.parse import quote
from uuid import uuid4

from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    GetTaskRequest,
    InvalidParamsError,
    InvalidRequestError,
    ListTasksRequest,
    ListTasksResponse,
    PushNotificationNotSupportedError,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
    TaskNotCancelableError,
    UnsupportedOperationError,
)
from a2a.utils.constants import DEFAULT_LIST_TASKS_PAGE_SIZE, MAX_LIST_TASKS_PAGE_SIZE
from a2a.utils.errors import A2AError, JSONParseError
from quart import Response, request

from ....domain.access import Principal
from ....domain.concurrency import drop_tracebacks, off_loop
from ....domain.errors import GatewayError, InvalidRequest, UnknownRun
from ....domain.messages import Message
from ....domain.ports import WebClient
from ....domain.runs import OnLeave, RunQuery, RunRecord, RunRequest, RunStatus
from ....domain.services import Approvals, Gateway, run_id_of_key
from ....domain.tools import Decision
from ..answering import (
    PAUSED,
    BegunRun,
    Feed,
    begin_run,
    collect,
    decision_in,
    follow_run,
    idempotency_key_in,
    ignored_names,
    run_request_of,
    streamed,
    waits_for_approval,
)
from ..http.bodies import NotAnObject, read_object
from ..http.context import RequestContext, current
from ..http.errors import answer, problem_of
from ..media import MediaReader
from .cards import base_url, extended_card, public_body, public_card
from .contexts import SOURCE, binding_of, context_id_of
from .failures import status_of
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
from .tasks import TaskFrames, Tasks, ids_of, statuses_of

PATH = "/a2a"
_PATIENCE = 5.0
"""Seconds in which a run that is cancelled nearly always ends, and one that has ended is stored."""
_ENDED_WITHOUT_ANSWER = ("failed", "aborted")
_ROWS = 200
_MOST_PAGES = 20
"""Pages of runs that are looked through for one page of tasks."""


class Calls:
    """The methods of the protocol."""

    def __init__(self, gateway: Gateway, approvals: Approvals, web: WebClient) -> None:
        self._gateway = gateway
        self._approvals = approvals
        self._media = MediaReader(web)
        self._tasks = Tasks(gateway, approvals)

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
                return _json(results.tasks(await self._list(context, asked, agent_id)))
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
        begun = await self._begun(context, question, agent_id)
        if question.blocking:
            await self._settle(context, begun)
        task = await self._current(context.principal, begun, question)
        return _json(results.sent(task))

    async def _stream(
        self, context: RequestContext, asked: SendMessageRequest, results: Results, agent_id: str
    ) -> Response:
        question = await _question(asked, results)
        begun = await self._begun(context, question, agent_id)
        task = await self._current(context.principal, begun, question, with_answer=False)
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
        begun = await follow_run(self._gateway, self._approvals, context, run)
        task = await self._tasks.task(context.principal, run, with_answer=False)
        return await self._streamed(context, begun, task, results)

    async def _streamed(
        self, context: RequestContext, begun: BegunRun, task: Task, results: Results
    ) -> Response:
        context.log_fields["stream"] = True
        run = await self._gateway.run(context.principal, begun.run.id)
        frames = TaskFrames(results, ids_of(run, context.principal))
        feed = _OpenedFeed(
            begun.events,
            frames,
            context,
            patience=self._gateway.settings.chat.keepalive,
            pause=begun.pause,
        )
        feed.opening = results.opening(task)
        return await streamed(feed, context)

    async def _begun(self, context: RequestContext, question: Question, agent_id: str) -> BegunRun:
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
            return await self._decided(context, question, decision, agent_id)
        if decision is not None:
            return await self._decided(context, question, decision, agent_id)
        asked = self._run_request(context, question, agent_id)
        settings = self._gateway.settings.chat
        if question.media:
            read = await self._media.read(asked.messages, question.media, settings, context.charge)
            asked = replace(asked, messages=read)
        waits = waits_for_approval(context.headers)
        return await begin_run(self._gateway, self._approvals, context, asked, waits=waits)

    async def _decided(
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
        await self._approvals.decide(principal, approval.id, decision[0])
        return await follow_run(self._gateway, self._approvals, context, run)

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
        if not context_id and asked.conversation is not None:
            return asked
        key = idempotency_key_in(context.headers)
        if not context_id:  # A repeated request gets the same new context.
            context_id = str(uuid4()) if key is None else run_id_of_key(context.principal, key)
        binding = binding_of(context_id)
        return replace(asked, session_key=binding.session_key, conversation=binding.conversation)

    async def _settle(self, context: RequestContext, begun: BegunRun) -> None:
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

    async def _current(
        self, principal: Principal, begun: BegunRun, question: Question, *, with_answer: bool = True
    ) -> Task:
        """The task as it stands."""
        return await self._tasks.task(
            principal,
            await self._gateway.run(principal, begun.run.id),
            history_length=question.history_length,
            with_answer=with_answer,
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
            if run.status in (RunStatus.ABORTED, RunStatus.RUNNING, RunStatus.WAITING):
                return await self._tasks.task(principal, run)
        raise TaskNotCancelableError(f"Task {run.id} has ended.")

    async def _list(
        self, context: RequestContext, asked: ListTasksRequest, agent_id: str
    ) -> ListTasksResponse:
        principal = context.principal
        size = asked.page_size if asked.HasField("page_size") else DEFAULT_LIST_TASKS_PAGE_SIZE
        if not 1 <= size <= MAX_LIST_TASKS_PAGE_SIZE:
            raise InvalidParamsError(
                f"`pageSize` must be 1 to {MAX_LIST_TASKS_PAGE_SIZE}.", data={"param": "pageSize"}
            )
        cursor = None
        if asked.page_token:
            try:
                cursor = await self._gateway.cursor(principal, asked.page_token)
            except UnknownRun:
                raise InvalidParamsError(
                    "`pageToken` is none that a page has had, or has expired.",
                    data={"param": "pageToken"},
                ) from None
        runs: list[RunRecord] = []
        token = behind = ""
        for _ in range(_MOST_PAGES):
            query = RunQuery(agent_id=agent_id or None, limit=_ROWS, cursor=cursor)
            page = await self._gateway.runs(principal, query)
            for run in page.runs:
                if not _is_wanted(run, asked, principal):
                    continue
                if len(runs) == size:
                    token = runs[-1].id
                    break
                runs.append(run)
            if token or (cursor := page.next_cursor) is None:
                break
            if page.runs:
                behind = page.runs[-1].id
        else:
            token = behind
        length = length_in(asked) or 0
        with_answer = asked.include_artifacts
        tasks = [
            await self._tasks.task(principal, run, history_length=length, with_answer=with_answer)
            for run in runs
        ]
        return ListTasksResponse(
            tasks=tasks, next_page_token=token, page_size=size, total_size=len(tasks)
        )

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


def _check_context(run: RunRecord, question: Question, principal: Principal) -> None:
    """Raises InvalidParamsError where the message names another context than that of the run."""
    if question.context_id not in ("", context_id_of(run.session_key, principal)):
        raise InvalidParamsError(
            "`contextId` is not that of the task.", data={"param": "message.contextId"}
        )


def _is_wanted(run: RunRecord, asked: ListTasksRequest, principal: Principal) -> bool:
    if asked.context_id not in ("", context_id_of(run.session_key, principal)):
        return False
    if asked.status and run.status not in statuses_of(asked.status):
        return False
    if not asked.HasField("status_timestamp_after"):
        return True
    since: int = asked.status_timestamp_after.ToMilliseconds()
    return (run.ended_at or run.started_at or run.accepted_at) * 1_000 > since


def _url(agent_id: str) -> str:
    base = base_url(current(), request.scheme, request.host)
    return f"{base}{PATH}/{quote(agent_id, safe='')}" if agent_id else f"{base}{PATH}"


def _json(body: bytes) -> Response:
    return Response(body, content_type="application/json")
