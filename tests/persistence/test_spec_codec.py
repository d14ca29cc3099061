"""A RunSpec survives being bytes: it holds nothing that only this process has."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opensoul.adapters.persistence.common.codec import Undecodable
from opensoul.adapters.persistence.common.spec_codec import decode_spec, encode_spec
from opensoul.domain.messages import Image, Message, Reasoning, Role, Text, ToolCall
from opensoul.domain.runs.spec import OnLeave, RunSpec
from opensoul.domain.scopes import Scope
from opensoul.domain.sessions import BoundBy
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.tools import CLIENT_SOURCE, ChoiceMode, ClientTools, ToolChoice, ToolSpec
from tests.fakes.domain import run, user

ANY_TEXT = st.text(st.characters(codec=None, categories=None), max_size=20)
SECONDS = st.floats(allow_nan=False, allow_infinity=False)
PARTS = st.one_of(
    st.builds(Text, ANY_TEXT),
    st.builds(Reasoning, ANY_TEXT),
    st.builds(ToolCall, ANY_TEXT, ANY_TEXT, ANY_TEXT),
    st.builds(Image, ANY_TEXT, ANY_TEXT),
)
MESSAGES = st.lists(
    st.builds(
        Message,
        st.sampled_from(Role),
        st.lists(PARTS, max_size=3).map(tuple),
        st.none() | ANY_TEXT,
        st.none() | ANY_TEXT,
    ),
    max_size=3,
).map(tuple)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | SECONDS | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=5,
)
CLIENT_TOOLS = st.builds(
    ClientTools,
    st.lists(
        st.builds(
            ToolSpec,
            ANY_TEXT,
            ANY_TEXT,
            st.dictionaries(ANY_TEXT, VALUES, max_size=2),
            effects=st.just(frozenset()),
            source=st.just(CLIENT_SOURCE),
            strict=st.none() | st.booleans(),
        ),
        max_size=2,
    ).map(tuple),
    st.builds(ToolChoice, st.sampled_from(ChoiceMode), ANY_TEXT),
)
SPECS = st.builds(
    RunSpec,
    id=ANY_TEXT,
    agent_id=ANY_TEXT,
    session_key=st.builds(SessionKey, ANY_TEXT, ANY_TEXT),
    principal_id=ANY_TEXT,
    messages=MESSAGES,
    generation=ANY_TEXT,
    instructions=MESSAGES,
    params=st.dictionaries(ANY_TEXT, VALUES, max_size=3),
    on_leave=st.sampled_from(OnLeave),
    accepted_at=SECONDS,
    timeout=st.none() | SECONDS,
    one_off=st.booleans(),
    bound_by=st.sampled_from(BoundBy),
    source=ANY_TEXT,
    thinking=st.none() | ANY_TEXT,
    scopes=st.none() | st.frozensets(st.sampled_from(Scope)),
    agents=st.none() | st.frozensets(ANY_TEXT),
    parent=ANY_TEXT,
    hops=st.integers(0, 9),
    client_tools=st.none() | CLIENT_TOOLS,
    side_task=ANY_TEXT,
    chosen_model=ANY_TEXT,
    max_tool_calls=st.none() | st.integers(1, 9),
    streamed=st.booleans(),
)


@given(spec=SPECS)
@example(spec=run(messages=(user("\ud83d\ude00"), user("\ud83d"), user("\ude00"))))
def test_a_spec_comes_back_as_it_was(spec: RunSpec) -> None:
    assert decode_spec(encode_spec(spec)) == spec


def changed(**changes: object) -> bytes:
    return json.dumps(json.loads(encode_spec(run())) | changes).encode()


def test_a_spec_of_an_earlier_version_has_no_scopes_and_tools() -> None:
    body = json.loads(encode_spec(run()))
    del body["scopes"], body["client_tools"]

    assert decode_spec(json.dumps(body).encode()) == replace(run(), scopes=None)


def test_a_scope_of_a_later_version_permits_nothing() -> None:
    data = changed(scopes=["operator.future", "operator.read", 7])

    assert decode_spec(data).scopes == frozenset({Scope.READ})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        changed(version=2),
        changed(id=7),
        changed(messages=["no message"]),
        changed(messages=7),
        changed(session_key=["main"]),
        changed(on_leave="stay"),
        changed(params=[]),
        changed(one_off="yes"),
        changed(scopes="operator.read"),
        changed(accepted_at=10**400),
        changed(agents=[7]),
        changed(parent=None),
        changed(hops="1"),
    ],
)
def test_what_is_no_spec_is_refused(data: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_spec(data)


@pytest.mark.parametrize("cell", ["text", 7, None])
def test_what_is_not_even_bytes_is_refused(cell: Any) -> None:
    with pytest.raises(Undecodable):
        decode_spec(cell)


def test_a_spec_of_an_earlier_release_has_no_parent_and_no_scopes() -> None:
    body = json.loads(encode_spec(run(parent="run-0", hops=1, scopes=frozenset(Scope))))
    for later in ("scopes", "agents", "parent", "hops"):
        del body[later]

    assert decode_spec(json.dumps(body).encode()) == run()
