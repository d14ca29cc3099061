"""Messages survive being bytes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opensoul.adapters.persistence.common.codec import (
    Undecodable,
    decode,
    decode_settings,
    encode,
    encode_settings,
)
from opensoul.domain.messages import Image, Message, Reasoning, Role, Text, ToolCall

ANY_TEXT = st.text(st.characters(codec=None, categories=None))
PARTS = st.one_of(
    st.builds(Text, ANY_TEXT),
    st.builds(Reasoning, ANY_TEXT),
    st.builds(ToolCall, ANY_TEXT, ANY_TEXT, ANY_TEXT),
    st.builds(Image, ANY_TEXT, ANY_TEXT),
)
MESSAGES = st.builds(
    Message,
    role=st.sampled_from(Role),
    parts=st.lists(PARTS).map(tuple),
    name=st.none() | ANY_TEXT,
    tool_call_id=st.none() | ANY_TEXT,
)


@given(message=MESSAGES)
@example(message=Message(Role.USER, (Text("\ud83d\ude00"),)))
@example(message=Message(Role.USER, (Text("\ud800"),), name="\udfff"))
@example(message=Message(Role.TOOL, (Text('\\ud800 "\x00'),), tool_call_id=""))
def test_every_message_comes_back_as_it_was(message: Message) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize("is_error", [True, False])
def test_a_failed_result_comes_back_as_one(is_error: bool) -> None:
    message = Message(Role.TOOL, (Text("no"),), tool_call_id="a", is_error=is_error)
    assert decode(encode(message)).is_error is is_error


@pytest.mark.parametrize("detail", ["", "low"])
def test_how_closely_to_look_at_a_picture_comes_back(detail: str) -> None:
    data = encode(Message(Role.USER, (Image("aGk=", "image/png", detail),)))

    (part,) = decode(data).parts
    assert isinstance(part, Image)
    assert part.detail == detail
    assert (b"detail" in data) is bool(detail)


def test_ordinary_messages_are_readable_json() -> None:
    message = Message(Role.ASSISTANT, (Text("caf\u00e9"), ToolCall("c1", "f", "{}")), "me")
    assert encode(message).decode() == (
        '{"role":"assistant","parts":[{"t":"text","text":"caf\u00e9"},'
        '{"t":"tool_call","id":"c1","name":"f","arguments":"{}"}],"name":"me"}'
    )


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'"\xed\xa0\x80"' + b"[" * 100_000, "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not an object"),
        (b'{"role":"user"}', "not an object"),
        (b'{"role":"user","parts":{}}', "not an object"),
        (b'{"parts":[]}', "unknown role None"),
        (b'{"role":[],"parts":[]}', "unknown role"),
        (b'{"role":"king","parts":[]}', "unknown role 'king'"),
        (b'{"role":"user","parts":[],"name":1}', "that is no text"),
        (b'{"role":"user","parts":[],"tool_call_id":[]}', "that is no text"),
        (b'{"role":"user","parts":["text"]}', "unknown kind"),
        (b'{"role":"user","parts":[{"t":"hologram"}]}', "unknown kind"),
        (b'{"role":"user","parts":[{"t":"text"}]}', "no text in its 'text'"),
        (b'{"role":"user","parts":[{"t":"image","mime":"image/png"}]}', "no text in its 'data'"),
        (b'{"role":"user","parts":[{"t":"tool_call","id":"a","name":7}]}', "in its 'name'"),
    ],
)
def test_what_is_no_message_is_refused_with_a_reason(data: bytes, why: str) -> None:
    with pytest.raises(Undecodable, match=why):
        decode(data)


@given(settings=st.dictionaries(ANY_TEXT, ANY_TEXT | st.booleans() | st.integers()))
@example(settings={"label": "two halves \ud83d\ude00", "\udfff": 10**30})
def test_settings_come_back_as_they_were(settings: dict[str, str | bool | int]) -> None:
    decoded = decode_settings(encode_settings(settings))
    assert decoded == settings
    assert [type(value) for value in decoded.values()] == [*map(type, settings.values())]


@pytest.mark.parametrize("data", [b"", b"[]", b'{"label":null}', b'{"label":1.5}', b"\xff"])
def test_what_are_no_settings_is_refused(data: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_settings(data)
