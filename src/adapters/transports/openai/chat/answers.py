"""Chat completion objects, and the frames of those that are streamed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .....domain.immutable import immutable
from .....domain.messages import ToolCall
from .....domain.models import ReasoningDelta, TextDelta, Usage
from .....domain.runs import (
    CONTEXT_EVENTS,
    DELTAS,
    TOOL_EVENTS,
    Aborted,
    ClientCalls,
    Failed,
    Finished,
    Resumed,
    RunEvent,
    RunRecord,
    RunSpec,
    Started,
    StepDone,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    Waiting,
    consumes,
)
from ...answering import Answer, sent_text_is_void
from ...http import Problem
from ...http.json_text import dumps
from ..common import Extras, usage_object

_DEFAULT = Extras()


@immutable(frozen=True, slots=True)
class Head:
    """What every object and every chunk of one answer begins with. `created`: Unix seconds."""

    id: str
    created: int
    model: str
    run_id: str = ""
    """Named in the ids of a stream's events; empty: they have none."""


def head_of(run: RunSpec | RunRecord, model: str) -> Head:
    """The head of the answer to `run`; `model` is the string that the client sent."""
    return Head(f"chatcmpl_{run.id}", int(run.accepted_at), model, run.id)


def completion(
    head: Head, answer: Answer, *, legacy: bool = False, extras: Extras = _DEFAULT
) -> bytes:
    """The body of a non-streaming answer. `legacy`: calls are written as the older functions."""
    message: dict[str, object] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.refusal:
        message["content"] = answer.text.removesuffix(answer.refusal) or None
        message["refusal"] = answer.refusal
    if answer.calls:
        message["content"] = answer.text or None
        if legacy:
            message["function_call"] = _function(answer.calls[0])
        else:
            message["tool_calls"] = [_call(call) for call in answer.calls]
    if answer.reasoning and extras.reasoning:
        message["reasoning_content"] = answer.reasoning
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": _finish_reason(answer.finished, legacy, refused=bool(answer.refusal)),
    }
    return dumps(
        {
            "id": head.id,
            "object": "chat.completion",
            "created": head.created,
            "model": head.model,
            "choices": [choice],
            "usage": usage_object(answer.finished.usage),
        }
    )


def _finish_reason(finished: Finished, legacy: bool, *, refused: bool) -> str:
    """With a refusal it is `stop`, as OpenAI's: its clients read no refusal of another answer."""
    reason = finished.stop.finish_reason
    if refused and reason == "content_filter":
        return "stop"
    return "function_call" if legacy and reason == "tool_calls" else reason


def _function(call: ToolCall) -> dict[str, object]:
    return {"name": call.name, "arguments": call.arguments}


def _call(call: ToolCall) -> dict[str, object]:
    return {"id": call.id, "type": "function", "function": _function(call)}


_DONE = b"data: [DONE]\n\n"
_TAIL = b"}\n\n"
_TAIL_BEFORE_USAGE = b',"usage":null}\n\n'


class Frames:
    """Writes the frames of one run.

    An `id:` line names the last event that a client has read up to there. `numbered`: each event
    has its own, so that a client whose connection breaks anywhere reads nothing twice. Otherwise
    the last of the events that are written at once has one: a run that ends with its client is
    seldom gone on with, and other streams stay shorter.
    """

    def __init__(
        self,
        head: Head,
        *,
        include_usage: bool,
        legacy: bool = False,
        numbered: bool = False,
        extras: Extras = _DEFAULT,
    ) -> None:
        fields = {
            "id": head.id,
            "object": "chat.completion.chunk",
            "created": head.created,
            "model": head.model,
        }
        self._include_usage = include_usage
        self._numbered = numbered
        self._legacy = legacy
        self._extras = extras
        self._tool_names: dict[str, str] = {}
        """By the ids of the calls, where tool activity is sent."""
        self._head = b"data: " + dumps(fields)[:-1]
        self._delta = self._head + b',"choices":[{"index":0,"delta":'
        self._text = self._delta + b'{"content":'
        self._tail = _TAIL_BEFORE_USAGE if include_usage else _TAIL
        self._text_end = b'},"finish_reason":null}]' + self._tail
        self._id = b"id: " + head.run_id.encode() + b":" if head.run_id else b""
        self._begun = self._refused = False
        self._unstored = False
        """The client has text of a step that is not stored."""
        self.ended = False
        """The last frame was written."""

    @consumes(
        *DELTAS,
        *TOOL_EVENTS,
        StepDone,
        Resumed,
        Finished,
        ignores=(Started, Waiting, Failed, Aborted, *CONTEXT_EVENTS),
    )
    def of(self, events: Sequence[RunEvent], first: int) -> bytes:
        """The frames for `events`, the first of which has the number `first`. Empty where no event
        has a frame; failures are sent as errors by the caller. The mark of the end has no id, since
        clients compare it as a whole. Raises RunInterrupted where text that was sent is void."""
        if self._numbered and len(events) > 1:
            return b"".join([self.of((event,), seq) for seq, event in enumerate(events, first)])
        frames: list[bytes] = []
        texts: list[str] = []
        for event in events:
            if isinstance(event, TextDelta) and not event.refusal:
                texts.append(event.text)
                continue
            if texts:
                self._unstored = True
                frames.append(self._deltas(texts))
                texts = []
            match event:
                case TextDelta():
                    self._refused = self._unstored = True
                    frames += (self._delta, b'{"refusal":' + dumps(event.text), self._text_end)
                case ReasoningDelta() if self._extras.reasoning:
                    self._unstored = True
                    thought = b'{"reasoning_content":' + dumps(event.text)
                    frames += (self._delta, thought, self._text_end)
                case ToolStarted(call_id=call, arguments=arguments) if self._extras.tools:
                    self._tool_names[call] = event.name
                    frames.append(self._tool(call, "started", arguments=arguments))
                case ToolProgress(call_id=call) if self._extras.tools:
                    frames.append(self._tool(call, "progress", output=event.text))
                case ToolFinished(call_id=call) if self._extras.tools:
                    status = "failed" if event.is_error else "finished"
                    frames.append(self._tool(call, status, result=event.text))
                case ClientCalls():
                    self._unstored = True
                    frames += self._calls(event.calls)
                case StepDone():
                    self._unstored = False
                case Resumed(void=void) if void and self._unstored:
                    raise sent_text_is_void()
                case Finished():
                    reason = _finish_reason(event, self._legacy, refused=self._refused)
                    stop = b'{},"finish_reason":' + dumps(reason) + b"}]"
                    frames += (self._delta, stop, self._tail, self._usage(event.usage))
                    self.ended = True
        if texts:
            self._unstored = True
            frames.append(self._deltas(texts))
        if frames and not self._begun:
            self._begun = True  # The role, before anything else and once.
            role = self._delta + b'{"role":"assistant","content":""' + self._text_end
            frames.insert(0, role)
        joined = b"".join(frames)
        if joined and self._id:
            joined = b"%b%b%d\n\n" % (joined[:-1], self._id, first + len(events) - 1)
        return joined + _DONE if self.ended else joined

    def failure(self, problem: Problem) -> bytes:
        """The frame of an error. Nothing follows it."""
        return b"data: " + dumps(problem.envelope) + b"\n\n"

    def _deltas(self, texts: list[str]) -> bytes:
        """A frame for each text. All are encoded together, as a list. Behind its first quotation
        mark, one with a comma and another behind it stands between two texts, unless there is an
        escaped one: whoever reads on from there meets those that end and begin texts in turn."""
        if len(texts) == 1:
            return self._text + dumps(texts[0]) + self._text_end
        encoded = dumps(texts)[2:-1]
        if b'\\"' in encoded:
            return b"".join([self._text + dumps(text) + self._text_end for text in texts])
        between = b'"' + self._text_end + self._text + b'"'
        return self._text + b'"' + encoded.replace(b'","', between) + self._text_end

    def _tool(self, call_id: str, status: str, **more: str) -> bytes:
        """An event with a name, whose data is a chunk without content besides: some clients, such
        as OpenAI's own, take each event for a chunk, whatever its name is."""
        tool = {"id": call_id, "name": self._tool_names.get(call_id, ""), "status": status, **more}
        end = b'{},"finish_reason":null}],"tool":' + dumps(tool) + self._tail
        return b"event: opensoul.tool\n" + self._delta + end

    def _calls(self, calls: Iterable[ToolCall]) -> list[bytes]:
        """Two frames for each call: its id and name, then its arguments."""
        deltas: list[dict[str, object]] = []
        for index, call in enumerate(calls):
            function: dict[str, object] = {"name": call.name, "arguments": ""}
            arguments: dict[str, object] = {"arguments": call.arguments}
            if self._legacy:
                deltas += ({"function_call": function}, {"function_call": arguments})
                break
            first = {"index": index, "id": call.id, "type": "function", "function": function}
            rest = {"index": index, "function": arguments}
            deltas += ({"tool_calls": [first]}, {"tool_calls": [rest]})
        end = b',"finish_reason":null}]' + self._tail
        return [self._delta + dumps(delta) + end for delta in deltas]

    def _usage(self, usage: Usage) -> bytes:
        if not self._include_usage:
            return b""
        return self._head + b',"choices":[],"usage":' + dumps(usage_object(usage)) + b"}\n\n"
