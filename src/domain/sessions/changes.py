"""What a change of a Session expects of it, and what compacting makes of it."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InvalidRequest
from .keys import SessionKey
from .records import SessionInfo


@dataclass(frozen=True, slots=True)
class Expected:
    """What must hold of a Session at the moment it is changed.

    `session_id`: of its current transcript. `archived`: it is archived, or is not there.
    """

    session_id: str | None = None
    archived: bool = False

    def check(self, key: SessionKey, info: SessionInfo | None) -> None:
        """Raises InvalidRequest."""
        if self.session_id is not None and (info is None or info.session_id != self.session_id):
            raise InvalidRequest(
                f"The session {key} is not at {self.session_id} any more.",
                param="expectedSessionId",
            )
        if self.archived and info is not None and info.settings.get("archived") is not True:
            raise InvalidRequest(f"The session {key} is not archived.", param="archivedOnly")


ANYTHING = Expected()


@dataclass(frozen=True, slots=True)
class Compacted:
    """`kept`: messages of the transcript that is current now; `changed`: it is a new one."""

    info: SessionInfo
    kept: int
    changed: bool


@dataclass(frozen=True, slots=True)
class CompactionOutcome:
    """What a person's request for a summary has led to.

    `kept`: messages that models still get whole. `before` and `after`: roughly the tokens of the
    history. `reason`: why there is no new summary; empty where there is one.
    """

    info: SessionInfo
    kept: int
    before: int
    after: int
    reason: str = ""

    @property
    def compacted(self) -> bool:
        return not self.reason
