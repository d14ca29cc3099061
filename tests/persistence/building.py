"""Turns and keys for the stores' tests, and for the process that is killed in one of them."""

from __future__ import annotations

from opensoul.domain.messages import Message, Role, text_message
from opensoul.domain.models.calls import Usage
from opensoul.domain.ports import Turn
from opensoul.domain.sessions.keys import SessionKey

KEY = SessionKey("main", "somebody")


def question(text: str = "Why?") -> Message:
    return text_message(Role.USER, text)


def answer(text: str = "Because.") -> Message:
    return text_message(Role.ASSISTANT, text)


def make_turn(
    run_id: str,
    *messages: Message,
    key: SessionKey = KEY,
    session_id: str = "first",
    at: float = 1_000.0,
    one_off: bool = False,
    usage: Usage | None = None,
    model: str = "demo/parrot",
) -> Turn:
    """A turn of these messages, or of a question and an answer that name the run."""
    return Turn(
        key=key,
        session_id=session_id,
        run_id=run_id,
        at=at,
        messages=messages or (question(f"{run_id}?"), answer(f"{run_id}!")),
        model=model,
        usage=usage,
        one_off=one_off,
    )


def turn_named(run_id: str, *, caller: int) -> Turn:
    """A turn that its run id determines; some have many messages, some long ones."""
    weight = sum(run_id.encode())
    words = run_id * (1 + weight % 5 * 200)
    messages = [question(words), *(answer(f"{words}{n}") for n in range(1 + weight % 4))]
    return make_turn(run_id, *messages, key=SessionKey("main", f"caller-{caller}"))
