"""Pictures in what is sent to a model that may take none.

Messages without pictures are passed over without a call of any function, since all messages of a
long session are, for each call of a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import FailureKind, ModelFailed
from ..messages import Image, Message, Part, Role, Text
from ..models import ModelTarget
from ..sessions import unstored

_UNSEEN = Text("[A picture was here. You cannot see it, since you take no pictures.]")
_RESENT = Text("[A picture was here that is stored with an earlier request.]")


def able_targets(
    targets: Sequence[ModelTarget], question: Sequence[Message]
) -> Sequence[ModelTarget]:
    """The targets that can be asked: where the newest message of the user has a picture, those that
    take pictures. Raises ModelFailed where there is none."""
    for message in question[::-1]:
        if message.role is Role.USER:
            for part in message.parts:
                if part.__class__ is Image:
                    return _able(targets)
            break
    return targets


def _able(targets: Sequence[ModelTarget]) -> Sequence[ModelTarget]:
    able = [target for target in targets if "image" in target.inputs]
    if not able and targets:
        names = ", ".join(target.ref for target in targets)
        raise ModelFailed(
            FailureKind.BAD_REQUEST,
            f"The model {names} takes no pictures (`input` of the model has no `image`). Send the "
            "message without its picture, or choose an agent with another model.",
            param="messages",
        )
    return able


def without_pictures(messages: tuple[Message, ...], note: Text = _UNSEEN) -> tuple[Message, ...]:
    """The messages with a note in the place of their pictures; the same object where there are
    none."""
    for message in messages:
        for part in message.parts:
            if part.__class__ is Image:
                return tuple(_noted(one, note) for one in messages)
    return messages


def without_resent_pictures(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """What is stored of a request without a session, with which a client sends its whole
    conversation again. A picture before the last answer was stored when it was new."""
    for message in messages:
        for part in message.parts:
            if part.__class__ is Image:
                new = unstored(messages)
                return (*without_pictures(messages[: len(messages) - len(new)], _RESENT), *new)
    return messages


def _noted(message: Message, note: Text) -> Message:
    """The message with one note for pictures side by side."""
    parts: list[Part] = []
    for part in message.parts:
        if not isinstance(part, Image):
            parts.append(part)
        elif not parts or parts[-1] is not note:
            parts.append(note)
    return replace(message, parts=tuple(parts)) if note in parts else message
