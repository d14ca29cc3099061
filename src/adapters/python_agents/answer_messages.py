"""The messages that a plain function's events are stored as."""

from __future__ import annotations

from collections.abc import Sequence

from ...domain.messages import Message, Part, Role, Text, ToolCall
from ...domain.runs import ToolFinished, ToolStarted, failed_result, result_of
from ...domain.tools import ToolResult

_NO_RESULT = "The function ended before the tool."


class AnswerMessages:
    """Text and tool calls in the order of their events. Calls that are open at the same time are
    one message, with the text before them; their results follow it."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        """The text behind the last finished call."""
        self._stored: list[Message] = []
        self._calls: dict[str, ToolCall] = {}
        self._results: dict[str, Message] = {}

    def started(self, event: ToolStarted) -> None:
        """A call begins. One whose id is that of an open call is not stored."""
        if event.call_id not in self._calls:
            self._calls[event.call_id] = ToolCall(event.call_id, event.name, event.arguments)

    def finished(self, event: ToolFinished) -> None:
        """A call has a result. One that has not begun is not stored."""
        call = self._calls.get(event.call_id)
        if call is None:
            return
        self._results[call.id] = result_of(call, ToolResult(event.text, event.is_error))
        if len(self._results) == len(self._calls):
            self._store()

    def ended(self, calls: Sequence[ToolCall] = ()) -> tuple[Message, ...]:
        """All messages, the last one with `calls`, which the client has to answer."""
        if self._calls:
            self._store()
        last: tuple[Part, ...] = (*self._text(), *calls)
        return (*self._stored, Message(Role.ASSISTANT, last or (Text(""),)))

    def _store(self) -> None:
        called = tuple(self._calls.values())
        results = (self._results.get(one.id) or failed_result(one, _NO_RESULT) for one in called)
        self._stored += [Message(Role.ASSISTANT, (*self._text(), *called)), *results]
        self.texts.clear()
        self._calls, self._results = {}, {}

    def _text(self) -> tuple[Text, ...]:
        text = "".join(self.texts)
        return (Text(text),) if text else ()
