"""The list of sessions to choose from."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import ModalScreen
from textual.widgets import Label, OptionList
from textual.widgets.option_list import Option

from ....client import SessionInfo
from ...terminal import one_line, when


class SessionChooser(ModalScreen[str | None]):
    """Returns the key of the chosen session, or None."""

    BINDINGS = [Binding("escape", "leave", "Back")]
    DEFAULT_CSS = """
    SessionChooser { align: center middle; }
    SessionChooser > OptionList { width: 80%; height: 60%; border: round $accent; }
    """

    def __init__(self, sessions: Sequence[SessionInfo], current: str) -> None:
        super().__init__()
        self._sessions = sessions
        self._current = current

    def compose(self) -> ComposeResult:
        if not self._sessions:
            yield Label("There are no sessions yet.")
        yield OptionList(*(Option(self._line(info), id=info.key) for info in self._sessions))

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)

    def action_leave(self) -> None:
        self.dismiss(None)

    def _line(self, info: SessionInfo) -> Text:
        mark = "● " if info.key == self._current else "  "
        # The key first, because every agent has a session with the label `main`.
        name = "" if info.key.endswith(f":{info.label}") else f"  {one_line(info.label, 40)}"
        running = "  running" if info.running else ""
        return Text(f"{mark}{one_line(info.key, 60)}{name}  {when(info.updated_at)}{running}")
