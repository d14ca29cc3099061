"""What was said, as it stands in the scroll-back."""

from __future__ import annotations

from rich.text import Text
from textual.containers import VerticalScroll
from textual.widgets import Static

from ....domain.text import PieceCleaner, clean

_NAMES = {"user": "you", "assistant": "agent"}


class Bubble(Static):
    """One message. Texts are shown as they are: nothing in them is markup, nothing steers."""

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
        self._ending = ""
        # Not `_running`: that is textual's own, and true of everything on the screen.
        self._is_open = running
        self._is_stale = False

    @property
    def text(self) -> str:
        """What it says so far."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    def append(self, text: str) -> None:
        """Say more. Many pieces that come at once are drawn at once."""
        self._pieces.append(self._cleaner.clean(text))
        self._redraw()

    def replace(self, text: str) -> None:
        """Say this instead."""
        self._cleaner = PieceCleaner()
        self._pieces = [self._cleaner.clean(text)]
        self._redraw()

    def end(self, ending: str = "") -> None:
        """Nothing more will be said; `ending` tells why, where that is not by itself clear."""
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
        drawn.append(self.text)
        if self._is_open:
            drawn.append(" ▌")
        if self._ending:
            drawn.append(f"\n[{self._ending}]", style="italic")
        self.update(drawn)


class Transcript(VerticalScroll):
    """The scroll-back. It stays at its end unless somebody scrolls up."""

    def on_mount(self) -> None:
        self.anchor()

    async def say(self, role: str, text: str = "", *, running: bool = False) -> Bubble:
        """Add a message at the end."""
        bubble = Bubble(role, text, running=running)
        await self.mount(bubble)
        return bubble

    async def clear(self) -> None:
        """Empty it."""
        await self.remove_children()

    @property
    def texts(self) -> list[str]:
        """All that it says, for tests and for who copies."""
        return [bubble.text for bubble in self.query(Bubble)]
