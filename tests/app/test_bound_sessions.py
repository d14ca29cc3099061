"""By what a chat completion finds its session, over real sockets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from examples.header_authenticator import PEOPLE, HeaderAuthenticator
from tests.app.grants import people, through_proxy
from tests.app.grants import served as behind_proxy
from tests.app.serving import SECRET, Served, config, serving
from tests.control.client import connected
from tests.fakes.provider import FakeProvider

__all__ = ["behind_proxy", "people"]
CHAT, OTHER_CHAT = "54b9fbfb-0000-4000-8000-1249ec857100", "a0e472e2-0000-4000-8000-a33aa7cd02d2"
BY = "x-opensoul-session-bound-by"
KEY = "x-opensoul-session-key"


async def bound(
    served: Served, headers: dict[str, str] | None = None, /, **body: Any
) -> tuple[str, str]:
    """What the answer names: by what the session was found, and its key."""
    async with served.ask(headers, **body) as response:
        assert response.status == 200, await response.text()
        return response.headers[BY], response.headers[KEY]


def said(provider: FakeProvider) -> list[str]:
    """The texts that the provider was last sent."""
    return [message["content"] for message in provider.requests[-1].json["messages"]]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


async def test_the_part_that_comes_first_finds_the_session(served: Served) -> None:
    key = {KEY: "trip"}
    webui = {"X-OpenWebUI-Chat-Id": CHAT}
    libre = {"X-LibreChat-Conversation-Id": OTHER_CHAT}
    metadata = {"metadata": {"session_key": "notes"}}

    everything = await bound(served, key | webui | libre, user="ann", **metadata)
    assert everything == (KEY, "agent:main:trip")
    found = await bound(served, webui | libre, user="ann", **metadata)
    assert found == ("metadata.session_key", "agent:main:notes")
    found = await bound(served, webui | libre, user="ann")
    assert found == (
        "x-openwebui-chat-id",
        f"agent:main:openai-chat:x-openwebui-chat-id:{CHAT}",
    )
    found = await bound(served, libre, user="ann")
    assert found == (
        "x-librechat-conversation-id",
        f"agent:main:openai-chat:x-librechat-conversation-id:{OTHER_CHAT}",
    )
    assert await bound(served, user="ann") == ("user", "agent:main:openai-user:ann")
    assert (await bound(served))[0] == "none"


async def test_a_conversation_goes_on_in_its_session(
    served: Served, provider: FakeProvider
) -> None:
    headers = {"X-OpenWebUI-Chat-Id": CHAT}
    reply = await served.text(headers, messages=[user("I am Alice.")])
    history = [user("I am Alice."), {"role": "assistant", "content": reply}, user("Who am I?")]
    await served.text(headers, messages=history)
    assert said(provider) == ["I am Alice.", reply, "Who am I?"]

    await served.text({"X-OpenWebUI-Chat-Id": OTHER_CHAT}, messages=[user("Who am I?")])
    assert said(provider) == ["Who am I?"]


@pytest.mark.parametrize(
    "value", ["", " ", "new", "NEW", "null", "undefined", "{{LIBRECHAT_BODY_CONVERSATIONID}}"]
)
async def test_a_header_without_an_id_is_passed_over(served: Served, value: str) -> None:
    headers = {"X-LibreChat-Conversation-Id": value}

    assert await bound(served, headers, user="ann") == ("user", "agent:main:openai-user:ann")
    assert (await bound(served, headers))[0] == "none"


@pytest.mark.parametrize("chat", ["temporary:p5_84D803", "local:x7"])
async def test_a_temporary_conversation_is_not_remembered(
    served: Served, provider: FakeProvider, chat: str
) -> None:
    headers = {"X-OpenWebUI-Chat-Id": chat}
    first, second = [await bound(served, headers, user="ann") for _ in range(2)]

    assert first[0] == second[0] == "none"
    assert first[1] != second[1]
    assert said(provider) == ["hello"]


async def test_the_key_in_the_metadata_is_not_sent_on(
    served: Served, provider: FakeProvider
) -> None:
    await served.text(metadata={"session_key": "notes", "a": "b"})
    assert provider.requests[-1].json["metadata"] == {"a": "b"}
    await served.text(metadata={"session_key": "notes"})
    assert "metadata" not in provider.requests[-1].json


@pytest.mark.parametrize(
    ("key", "problem"), [("", "is empty"), ("cron:x", "reserved"), ("a\nb", "control")]
)
async def test_a_bad_key_in_the_metadata_is_refused(served: Served, key: str, problem: str) -> None:
    async with served.ask(metadata={"session_key": key}) as response:
        error = (await response.json())["error"]
    assert (response.status, error["param"]) == (400, "metadata.session_key")
    assert problem in error["message"]


async def test_the_configuration_names_the_headers_and_switches_them_off(
    tmp_path: Path, provider: FakeProvider
) -> None:
    content = config(provider.base_url)
    content["session"] = {"bind": {"headers": ["X-Ticket"], "user": "off"}}
    async with serving(tmp_path, content) as served:
        ticket = await bound(served, {"x-ticket": "7", "X-OpenWebUI-Chat-Id": CHAT})
        assert ticket == ("x-ticket", "agent:main:openai-chat:x-ticket:7")
        assert (await bound(served, {"X-OpenWebUI-Chat-Id": CHAT}, user="ann"))[0] == "none"
        content["session"] = {"bind": {"headers": []}}
        change = served.container.gateway().settings.generation
        served.configure(content)
        async with connected(served.client, SECRET) as peer:
            await peer.call("health")
            while served.container.gateway().settings.generation == change:
                await peer.call("health")
        assert await bound(served, {"x-ticket": "7"}, user="ann") == (
            "user",
            "agent:main:openai-user:ann",
        )


async def test_equal_names_of_two_principals_do_not_meet(
    behind_proxy: Served, people: HeaderAuthenticator
) -> None:
    served = behind_proxy
    people.people["alan"] = replace(PEOPLE["grace"], id="alan", principal="alan")
    people.people["odd"] = replace(PEOPLE["grace"], id="odd", principal="grace:x")

    async def keys(headers: dict[str, str], name: str) -> list[str]:
        found = []
        for more, user_name in (({"X-OpenWebUI-Chat-Id": name}, None), ({}, name)):
            body = served.question(model="opensoul:guide", user=user_name)
            async with served.client.post(
                "/v1/chat/completions", json=body, headers=headers | more
            ) as response:
                assert response.status == 200, await response.text()
                found.append(response.headers[KEY])
        return found

    operators = await keys(served.authorization, CHAT)
    assert operators == [
        f"agent:guide:openai-chat:x-openwebui-chat-id:{CHAT}",
        f"agent:guide:openai-user:{CHAT}",
    ]
    hers, his = await keys(through_proxy("grace"), CHAT), await keys(through_proxy("alan"), CHAT)
    assert hers == await keys(through_proxy("grace"), CHAT)
    names = ("x:a", "x%3Aa", "a")
    others = [await keys(through_proxy(who), name) for who in ("grace", "odd") for name in names]
    # A name that an operator's client chooses does not lead into a namespace either.
    forged = await keys(served.authorization, hers[1].removeprefix("agent:guide:openai-user"))
    every = [*operators, *hers, *his, *(key for pair in others for key in pair), *forged]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize("key", ["temporary:x", "local:x"])
async def test_a_session_key_is_no_temporary_conversation(served: Served, key: str) -> None:
    assert await bound(served, {KEY: key}) == (KEY, f"agent:main:{key}")
