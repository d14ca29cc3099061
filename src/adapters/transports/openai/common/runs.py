"""From a request that was read to its run and the events of that."""

from __future__ import annotations

from .....domain.byte_budget import held_bytes
from .....domain.errors import InvalidRequest
from .....domain.runs import RunRequest, RunSpec
from .....domain.services import Events, Gateway
from ...http.context import RequestContext
from .headers import as_headers


async def start_run(
    gateway: Gateway, context: RequestContext, run_request: RunRequest
) -> tuple[RunSpec, Events]:
    """The accepted run, which every answer of the request names from here on, and its events.
    When the request ends, the run has lost its follower. Raises what `Gateway.submit` raises."""
    principal = context.principal
    context.charge.raise_to(held_bytes(run_request.messages))
    try:
        run = await gateway.submit(principal, run_request, charge=context.charge)
    except InvalidRequest as error:
        raise as_headers(error) from None
    # No await that suspends in between: a run is aborted when its last follower leaves, and one
    # that never had a follower would go on without a client.
    events = await context.enter(gateway.follow(principal, run))
    context.adopt_task()
    context.began(run, run_request.model)
    return run, events
