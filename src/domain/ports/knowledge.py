"""Where the files and skills that an agent is to know come from."""

from __future__ import annotations

from typing import Protocol

from ..knowledge import Knowledge


class KnowledgeSource(Protocol):
    """Finds what an agent is to know in its workspace."""

    async def find(self, workspace: str, *, skills: bool) -> Knowledge:
        """The KNOWLEDGE_FILES that are there, in their order, and with `skills` the skills, sorted
        by name. As it is now: a file that was written before the call is found.

        The same object as last time where nothing has changed. Never raises: what cannot be read is
        left out and named in the `problems`. Makes no workspace, and reads nothing outside of it
        but the shared skills. Does not suspend where there is no workspace and no skill is wanted.
        """
        ...
