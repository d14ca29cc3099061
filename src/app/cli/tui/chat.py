"""The chat application: one session, and an input line."""

from __future__ import annotations

import uuid
from functools import partial
from typing import assert_never

from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.widgets import Footer, Input, Static

from ....client import (
    Aborted,
    ApprovalInfo,
    Client,
    ClientError,
    CompactionEnded,
    CompactionStarted,
    Decision,
    Event,
    Failed,
    Finished,
    Options,
    Pruned,
    ReasoningDelta,
    Resumed,
    RunEvent,
    Started,
    State,
    StepDone,
    TextDelta,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    Waiting,
    run_text,
)
from ....client.results import approval_info, text_of
from ...terminal import one_line
from .approvals import ApprovalScreen
from .bubbles import Bubble, Transcript
from .sessions import SessionChooser

_APPROVALS = "operator.approvals"
_PATIENCE = 10.0
"""Timeout in seconds for aborting a run."""
_APPROVAL_EVENTS = ("exec.approval.requested", "exec.approval.resolved")
_STATES = {
    State.CONNECTED: "connected",
    State.RECONNECTING: "connection lost, reconnecting …",
    State.CLOSED: "not connected",
}


class Chat(App[None]):
    """`failure`: the error that ended the application, if the user did not quit."""

    TITLE = "OpenSoul"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Transcript { height: 1fr; }
    #state { height: 1; background: $panel; color: $text-muted; padding: 0 1; }
    #state.lost { background: $warning; color: $background; }
    """
    BINDINGS = [
        Binding("escape", "abort", "Stop"),
        Binding("ctrl+c", "abort", "Stop", show=False, priority=True),
        Binding("ctrl+s", "sessions", "Sessions", priority=True),
        Binding("ctrl+r", "approvals", "Approvals", priority=True),
        Binding("ctrl+n", "fresh", "New session", priority=True),
        Binding("pageup", "scroll(-1)", "Scroll", show=False, priority=True),
        Binding("pagedown", "scroll(1)", "Scroll", show=False, priority=True),
        Binding("ctrl+q", "quit", "Leave", priority=True),
    ]

    def __init__(
        self, options: Options, *, session_key: str | None = None, agent_id: str | None = None
    ) -> None:
        super().__init__()
        self.failure: ClientError | None = None
        self.session_key = session_key or ""
        self._agent_id = agent_id
        self._client = Client(options, on_state=self._on_state)
        self._state = State.CLOSED
        # Stored, because a query would search the topmost screen.
        self._line = Static(id="state", markup=False)
        self._transcript = Transcript(can_focus=False)
        self._own: set[str] = set()
        """Runs started on this screen; their text comes from the runs' own events."""
        self._other_runs: dict[str, Bubble] = {}
        """The messages of other clients' runs in this session, shown from `chat` events."""

    def compose(self) -> ComposeResult:
        yield self._line
        yield self._transcript
        yield Input(placeholder="Say something; Enter sends, /help lists commands")
        yield Footer()

    def on_mount(self) -> None:
        self.query_one(Input).focus()
        self._connect()

    @work(group="connection")
    async def _connect(self) -> None:
        """Connect, and show events until the connection ends for good."""
        try:
            async with self._client as client:
                self.session_key = self.session_key or self._main_session()
                with client.events("chat", *_APPROVAL_EVENTS) as events:
                    await self._open(self.session_key)
                    async for event in events:
                        if event.name in _APPROVAL_EVENTS:
                            self._show_approval_event(event)
                        else:
                            await self._show_chat_event(event)
        except ClientError as error:
            self.failure = error
            self.exit()

    def _main_session(self) -> str:
        defaults = (self._client.hello.raw.get("snapshot") or {}).get("sessionDefaults") or {}
        if self._agent_id:
            return f"agent:{self._agent_id}:{defaults.get('mainKey') or 'main'}"
        return str(defaults.get("mainSessionKey") or "agent:main:main")

    async def _open(self, key: str) -> None:
        """Show a session: its history, and its events from now on."""
        self.session_key = key
        self._other_runs.clear()
        # Their messages are removed; runs in progress are now shown like other clients' runs.
        self._own.clear()
        await self._transcript.remove_children()
        self._show_state()
        try:
            for message in await self._client.history(key):
                if message.text:
                    await self._transcript.add(message.role, message.text)
        except ClientError as error:
            await self._transcript.add("problem", error.message)
        self._transcript.anchor()
        self._look_for_approvals()

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        if text:
            event.input.clear()
            await self._transcript.add("user", text)
            self._run_agent(text)

    @work
    async def _run_agent(self, text: str) -> None:
        """Start a run and show its text as it arrives, across reconnections."""
        bubble = await self._transcript.add("assistant", running=True)
        run_id = str(uuid.uuid4())
        self._own.add(run_id)
        try:
            run = await self._client.run_agent(
                text, session_key=self.session_key, idempotency_key=run_id
            )
            ending = ""
            seen: list[RunEvent] = []
            async for event in run.events():
                seen.append(event)
                match event:
                    case TextDelta(text=delta):
                        bubble.append(delta)
                    case Aborted(reason=reason):
                        ending = f"stopped: {reason}" if reason else "stopped"
                    case Failed(message=message):
                        ending = message
                    case Resumed():
                        bubble.replace(run_text(seen))
                    case Started() | Waiting() | ReasoningDelta() | Finished():
                        pass
                    case ToolStarted() | ToolProgress() | ToolFinished() | StepDone():
                        pass
                    case CompactionStarted():
                        bubble.note("The older messages are being summarised.")
                    case CompactionEnded(failure=failure):
                        bubble.note(_compacted(failure))
                    case Pruned(results=results):
                        bubble.note(f"{results} old tool results are shortened for the model.")
                    case _:
                        assert_never(event)
            bubble.end(ending)
        except ClientError as error:
            bubble.end(error.message)

    async def _show_chat_event(self, event: Event) -> None:
        """Show a run of another client in this session."""
        payload = event.payload if isinstance(event.payload, dict) else {}
        run_id = str(payload.get("runId"))
        if payload.get("sessionKey") != self.session_key or run_id in self._own:
            return
        bubble = self._other_runs.get(run_id)
        if bubble is None:
            bubble = await self._transcript.add("assistant", running=True)
            self._other_runs[run_id] = bubble
        message = payload.get("message")
        if isinstance(message, dict):
            bubble.replace(text_of(message.get("content")))
        if payload.get("state") in ("final", "aborted", "error"):
            aborted = "stopped" if payload.get("state") == "aborted" else ""
            bubble.end(str(payload.get("errorMessage") or aborted))

    def _show_approval_event(self, event: Event) -> None:
        """Show a tool call of this session that waits, until somebody has decided on it."""
        approval = approval_info(event.payload if isinstance(event.payload, dict) else {})
        shown = self.screen
        if event.name == _APPROVAL_EVENTS[0]:
            self._ask(approval)
        elif isinstance(shown, ApprovalScreen) and shown.approval.id == approval.id:
            shown.dismiss(None)

    def _ask(self, approval: ApprovalInfo) -> None:
        """Only over the chat itself: what is under another screen is asked for by Ctrl-R."""
        if approval.session_key == self.session_key and len(self.screen_stack) == 1:
            decided = partial(self._on_decision, approval)
            self.push_screen(ApprovalScreen(approval), decided)

    def _on_decision(self, approval: ApprovalInfo, decision: Decision | None) -> None:
        if decision is not None:
            self._decide(approval.id, decision)

    @work
    async def _decide(self, approval_id: str, decision: Decision) -> None:
        try:
            await self._client.decide(approval_id, decision)
        except ClientError as error:
            await self._transcript.add("problem", error.message)
        self._look_for_approvals()

    def action_approvals(self) -> None:
        self._look_for_approvals(wanted=True)

    @work(group="approvals", exclusive=True)
    async def _look_for_approvals(self, *, wanted: bool = False) -> None:
        """Show the first tool call of this session that waits."""
        if _APPROVALS not in self._client.hello.scopes:
            return
        try:
            approvals = await self._client.approvals()
        except ClientError as error:
            await self._transcript.add("problem", error.message)
            return
        here = [one for one in approvals if one.session_key == self.session_key]
        if here:
            self._ask(here[0])
        elif wanted:
            self.notify("No tool call of this session waits for an approval.")

    def action_fresh(self) -> None:
        parts = self.session_key.split(":")
        agent = parts[1] if len(parts) > 1 else "main"
        self.switch(f"agent:{agent}:tui-{uuid.uuid4().hex[:8]}")

    def action_scroll(self, direction: int) -> None:
        if direction < 0:
            self._transcript.scroll_page_up()
        else:
            self._transcript.scroll_page_down()

    # The methods that call the Gateway are workers, so that a slow one does not block the screen.

    @work(group="abort", exclusive=True)
    async def action_abort(self) -> None:
        params = {"sessionKey": self.session_key}
        try:
            payload = await self._client.call("chat.abort", params, timeout=_PATIENCE)
        except ClientError as error:
            await self._transcript.add("problem", error.message)
            return
        if not (isinstance(payload, dict) and payload.get("aborted")):
            self.notify("No run is active. Ctrl-Q quits.")

    @work(group="choose", exclusive=True)
    async def action_sessions(self) -> None:
        try:
            page = await self._client.sessions(limit=100)
        except ClientError as error:
            await self._transcript.add("problem", error.message)
            return
        if not isinstance(self.screen, SessionChooser):
            self.push_screen(SessionChooser(page.sessions, self.session_key), self._on_choice)

    def _on_choice(self, key: str | None) -> None:
        if key is not None:
            self.switch(key)

    @work(group="open", exclusive=True)
    async def switch(self, key: str) -> None:
        await self._open(key)

    def _on_state(self, state: State) -> None:
        again = state is State.CONNECTED and self._state is State.RECONNECTING
        self._state = state
        if self.is_running:
            self._show_state()
        if again:
            self._subscribe()

    @work
    async def _subscribe(self) -> None:
        """Subscribe the new connection to the session, a side effect of `chat.history`."""
        try:
            await self._client.history(self.session_key, limit=1)
        except ClientError as error:
            await self._transcript.add("problem", error.message)
        self._look_for_approvals()

    def _show_state(self) -> None:
        self._line.set_class(self._state is not State.CONNECTED, "lost")
        key = one_line(self.session_key) or "no session"
        self._line.update(f"{key}  ·  {_STATES[self._state]}")


def _compacted(failure: str) -> str:
    if failure:
        return f"The older messages were not summarised, and may be left out: {failure}"
    return "The older messages were summarised."
