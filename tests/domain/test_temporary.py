"""Sessions of conversations that their clients do not keep."""

from __future__ import annotations

import pytest

from opensoul.domain.sessions import SessionKey
from opensoul.domain.sessions.binding import is_temporary


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("openai-temporary:run", True),
        ("key:k1:openai-temporary:run", True),
        ("openai:run", False),
        ("key:k1:openai:run", False),
        ("key:x-temporary:openai:run", False),
        ("openai-user:a-temporary", False),
    ],
)
def test_the_key_says_whether_a_conversation_is_temporary(rest: str, expected: bool) -> None:
    assert is_temporary(SessionKey("main", rest)) is expected
