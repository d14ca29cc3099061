"""Whatever calls a model writes, what is kept of them can be sent to every provider."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from opensoul.domain.messages import Message, Role, Text, ToolCall
from opensoul.domain.runs import any_arguments, checked
from opensoul.domain.tools import ToolSpec

TOOLS = {"read": ToolSpec("read", "Reads."), "demo__write": ToolSpec("demo__write", "Writes.")}
IDS = st.sampled_from(["", "a", "a-2", "call", "call-2"]) | st.text(max_size=5)
NAMES = st.sampled_from(["read", " read\n", "demo__write", ""]) | st.text(max_size=100)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=5,
)
ARGUMENTS = st.text(max_size=20) | VALUES.map(json.dumps)
CALLS = st.lists(st.builds(ToolCall, IDS, NAMES, ARGUMENTS), max_size=5)


@given(CALLS, st.sets(IDS, max_size=3))
def test_checked_calls_are_accepted_by_every_provider(
    calls: list[ToolCall], taken: set[str]
) -> None:
    message = Message(Role.ASSISTANT, (Text("I look."), *calls))

    kept, refused = checked(message, TOOLS, any_arguments, taken)

    text, *parts = kept.parts
    assert text == Text("I look.")
    assert len(parts) == len(calls)
    ids = [part.id for part in parts if isinstance(part, ToolCall)]
    assert len(set(ids)) == len(calls)
    assert not taken & set(ids)
    for written, part in zip(calls, parts, strict=True):
        assert isinstance(part, ToolCall)
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", part.name)
        assert isinstance(json.loads(part.arguments, parse_constant=refuse), dict)
        assert part.id in refused or (part.name in TOOLS and part.name == written.name.strip())


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON value")
