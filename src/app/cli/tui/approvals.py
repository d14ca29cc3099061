"""A tool call that waits, and the choice of what to decide."""

from __future__ import annotations

import json

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from ....client import ApprovalInfo, Decision
from ....domain.text import escape_json
from ...terminal import one_line

_CHOICES: dict[str, tuple[Decision | None, str]] = {
    "later": (None, "Decide later"),
    "once": ("allow-once", "Allow this call"),
    "always": ("allow-always", "Allow it, and this agent's later calls with these arguments"),
    "deny": ("deny", "Deny it"),
}


class ApprovalScreen(ModalScreen[Decision | None]):
    """Returns the decision, or None. "Decide later" is chosen at first, because the screen can
    appear under the keys of somebody who types."""

    BINDINGS = [Binding("escape", "leave", "Later")]
    DEFAULT_CSS = """
    ApprovalScreen { align: center middle; }
    ApprovalScreen > Vertical { width: 80%; height: auto; border: round $accent; padding: 0 1; }
    ApprovalScreen VerticalScroll { height: auto; max-height: 12; }
    ApprovalScreen OptionList { height: auto; }
    """

    def __init__(self, approval: ApprovalInfo) -> None:
        super().__init__()
        self.approval = approval

    def compose(self) -> ComposeResult:
        with Vertical():
            tool = one_line(self.approval.tool)
            yield Static(f"The tool {tool} waits for your approval:", markup=False)
            with VerticalScroll(can_focus=False):
                shown = json.dumps(self.approval.arguments, ensure_ascii=False)
                yield Static(Text(escape_json(shown)))
            yield OptionList(*(Option(text, id=key) for key, (_, text) in _CHOICES.items()))

    def on_mount(self) -> None:
        choices = self.query_one(OptionList)
        choices.highlighted = 0
        choices.focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(_CHOICES[str(event.option.id)][0])

    def action_leave(self) -> None:
        self.dismiss(None)
