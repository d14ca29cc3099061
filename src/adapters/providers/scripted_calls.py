"""The script language by which the scripted model calls tools.

A script is a text. Its lines are of three kinds:

    /call NAME ARGUMENTS   a call of a tool; ARGUMENTS is JSON, or nothing. It is passed on as it is
                           written, so that a script can also make malformed calls
    /then                  ends a step
    any other line         text, said at the beginning of a step

Calls in lines behind one another are made together, in one step. A text behind a call begins the
next step, as `/then` does. A last step without calls is the answer; without one the answer consists
of the results of the last calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...domain.messages import Message, Role, ToolCall

_CALL = "/call"
_THEN = "/then"


@dataclass(frozen=True, slots=True)
class ScriptStep:
    """What the model says, and the names and arguments of the tools that it calls then."""

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()


def is_script(text: str) -> bool:
    """Whether a line of the text is a call."""
    return any(_word_of(line) == _CALL for line in text.splitlines())


def steps_of(script: str) -> list[ScriptStep]:
    """The steps of a script, in their order."""
    steps: list[ScriptStep] = []
    texts: list[str] = []
    calls: list[tuple[str, str]] = []

    def end_step() -> None:
        if calls or any(text.strip() for text in texts):
            steps.append(ScriptStep("\n".join(texts).strip(), tuple(calls)))
        texts.clear()
        calls.clear()

    for line in script.splitlines():
        word = _word_of(line)
        if word == _CALL:
            name, _, arguments = line.strip().removeprefix(_CALL).strip().partition(" ")
            calls.append((name, arguments.strip()))
        elif word == _THEN:
            end_step()
        else:
            if calls and line.strip():
                end_step()
            texts.append(line)
    end_step()
    return steps


def next_step(script: str, messages: Sequence[Message]) -> ScriptStep:
    """The step that comes next after these messages: the script begins behind the last message of a
    user, and each later message with tool calls is one of its steps."""
    behind: list[Message] = []
    for message in reversed(messages):
        if message.role is Role.USER:
            break
        behind.append(message)
    done = sum(_has_calls(message) for message in behind)
    steps = steps_of(script)
    if done < len(steps):
        return steps[done]
    results: list[str] = []
    for message in behind:
        if message.role is not Role.TOOL:
            break
        results.insert(0, f"{message.name or 'The tool'} returned: {message.text}")
    return ScriptStep("\n".join(results))


def _word_of(line: str) -> str:
    return line.strip().partition(" ")[0]


def _has_calls(message: Message) -> bool:
    return any(isinstance(part, ToolCall) for part in message.parts)
