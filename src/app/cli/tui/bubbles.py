"""The messages of a chat, as widgets."""

from __future__ import annotations

from rich.text import Text
from textual.containers import VerticalScroll
from textual.widgets import Static

from ....domain.text import PieceCleaner, clean

_NAMES = {"user": "you", "assistant": "agent"}


class Bubble(Static):
    """One message. Texts are displayed verbatim: markup and control characters have no effect."""

    DEFAULT_CSS = """
    Bubble { padding: 0 1 1 1; }
    Bubble.user { color: $accent; }
    Bubble.notice { color: $text-muted; text-style: italic; }
    Bubble.problem { color: $error; }
    """

    def __init__(self, role: str, text: str = "", *, running: bool = False) -> None:
        super().__init__(classes=role)
        self._role = role
        self._cleaner = PieceCleaner()
        self._pieces = [self._cleaner.clean(text)]
        self._note = self._ending = ""
        # Not `_running`, which is an attribute of textual's widgets.
        self._is_open = running
        self._is_stale = False

    @property
    def text(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    def append(self, text: str) -> None:
        """Append a text. Texts appended in quick succession are drawn together."""
        self._pieces.append(self._cleaner.clean(text))
        self._redraw()

    def replace(self, text: str) -> None:
        self._cleaner = PieceCleaner()
        self._pieces = [self._cleaner.clean(text)]
        self._redraw()

    def note(self, text: str) -> None:
        """Show a remark above the text, in place of an earlier one."""
        self._note = clean(text)
        self._redraw()

    def end(self, ending: str = "") -> None:
        """Mark the message as complete; `ending` is a note such as an error message."""
        self._is_open, self._ending = False, clean(ending)
        self._redraw()

    def on_mount(self) -> None:
        self._draw()

    def _redraw(self) -> None:
        if not self._is_stale:
            self._is_stale = True
            self.call_later(self._draw)

    def _draw(self) -> None:
        self._is_stale = False
        drawn = Text()
        if self._role in _NAMES:
            drawn.append(f"{_NAMES[self._role]}\n", style="bold")
        if self._note:
            drawn.append(f"[{self._note}]\n", style="italic")
        drawn.append(self.text)
        if self._is_open:
            drawn.append(" ▌")
        if self._ending:
            drawn.append(f"\n[{self._ending}]", style="italic")
        self.update(drawn)


class Transcript(VerticalScroll):
    """The list of messages. It stays scrolled to its end unless the user scrolls up."""

    def on_mount(self) -> None:
        self.anchor()

    async def add(self, role: str, text: str = "", *, running: bool = False) -> Bubble:
        bubble = Bubble(role, text, running=running)
        await self.mount(bubble)
        return bubble
