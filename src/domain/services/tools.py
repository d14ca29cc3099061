"""Tools outside of Runs: what a client may see of them, and single calls."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from ..access import Action, Principal, may, require
from ..concurrency import LARGE, off_loop
from ..errors import (
    Forbidden,
    GatewayBusy,
    GatewayError,
    ShuttingDown,
    Unauthenticated,
    UnknownTool,
)
from ..messages import ToolCall
from ..ports import ApprovalBook, Clock, NewId, SessionCatalog, Toolbox, ToolContext
from ..runs import Validate
from ..sessions import MAIN, applied_to, parse_key, without_middle
from ..tools import Approval, Ruling, ToolResult, ToolSpec, approval_id
from .direct_calls import STOPPED, CallOutcome, CallResult, DirectCall, KeyedCalls
from .gateway import Gateway
from .ownership import own_key, session_resource

logger = logging.getLogger(__name__)

_MOST_CALLS = 16
_LAST_SECONDS = 3.0
"""For tools to stop when the Gateway does."""
_LONGEST_NAME = 200
_LONGEST_SECONDS = 86_400.0
"""After that long a call without a time limit counts as stopped at the other nodes."""


@dataclass(frozen=True, slots=True)
class ToolListing:
    """Tools for a context, each with the policy's ruling."""

    context: ToolContext
    tools: tuple[tuple[ToolSpec, Ruling], ...]


class _Ongoing:
    """A call that is running within `limit`. `error`: why it is stopped, if not by the limit."""

    def __init__(self, limit: asyncio.Timeout) -> None:
        self.limit = limit
        self.error: GatewayError | None = None

    def stop(self, error: GatewayError) -> None:
        if self.error is None and not self.limit.expired():
            self.error = error
            self.limit.reschedule(asyncio.get_running_loop().time())

    def revoke(self, reason: str) -> None:
        """A grant of the principal has ended."""
        message = f"The credential of this request is no longer valid: {reason}."
        self.stop(Unauthenticated(message))


class ToolService:
    """Every method takes a Principal and checks what it may do.

    A direct call passes what a call of a model passes: the policy of the agent with the scopes of
    the principal, the schema of the tool, and `toolbox`, which rules on it again. Besides, the list
    `Settings.direct_tools` has to name the tool. `all_tools`: the tools without the policy.
    `clock` is Unix time, `monotonic` measures time.
    """

    def __init__(
        self,
        *,
        gateway: Gateway,
        catalog: SessionCatalog,
        all_tools: Toolbox,
        toolbox: Toolbox,
        approvals: ApprovalBook,
        validate: Validate,
        keyed: KeyedCalls,
        new_id: NewId,
        clock: Clock,
        monotonic: Clock,
    ) -> None:
        self._gateway = gateway
        self._catalog = catalog
        self._all_tools = all_tools
        self._toolbox = toolbox
        self._approvals = approvals
        self._validate = validate
        self._keyed = keyed
        self._new_id = new_id
        self._clock = clock
        self._monotonic = monotonic
        self._ongoing: set[_Ongoing] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    async def listing(
        self, principal: Principal, *, session_key: str | None = None, agent_id: str | None = None
    ) -> ToolListing:
        """All tools, denied ones too, in a session or in the main session of an agent.

        Raises Forbidden, UnknownAgent, SessionKeyInvalid.
        """
        require(principal, Action.SEE_AGENT)
        context = await self._context(principal, session_key, agent_id)
        specs = await self._all_tools.tools(context)
        rulings = context.rulings(specs)
        return ToolListing(context, tuple(zip(specs, rulings, strict=True)))

    async def call(self, principal: Principal, call: DirectCall) -> CallResult:
        """Run a call. Cancelling this stops the tool. Raises Forbidden, UnknownAgent,
        SessionKeyInvalid, KeyReused, UnknownTool, RateLimited, GatewayBusy, ShuttingDown, and
        Unauthenticated where a grant has ended meanwhile."""
        require(principal, Action.CALL_TOOL)
        await self._gateway.check_request(principal)
        context = await self._context(principal, call.session_key, call.agent_id)
        log_fields: dict[str, object] = {
            "tool": call.tool[:_LONGEST_NAME],
            "agent": context.agent.id,
            "session": str(context.session_key),
            "principal": principal.id,
            "source": call.source,
        }
        begun, outcome = self._monotonic(), "stopped"
        try:
            longest = (context.agent.timeout or _LONGEST_SECONDS) + _LAST_SECONDS
            run = partial(self._call, principal, context, call)
            result = await self._keyed.once(principal.id, call, longest, run)
            outcome = result.outcome.value
        except GatewayError as error:
            outcome = error.code
            raise
        else:
            return result
        finally:
            # Arguments and results are content, which is not logged.
            log_fields |= {"outcome": outcome, "ms": round((self._monotonic() - begun) * 1_000)}
            logger.info("a client called a tool", extra=log_fields)

    async def drain(self, grace: float) -> None:
        """Begin no more calls; let those that are running finish for `grace` seconds, then stop the
        rest. A tool that does not stop is not waited for."""
        self._draining = True
        if await self._is_idle_within(grace):
            return
        for ongoing in tuple(self._ongoing):
            ongoing.stop(ShuttingDown(f"The Gateway is stopping. {STOPPED}"))
        if not await self._is_idle_within(_LAST_SECONDS):
            logger.warning("tools did not stop", extra={"calls": len(self._ongoing)})

    async def _is_idle_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _call(
        self, principal: Principal, context: ToolContext, call: DirectCall
    ) -> CallResult:
        spec = await self._offered(context, call.tool)
        arguments = _with_action(spec, call)
        # Loading the validator takes as long as a large call.
        wrong = await off_loop(LARGE, lambda: self._validate(spec, arguments))
        if wrong is not None:
            message = f"The arguments do not fit the parameters of {spec.name}: {wrong}"
            return CallResult(CallOutcome.FAILED, message)
        tool_call = ToolCall(context.run_id, spec.name, json.dumps(arguments))
        key = f"{principal.id}:{call.idempotency_key or context.run_id}"
        if spec.asks(tool_call):
            key = f"{key}:{context.run_id}"  # An approval is for one attempt.
            if not await self._is_approved(context, tool_call, key):
                message = f"A call of {spec.name} needs an approval, which only a run can wait for."
                return CallResult(CallOutcome.APPROVAL_REQUIRED, message)
        if call.dry_run:
            return CallResult(CallOutcome.CHECKED)
        if self._draining:
            raise ShuttingDown("The Gateway is stopping.", retry_after=1)
        if len(self._ongoing) >= _MOST_CALLS:
            message = f"{_MOST_CALLS} tool calls of clients are running, the most at a time."
            raise GatewayBusy(message, retry_after=1.0)
        result = await self._run(principal, context, tool_call, key)
        outcome = CallOutcome.FAILED if result.is_error else CallOutcome.DONE
        return CallResult(outcome, result.text)

    async def _context(
        self, principal: Principal, session_key: str | None, agent_id: str | None
    ) -> ToolContext:
        agents = self._gateway.directory(principal)
        default = agents.find(agent_id, param="agentId") if agent_id else agents.default
        text = session_key or MAIN
        named, _ = parse_key(text, default_agent=default.id, allow_reserved=True)
        key = own_key(named, principal)
        agent = agents.find(key.agent_id, param="sessionKey")
        info = await self._catalog.find(key)
        if info is not None:
            owns = principal.agents is None or may(
                principal, Action.SEE_SESSION, session_resource(info)
            )
            if not owns:
                raise Forbidden(f"The session {key} belongs to another principal; choose another.")
            # Rules may depend on the model, which a session can choose.
            agent = applied_to(agent, info.settings, self._gateway.settings.models)
        return ToolContext(
            agent=agent,
            run_id=self._new_id(),
            session_key=key,
            principal_id=principal.id,
            scopes=principal.scopes,
            principal=principal,
        )

    async def _offered(self, context: ToolContext, name: str) -> ToolSpec:
        """The tool of exactly that name. Raises UnknownTool."""
        direct = self._gateway.settings.direct_tools
        # Listing may start MCP servers, which an empty list must not do.
        specs = await self._toolbox.tools(context) if direct else ()
        spec = next((spec for spec in specs if spec.name == name), None)
        if spec is None or direct.match(spec) is None:
            raise UnknownTool(f"Tool not available: {name[:_LONGEST_NAME]}")
        return spec

    async def _is_approved(self, context: ToolContext, call: ToolCall, key: str) -> bool:
        """Whether such calls were allowed for always. Raises StoreFailed."""
        now = self._clock()
        approval = Approval(
            id=approval_id(key, call),
            run_id=context.run_id,
            principal_id=context.principal_id,
            call=call,
            created_at=now,
            expires_at=now,
            agent_id=context.agent.id,
            session_key=str(context.session_key),
        )
        if not any(one.id == approval.subject for one in await self._approvals.standing()):
            return False
        # The toolbox looks for an approval of exactly this call.
        kept = await self._approvals.add(approval)
        return kept.decision is not None and kept.decision.allows

    async def _run(
        self, principal: Principal, context: ToolContext, call: ToolCall, key: str
    ) -> ToolResult:
        """The result, shortened as for a model; an error at the time limit of the agent's runs."""
        agent = context.agent
        result = ToolResult("The tool ended without a result.", is_error=True)
        ongoing = _Ongoing(asyncio.timeout(agent.timeout))
        self._ongoing.add(ongoing)
        self._idle.clear()
        try:
            async with ongoing.limit:
                hold = self._gateway.access.hold(principal, ongoing.revoke)
                try:
                    run = self._toolbox.run(context, call, key=key)
                    async with aclosing(run) as outputs:
                        async for output in outputs:
                            if isinstance(output, ToolResult):
                                result = output
                                break
                finally:
                    hold.release()
        except TimeoutError:
            if ongoing.error is not None:
                raise ongoing.error from None
            message = f"stopped after {agent.timeout:g} seconds; it is not known what took effect"
            return ToolResult(message, is_error=True)
        finally:
            self._ongoing.discard(ongoing)
            if not self._ongoing:
                self._idle.set()
        if len(result.text) <= agent.max_result_chars:
            return result
        return ToolResult(without_middle(result.text, agent.max_result_chars), result.is_error)


def _with_action(spec: ToolSpec, call: DirectCall) -> dict[str, object]:
    arguments = dict(call.arguments)
    properties = spec.parameters.get("properties")
    if call.action is not None and isinstance(properties, Mapping) and "action" in properties:
        arguments.setdefault("action", call.action)
    return arguments
