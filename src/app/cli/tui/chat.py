"""The application: one session on the screen, and a line to write into."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, assert_never

from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.widgets import Footer, Input, Static

from ....client import (
    Aborted,
    Client,
    ClientError,
    Event,
    Failed,
    Finished,
    Options,
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
from ....client.results import text_of
from ...terminal import one_line
from .bubbles import Bubble, Transcript
from .sessions import SessionChooser

_PATIENCE = 10.0
"""Seconds that stopping an answer may take."""
_STATES = {
    State.CONNECTED: "connected",
    State.RECONNECTING: "connection lost, reconnecting …",
    State.CLOSED: "not connected",
}


class Chat(App[None]):
    """`failure` is what ended it, where that was no wish of the user."""

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
        # Held here, since a query would look at whichever screen is on top.
        self._line = Static(id="state", markup=False)
        self._transcript = Transcript(can_focus=False)
        self._own: set[str] = set()
        """Runs that were begun on this screen; their answers come as the runs' own events."""
        self._overheard: dict[str, Bubble] = {}
        """Answers to what somebody else asked in this session."""

    def compose(self) -> ComposeResult:
        yield self._line
        yield self._transcript
        yield Input(placeholder="Say something; Enter sends")
        yield Footer()

    def on_mount(self) -> None:
        self.query_one(Input).focus()
        self.run_worker(self._live(), name="live", exclusive=True)

    async def _live(self) -> None:
        """Connected, until the end."""
        try:
            async with self._client as client:
                self.session_key = self.session_key or self._main_session()
                with client.events("chat") as events:
                    await self._open(self.session_key)
                    async for event in events:
                        await self._heard(event)
        except ClientError as error:
            self.failure = error
            self.exit()

    def _main_session(self) -> str:
        defaults = (self._client.hello.raw.get("snapshot") or {}).get("sessionDefaults") or {}
        if self._agent_id:
            return f"agent:{self._agent_id}:{defaults.get('mainKey') or 'main'}"
        return str(defaults.get("mainSessionKey") or "agent:main:main")

    async def _open(self, key: str) -> None:
        """Show a session: what was said in it, and what will be."""
        self.session_key = key
        self._overheard.clear()
        # Their bubbles go: what is still being answered is heard like anybody's.
        self._own.clear()
        await self._transcript.clear()
        self._show_state()
        try:
            for message in await self._client.history(key):
                if message.text:
                    await self._transcript.say(message.role, message.text)
        except ClientError as error:
            await self._transcript.say("problem", error.message)
        self._transcript.anchor()

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        if text:
            event.input.clear()
            await self._transcript.say("user", text)
            self.run_worker(self._answered(text), name="answer")

    async def _answered(self, text: str) -> None:
        """Ask, and show the answer as it comes; a lost connection does not end it."""
        bubble = await self._transcript.say("assistant", running=True)
        run_id = str(uuid.uuid4())
        self._own.add(run_id)
        try:
            run = await self._client.run_agent(
                text, session_key=self.session_key, idempotency_key=run_id
            )
            ending = ""
            seen: list[RunEvent] = []
            async for told in run.events():
                seen.append(told)
                match told:
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
                    case _:
                        assert_never(told)
            bubble.end(ending)
        except ClientError as error:
            bubble.end(error.message)

    async def _heard(self, event: Event) -> None:
        """What somebody else asked in this session is answered here too."""
        payload = event.payload if isinstance(event.payload, dict) else {}
        run_id = str(payload.get("runId"))
        if payload.get("sessionKey") != self.session_key or run_id in self._own:
            return
        bubble = self._overheard.get(run_id)
        if bubble is None:
            bubble = await self._transcript.say("assistant", running=True)
            self._overheard[run_id] = bubble
        self._tell(bubble, payload)

    def _tell(self, bubble: Bubble, payload: Mapping[str, Any]) -> None:
        message = payload.get("message")
        if isinstance(message, dict):
            bubble.replace(text_of(message.get("content")))
        if payload.get("state") in ("final", "aborted", "error"):
            aborted = "stopped" if payload.get("state") == "aborted" else ""
            bubble.end(str(payload.get("errorMessage") or aborted))

    def action_abort(self) -> None:
        """Stop what is being answered in this session."""
        self.run_worker(self._abort(), name="abort", group="abort", exclusive=True)

    def action_sessions(self) -> None:
        """Let another session be chosen."""
        self.run_worker(self._choose(), name="choose", group="choose", exclusive=True)

    def action_fresh(self) -> None:
        """Begin a session that has nothing behind it."""
        parts = self.session_key.split(":")
        agent = parts[1] if len(parts) > 1 else "main"
        self._switch(f"agent:{agent}:tui-{uuid.uuid4().hex[:8]}")

    def action_scroll(self, direction: int) -> None:
        """A page up or down."""
        if direction < 0:
            self._transcript.scroll_page_up()
        else:
            self._transcript.scroll_page_down()

    async def _abort(self) -> None:
        params = {"sessionKey": self.session_key}
        try:
            told = await self._client.call("chat.abort", params, timeout=_PATIENCE)
        except ClientError as error:
            await self._transcript.say("problem", error.message)
            return
        if not (isinstance(told, dict) and told.get("aborted")):
            self.notify("Nothing is being answered. Ctrl-Q leaves.")

    async def _choose(self) -> None:
        try:
            page = await self._client.sessions(limit=100)
        except ClientError as error:
            await self._transcript.say("problem", error.message)
            return
        if not isinstance(self.screen, SessionChooser):
            self.push_screen(SessionChooser(page.sessions, self.session_key), self._switch)

    def _switch(self, key: str | None) -> None:
        # Apart from what the screen does, which a slow Gateway must not hold up.
        if key is not None:
            self.run_worker(self._open(key), name="open", group="open", exclusive=True)

    def _on_state(self, state: State) -> None:
        again = state is State.CONNECTED and self._state is State.RECONNECTING
        self._state = state
        if self.is_running:
            self._show_state()
        if again:
            self.run_worker(self._attend(), name="attend")

    async def _attend(self) -> None:
        """A new connection is told of the session only once it has asked for it."""
        try:
            await self._client.history(self.session_key, limit=1)
        except ClientError as error:
            await self._transcript.say("problem", error.message)

    def _show_state(self) -> None:
        self._line.set_class(self._state is not State.CONNECTED, "lost")
        key = one_line(self.session_key) or "no session"
        self._line.update(f"{key}  ·  {_STATES[self._state]}")
