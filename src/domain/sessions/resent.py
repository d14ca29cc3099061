"""What a conversation that a client resends adds to a transcript.

The client does not have the transcript: of an answer it knows the texts of all steps as one message
and the calls of its own tools. It may also change white space, join the parts of a content, and
omit reasoning. `reconciled` finds where the two differ in spite of that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from dataclasses import dataclass

from ..messages import Message, Reasoning, Role, Text, ToolCall
from ..tools import run_of_call
from .binding import unstored

STOPPED = "[The run was stopped before it had an answer: "
FAILED = "[The run failed before it had an answer: "
"""How the last message of a turn without an answer begins: a client has no such turn."""
_FUNCTION_CALL = "function_call_"
"""How the ids begin that calls of OpenAI's older functions get when they are read: such calls have
none of their own."""
_MAX_STARTS = 64
"""Places of a transcript at which a client's window is looked for."""


@dataclass(frozen=True, slots=True)
class Span:
    """The messages of a transcript that are the history of a Run: those behind the first `start`,
    up to number `through`. `session_id` is the id of the transcript. `exact`: a turn that follows
    them begins a branch also where the Session has gone on in another transcript."""

    session_id: str
    start: int
    through: int
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Added:
    """What a resent conversation adds: `question` follows the first `through` stored messages, of
    which the client has sent those behind the first `start`."""

    question: tuple[Message, ...]
    start: int
    through: int


@dataclass(frozen=True, slots=True)
class _Call:
    id: str
    name: str
    arguments: str
    is_ours: bool
    """A client got it from us, and its id cannot be guessed."""


@dataclass(frozen=True, slots=True)
class _Said:
    """The content of a message, or of all steps of an answer, for comparisons."""

    exact: int
    """The hash of the text without the white space around it."""
    squeezed: int
    """The hash of the text without any white space."""
    images: tuple[int, ...]
    calls: tuple[_Call, ...]


@dataclass(frozen=True, slots=True)
class StoredView:
    """A stored message for comparisons with those of clients: hashes in place of texts."""

    role: Role
    said: _Said
    in_parts: bool
    call_id: str | None
    answer: _Said | None = None
    """All steps of the answer that begins here, without the calls of the agent's own tools; None
    where no answer of several messages begins here."""
    steps: int = 1
    """How many messages the answer has, the results of the agent's tools included."""
    text: int | None = None
    """The hash of the text, of a question or an answer that is nothing else."""
    failed: bool = False
    """What begins here are the steps of a Run that had no answer."""


def views_of(messages: Sequence[Message]) -> list[StoredView]:
    """The views of whole turns."""
    said = [_said(message.text, message) for message in messages]
    views, behind = [], 0
    for i, message in enumerate(messages):
        answer, steps = None, 1
        # Only the first step begins an answer.
        if message.role is Role.ASSISTANT and i >= behind:
            steps = _length_of_answer(messages, i)
            if steps > 1 or any(not call.is_ours for call in said[i].calls):
                answer = _answer(messages[i : i + steps], said[i : i + steps])
            behind = i + steps
        view = StoredView(
            message.role,
            said[i],
            in_parts=_in_parts(message),
            call_id=message.tool_call_id,
            answer=answer,
            steps=steps,
            text=_plain_hash(message),
            failed=steps > 1 and messages[i + steps - 1].text.startswith((STOPPED, FAILED)),
        )
        views.append(view)
    return views


def tidied(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation of a client without empty answers, and without repetitions of a question
    that had no answer."""
    omitted: set[int] = set()
    role, before = None, None
    for i, message in enumerate(messages):
        if message.role is Role.ASSISTANT:
            part = message.parts[0] if message.parts else None
            # Most texts begin with a letter. Without a call: conversations are long.
            if not (type(part) is Text and part.text and part.text[0] > " ") and _is_empty(message):
                omitted.add(i)
                continue
        elif message.role is role is Role.USER and before == message:
            omitted.add(i)
            continue
        role, before = message.role, message
    if not omitted:
        return tuple(messages)
    return tuple(message for i, message in enumerate(messages) if i not in omitted)


def is_made_call_id(call_id: str) -> bool:
    """Whether the call has the id from its place in a request, as those of older functions have."""
    return call_id.startswith(_FUNCTION_CALL)


def has_answer(messages: tuple[Message, ...]) -> bool:
    """Whether there is an assistant's message before the final question."""
    return unstored(messages) is not messages


def reconciled(sent: tuple[Message, ...], stored: Sequence[StoredView]) -> Added:
    """Compare a whole conversation with a transcript. `sent` is `tidied`.

    The question, which is asked anew even where it is stored, is never a part of the history.
    """
    # The messages before the question, which may be the answer to a result of a client's tool.
    history = len(sent) - len(unstored(sent))
    start, ends = 0, _matched(sent, stored, 0)
    if len(ends) <= history and sent:
        start, ends = _window(sent, stored, history, ends)
    matched = len(ends) - 1
    for known in range(min(matched, len(sent) - 1), history, -1):
        through = _behind_failed(stored, ends[known])
        if through > ends[known]:  # The Run for the question before had no answer.
            return Added(sent[known:], start, through)
    known = min(matched, history)
    through = ends[known]
    if known == history == matched:
        # Behind an answer there may be messages that the client was not sent.
        through = _behind_answer(stored, through)
    return Added(sent[known:], start if known else 0, through)


def answered_again(sent: tuple[Message, ...], stored: Sequence[StoredView]) -> Added | None:
    """The same for new messages with results of a client's tools, where some results are stored
    already, or the model has answered without them; None where the messages follow what is stored.

    Results alone ask for the answer to them: they take the place of what follows their calls, if
    that is no question. Before a question, those that are stored are left out.
    """
    results = {one.tool_call_id for one in sent if one.tool_call_id is not None}
    first = _behind_calls(results, stored)
    if first is None:
        return None
    end = first
    while end < len(stored) and stored[end].role is Role.TOOL:
        end += 1
    again = results & {view.call_id for view in stored[first:end]}
    if any(one.role is Role.USER for one in sent):
        left = tuple(one for one in sent if one.tool_call_id not in again)
        return Added(left, 0, len(stored)) if again else None
    follows = end == len(stored) and not again
    if follows or any(view.role is Role.USER for view in stored[end:]):
        return None
    through = next((i for i in range(first, end) if stored[i].call_id in again), end)
    return Added(sent, 0, through)


def _behind_calls(results: Set[str | None], stored: Sequence[StoredView]) -> int | None:
    """Behind the newest stored message with one of these calls of a client's tools."""
    for place in range(len(stored), 0, -1):
        calls = stored[place - 1].said.calls
        if calls and any(call.is_ours and call.id in results for call in calls):
            return place
    return None


def _window(
    sent: tuple[Message, ...], stored: Sequence[StoredView], history: int, whole: list[int]
) -> tuple[int, list[int]]:
    """Where the conversation begins in the transcript, if the client has cut the messages before
    it. `whole` is what matches at the beginning."""
    start, best, left = 0, whole, _MAX_STARTS
    if not history:
        return start, best
    text, role = hash(_squeezed(sent[0].text)), sent[0].role
    for place in range(len(stored) - 1, 0, -1):
        view = stored[place]
        answer = view.answer or view.said
        # Cheaper than to compare the message with each of the stored ones.
        if view.role is not role or text not in (view.said.squeezed, answer.squeezed):
            continue
        ends = _matched(sent, stored, place)
        if len(ends) > len(best):
            start, best = place, ends
        left -= 1
        if len(ends) > history or not left:
            break
    # One message alone may be there by accident.
    return (start, best) if len(best) > min(history, 2) else (0, whole)


def _matched(sent: Sequence[Message], stored: Sequence[StoredView], start: int) -> list[int]:
    """The ends in the transcript of the first messages sent, those of none included, as far as
    they are the stored ones."""
    ends, place, i = [start], start, 0
    while i < len(sent):
        equal = _equal_texts(sent, i, stored, place)
        ends += range(place + 1, place + equal + 1)
        i, place = i + equal, place + equal
        if i == len(sent):
            break
        end = _match(sent[i], stored, place)
        if end is None:
            # A question that was stored twice, or an answer that the client was not sent.
            behind = _behind_repeated(stored, place) if i else place
            end = _match(sent[i], stored, behind) if behind > place else None
        if end is None:
            break
        ends.append(end)
        i, place = i + 1, end
    return ends


def _equal_texts(
    sent: Sequence[Message], first: int, stored: Sequence[StoredView], place: int
) -> int:
    """How many messages from there on are nothing but text, and stored as they are. It is the usual
    case, with few calls for each message."""
    count = min(len(sent) - first, len(stored) - place)
    for equal in range(count):
        parts, view = sent[first + equal].parts, stored[place + equal]
        if (
            view.text is None
            or view.role is not sent[first + equal].role
            or len(parts) != 1
            or type(part := parts[0]) is not Text
            or view.text != hash(part.text)
        ):
            return equal
    return max(count, 0)


def _match(message: Message, stored: Sequence[StoredView], place: int) -> int | None:
    """Behind which stored message the client's message ends that begins at `place`; None where
    another message is stored there."""
    if place >= len(stored):
        return None
    view = stored[place]
    if view.role is not message.role:
        return None
    if message.role is not Role.ASSISTANT:
        same = _is_same_text(message, view.said, view.in_parts) and _answers_same(message, view)
        return place + 1 if same else None
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    if _are_same(calls, view.said.calls) and _is_same_text(message, view.said, True):
        return place + 1
    answer = view.answer
    if answer is not None and _are_same(calls, answer.calls):
        return place + view.steps if _is_same_text(message, answer, True) else None
    return None


def _behind_repeated(stored: Sequence[StoredView], place: int) -> int:
    """Behind the stored messages at `place` that a client need not have: repetitions of the
    question before them, what was done for it in vain, and answers that follow an answer."""
    place = _behind_answer(stored, _behind_failed(stored, place))
    while (
        0 < place < len(stored)
        and stored[place].role is stored[place - 1].role is Role.USER
        and stored[place].said == stored[place - 1].said
    ):
        place += 1
    return place


def _behind_failed(stored: Sequence[StoredView], place: int) -> int:
    return place + stored[place].steps if place < len(stored) and stored[place].failed else place


def _behind_answer(stored: Sequence[StoredView], place: int) -> int:
    while (
        0 < place < len(stored)
        and stored[place].role is stored[place - 1].role is Role.ASSISTANT
        and not stored[place].said.calls
    ):
        place += 1
    return place


def _is_same_text(message: Message, said: _Said, loosely: bool) -> bool:
    text = message.text
    if hash(_trimmed(text)) != said.exact and not (
        (loosely or _in_parts(message)) and hash(_squeezed(text)) == said.squeezed
    ):
        return False
    return _images(message) == said.images


def _answers_same(message: Message, view: StoredView) -> bool:
    if message.role is not Role.TOOL or message.tool_call_id == view.call_id:
        return True
    return message.tool_call_id is None or is_made_call_id(message.tool_call_id)


def _are_same(calls: Sequence[ToolCall], stored: Sequence[_Call]) -> bool:
    return len(calls) == len(stored) and all(map(_is_same_call, calls, stored))


def _is_same_call(call: ToolCall, stored: _Call) -> bool:
    if stored.is_ours and call.id == stored.id:
        return True
    if call.id != stored.id and not is_made_call_id(call.id):
        return False
    return call.name == stored.name and _arguments(call.arguments) == stored.arguments


def _length_of_answer(messages: Sequence[Message], first: int) -> int:
    """How many messages from the first on are steps of one answer: a client is not sent the results
    of the agent's tools, and sends those of its own."""
    open_calls: set[str | None] = set()
    for i in range(first, len(messages)):
        message = messages[i]
        if message.role is Role.ASSISTANT:
            calls = [part.id for part in message.parts if isinstance(part, ToolCall)]
            open_calls = {call for call in calls if run_of_call(call) is None}
        elif message.role is not Role.TOOL or message.tool_call_id not in open_calls:
            return i - first
    return len(messages) - first


def _answer(steps: Sequence[Message], said: Sequence[_Said]) -> _Said:
    own = [i for i, step in enumerate(steps) if step.role is Role.ASSISTANT]
    text = "\n\n".join(steps[i].text for i in own)
    calls = tuple(call for i in own for call in said[i].calls if call.is_ours)
    images = tuple(image for i in own for image in said[i].images)
    return _Said(hash(_trimmed(text)), hash(_squeezed(text)), images, calls)


def _said(text: str, message: Message) -> _Said:
    parts = message.parts
    if len(parts) == 1 and type(parts[0]) is Text:
        return _Said(hash(_trimmed(text)), hash(_squeezed(text)), (), ())
    calls = (part for part in message.parts if isinstance(part, ToolCall))
    return _Said(
        hash(_trimmed(text)),
        hash(_squeezed(text)),
        _images(message),
        tuple(
            _Call(call.id, call.name, _arguments(call.arguments), run_of_call(call.id) is not None)
            for call in calls
        ),
    )


def _images(message: Message) -> tuple[int, ...]:
    return tuple(
        hash(part) for part in message.parts if not isinstance(part, Text | Reasoning | ToolCall)
    )


def _is_empty(message: Message) -> bool:
    for part in message.parts:
        if type(part) is Text:
            if part.text and not part.text.isspace():
                return False
        elif type(part) is not Reasoning:
            return False
    return True


def _plain_hash(message: Message) -> int | None:
    """The hash of the text of a question or an answer that is nothing else."""
    parts = message.parts
    if len(parts) == 1 and type(parts[0]) is Text and message.role is not Role.TOOL:
        return hash(parts[0].text)
    return None


def _in_parts(message: Message) -> bool:
    return len(message.parts) != 1


def _trimmed(text: str) -> str:
    return (text.replace("\r\n", "\n") if "\r" in text else text).strip()


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _arguments(text: str) -> str:
    """Arguments as one text, however a client has written their JSON."""
    try:
        return json.dumps(json.loads(text or "{}"), sort_keys=True)
    except (ValueError, RecursionError):
        return text
