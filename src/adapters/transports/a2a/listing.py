"""Lists of tasks."""

from __future__ import annotations

from a2a.types import InvalidParamsError, ListTasksRequest, ListTasksResponse
from a2a.utils.constants import DEFAULT_LIST_TASKS_PAGE_SIZE, MAX_LIST_TASKS_PAGE_SIZE

from ....domain.access import Principal
from ....domain.errors import UnknownRun
from ....domain.runs import RunQuery, RunRecord
from ....domain.services import Gateway
from .contexts import context_id_of
from .questions import length_in
from .shapes import statuses_of
from .tasks import Tasks

_ROWS = 200
_MOST_PAGES = 20
"""Pages of runs that are looked through for one page of tasks."""


class Listing:
    """Finds the runs that a client lists as tasks."""

    def __init__(self, gateway: Gateway, tasks: Tasks) -> None:
        self._gateway = gateway
        self._tasks = tasks

    async def page(
        self, principal: Principal, asked: ListTasksRequest, agent_id: str
    ) -> ListTasksResponse:
        """Raises InvalidParamsError."""
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


def _is_wanted(run: RunRecord, asked: ListTasksRequest, principal: Principal) -> bool:
    if asked.context_id not in ("", context_id_of(run.session_key, principal)):
        return False
    if asked.status and run.status not in statuses_of(asked.status):
        return False
    if not asked.HasField("status_timestamp_after"):
        return True
    since: int = asked.status_timestamp_after.ToMilliseconds()
    return (run.ended_at or run.started_at or run.accepted_at) * 1_000 > since
