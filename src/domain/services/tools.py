"""Tools outside of Runs: what a client may see of them, and single calls."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum

from ..access import Action, Principal, may, require
from ..concurrency import LARGE, off_loop, shielded
from ..errors import (
    Forbidden,
    GatewayBusy,
    GatewayError,
    KeyReused,
    ShuttingDown,
    Unauthenticated,
    UnknownTool,
)
from ..messages import ToolCall
from ..ports import ApprovalBook, Clock, NewId, SessionCatalog, Toolbox, ToolContext
from ..runs import Validate
from ..sessions import MAIN, applied_to, parse_key, without_middle
from ..tools import Approval, Ruling, ToolResult, ToolSpec, approval_id
from .gateway import Gateway
from .ownership import own_key, session_resource

logger = logging.getLogger(__name__)

_MOST_CALLS = 16
_MOST_KEYS = 128
_KEPT_SECONDS = 300.0
"""How long the result of a call with an idempotency key is kept."""
_LAST_SECONDS = 3.0
"""For tools to stop when the Gateway does."""
_STOPPED = "The call was stopped; it is not known what took effect."
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class DirectCall:
    """A call as a client sent it. `action` becomes the argument of that name where the tool has
    such a parameter and `arguments` do not set it. `session_key`: by default the main session of
    the agent, by default the default one. `dry_run`: check the call, and do not run it. `source`
    names the protocol, for the log."""

    tool: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    action: str | None = None
    session_key: str | None = None
    agent_id: str | None = None
    idempotency_key: str | None = None
    """A repeated call of the principal under this key gets the result of the first."""
    dry_run: bool = False
    source: str = ""


class CallOutcome(StrEnum):
    """How a direct call has ended."""

    DONE = "done"
    CHECKED = "checked"
    """It could be run, and was not, because it is a dry run."""
    FAILED = "failed"
    APPROVAL_REQUIRED = "approval required"
    """Calls outside of a Run cannot wait for an approval, so it was not run. (One that was allowed
    for always is run.)"""


@dataclass(frozen=True, slots=True)
class CallResult:
    """`text`: the tool's result, or why there is none."""

    outcome: CallOutcome
    text: str = ""


@dataclass(frozen=True, slots=True)
class ToolListing:
    """Tools for a context, each with the policy's ruling."""

    context: ToolContext
    tools: tuple[tuple[ToolSpec, Ruling], ...]


@dataclass(frozen=True, slots=True)
class _Keyed:
    """A call with an idempotency key. `at`: when it was begun."""

    call: DirectCall
    at: float
    result: asyncio.Future[CallResult]


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
        self._new_id = new_id
        self._clock = clock
        self._monotonic = monotonic
        self._ongoing: set[_Ongoing] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._keyed: dict[tuple[str, str], _Keyed] = {}
        """Calls with an idempotency key, by the principal and the key, oldest first."""

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
            result = await self._once(principal, context, call)
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
            ongoing.stop(ShuttingDown(f"The Gateway is stopping. {_STOPPED}"))
        if not await self._is_idle_within(_LAST_SECONDS):
            logger.warning("tools did not stop", extra={"calls": len(self._ongoing)})

    async def _is_idle_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def _once(
        self, principal: Principal, context: ToolContext, call: DirectCall
    ) -> CallResult:
        """The result of the call, or of an earlier one under its key. Raises KeyReused."""
        if call.idempotency_key is None:
            return await self._call(principal, context, call)
        key = (principal.id, call.idempotency_key)
        self._forget_keys()
        earlier = self._keyed.get(key)
        if earlier is not None:
            if earlier.call != call:
                message = f"The idempotency key {key[1]!r} stands for another call already."
                raise KeyReused(message, param="idempotencyKey")
            return await shielded(earlier.result)
        keyed = self._keyed[key] = _Keyed(
            call, self._monotonic(), asyncio.get_running_loop().create_future()
        )
        try:
            keyed.result.set_result(await self._call(principal, context, call))
        except (UnknownTool, GatewayBusy) as refused:  # The tool was not begun.
            self._keyed.pop(key, None)
            keyed.result.set_exception(refused)
            keyed.result.exception()  # There may be no repeated call that retrieves it.
            raise
        finally:
            if not keyed.result.done():
                keyed.result.set_result(CallResult(CallOutcome.FAILED, _STOPPED))
        return keyed.result.result()

    def _forget_keys(self) -> None:
        oldest = self._monotonic() - _KEPT_SECONDS
        for key, keyed in tuple(self._keyed.items()):
            if keyed.result.done() and (keyed.at < oldest or len(self._keyed) >= _MOST_KEYS):
                del self._keyed[key]

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
            raise ShuttingDown("The Gateway is stopping.")
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
