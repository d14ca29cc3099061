"""The chat in the terminal: history, streaming, stopping, switching, reconnecting."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from unicodedata import category

import pytest
from textual.pilot import Pilot

from opensoul.app.cli.tui import Chat
from opensoul.app.cli.tui.bubbles import Bubble
from opensoul.app.cli.tui.sessions import SessionChooser
from opensoul.client import Backoff, ConnectFailed, Options
from tests.client.fake_gateway import (
    SESSION,
    TOKEN,
    FakeGateway,
    failed,
    finished,
    serving,
    started,
    text,
)


def message(role: str, said: str) -> dict[str, object]:
    return {"role": role, "content": [{"type": "text", "text": said}], "timestamp": 1}


@pytest.fixture
async def fake() -> AsyncIterator[FakeGateway]:
    async with serving(FakeGateway()) as served:
        history = [message("user", "before"), message("assistant", "an \x1b[31manswer")]
        served.answers["chat.history"] = {"messages": history}
        yield served


def chat(fake: FakeGateway, **more: str) -> Chat:
    backoff = Backoff(first=0.01, longest=0.01)
    return Chat(Options(url=fake.url, token=TOKEN, backoff=backoff), **more)


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    """Let the application work until something is so; the test's timeout bounds it."""
    while not true():
        await pilot.pause()


def steering(shown: str) -> set[str]:
    bad = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return {hex(ord(c)) for c in shown if category(c) in bad and c not in "\n\u200d"}


def said(app: Chat) -> list[str]:
    return [bubble.text for bubble in app.screen_stack[0].query(Bubble)]


def state(app: Chat) -> str:
    return str(app.screen_stack[0].query_one("#state").render())


async def test_it_shows_what_was_said_and_streams_what_is_said_now(fake: FakeGateway) -> None:
    app = chat(fake)
    async with app.run_test() as pilot:
        await until(pilot, lambda: len(said(app)) == 2)
        # Nothing that others wrote steers the terminal.
        assert said(app) == ["before", "an [31manswer"]
        assert "connected" in state(app)
        await pilot.press(*"hi", "enter")
        await until(pilot, lambda: bool(fake.runs))
        [run] = fake.runs.values()
        await run.tell(started(), text("Hel"))
        await until(pilot, lambda: said(app)[-1] == "Hel")
        assert said(app)[-2] == "hi"
        await run.tell(text("lo [b]"), finished())
        await until(pilot, lambda: said(app)[-1] == "Hello [b]")
    [asked] = fake.methods("agent")
    assert (asked["message"], asked["sessionKey"]) == ("hi", SESSION)
    assert app.failure is None


def screen(app: Chat) -> str:
    """All characters on the screen, and the addresses that they link to."""
    strips = app.screen._compositor.render_strips()
    segments = [segment for strip in strips for segment in strip]
    assert not [s for s in segments if s.style is not None and s.style.link]
    assert not [s for s in segments if s.style is not None and "@click" in s.style.meta]
    return "\n".join(strip.text for strip in strips)


async def test_nothing_that_others_wrote_steers_the_screen_or_is_markup(fake: FakeGateway) -> None:
    evil = "[link=http://x.example]a[/link][@click=app.quit]b[/]\x1b]0;t\x07\x9b2J\u202ec\u2066"
    plain = "[link=http://x.example]a[/link][@click=app.quit]b[/]]0;t2Jc"
    fake.answers["chat.history"] = {"messages": [message("assistant", evil)]}
    fake.answers["sessions.list"] = {"sessions": [{"key": evil, "label": evil, "updatedAt": 1e300}]}
    app = chat(fake, session_key=evil)
    async with app.run_test(size=(200, 40)) as pilot:
        await until(pilot, lambda: said(app) == [plain])
        assert state(app).startswith(f"{plain}  ·  ")
        await pilot.press(*"hi", "enter")
        await until(pilot, lambda: bool(fake.runs))
        [run] = fake.runs.values()
        pieces = ["x\x1b", "[31m", "\x9b", "0m👩", "\u200d", "👧", "\u202e"]
        await run.tell(started(), *map(text, pieces), failed(evil))
        await until(pilot, lambda: said(app)[-1] == "x[31m0m👩\u200d👧")
        bubble = app.screen_stack[0].query(Bubble).last()
        await until(pilot, lambda: f"[{plain}]" in str(bubble.render()))
        assert steering(screen(app)) == set()
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, SessionChooser))
        await pilot.pause()
        assert steering(screen(app)) == set()


async def test_only_an_answer_that_goes_on_has_a_cursor(fake: FakeGateway) -> None:
    app = chat(fake)

    def cursors() -> list[bool]:
        shown = app.screen_stack[0].query(Bubble)
        return ["▌" in str(bubble.render()) for bubble in shown]

    async with app.run_test() as pilot:
        await until(pilot, lambda: len(said(app)) == 2)
        await pilot.press(*"hi", "enter")
        await until(pilot, lambda: cursors() == [False, False, False, True])
        await until(pilot, lambda: bool(fake.runs))
        [run] = fake.runs.values()
        await run.tell(started(), text("Hello"), finished())
        await until(pilot, lambda: cursors() == [False] * 4)


async def test_what_is_still_answered_is_there_after_looking_elsewhere(fake: FakeGateway) -> None:
    app = chat(fake)
    async with app.run_test() as pilot:
        await until(pilot, lambda: len(said(app)) == 2)
        await pilot.press(*"hi", "enter")
        await until(pilot, lambda: bool(fake.runs))
        [run_id] = fake.runs
        for key in ("agent:main:other", SESSION):
            app.switch(key)
            await until(pilot, lambda key=key: key in state(app) and len(said(app)) == 2)  # type: ignore[misc]
        told = {"runId": run_id, "sessionKey": SESSION, "state": "delta"}
        await fake.tell("chat", told | {"message": message("assistant", "Hel")})
        await until(pilot, lambda: said(app)[-1] == "Hel")


async def test_escape_stops_the_answer(fake: FakeGateway) -> None:
    app = chat(fake)
    async with app.run_test() as pilot:
        await until(pilot, lambda: len(said(app)) == 2)
        await pilot.press(*"hi", "enter")
        await until(pilot, lambda: bool(fake.runs))
        fake.answers["chat.abort"] = {"aborted": True}
        await pilot.press("escape")
        await until(pilot, lambda: bool(fake.methods("chat.abort")))
        fake.answers["chat.abort"] = {"aborted": False}
        await pilot.press("ctrl+c")
        await until(pilot, lambda: len(fake.methods("chat.abort")) == 2)
    assert fake.methods("chat.abort")[0] == {"sessionKey": SESSION}


async def test_a_lost_connection_shows_and_the_answer_goes_on(fake: FakeGateway) -> None:
    app = chat(fake)
    async with app.run_test() as pilot:
        await until(pilot, lambda: len(said(app)) == 2)
        await pilot.press(*"hi", "enter")
        await until(pilot, lambda: bool(fake.runs))
        [run] = fake.runs.values()
        await run.tell(started(), text("a"))
        await until(pilot, lambda: said(app)[-1] == "a")
        await fake.drop()
        await until(pilot, lambda: len(fake.connects) == 2)
        await run.tell(text("b"), finished())
        await until(pilot, lambda: said(app)[-1] == "ab")
        # It asks for the session anew, or nobody would tell of it.
        await until(pilot, lambda: len(fake.methods("chat.history")) == 2)
        assert "connected" in state(app)
    assert len(fake.methods("agent")) == 1


async def test_another_session_is_chosen(fake: FakeGateway) -> None:
    fake.answers["sessions.list"] = {
        "sessions": [{"key": SESSION, "updatedAt": 1}, {"key": "agent:main:other", "label": "x"}]
    }
    app = chat(fake)
    async with app.run_test() as pilot:
        await until(pilot, lambda: len(said(app)) == 2)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, SessionChooser))
        await pilot.press("down", "enter")
        await until(pilot, lambda: app.session_key == "agent:main:other")
        await until(pilot, lambda: len(fake.methods("chat.history")) == 2)
        await pilot.press("ctrl+n")
        await until(pilot, lambda: app.session_key.startswith("agent:main:tui-"))
        await pilot.press("pageup", "pagedown", "ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, SessionChooser))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, SessionChooser))
    assert fake.methods("chat.history")[1]["sessionKey"] == "agent:main:other"


async def test_what_others_ask_in_the_session_is_answered_here_too(fake: FakeGateway) -> None:
    app = chat(fake, session_key="agent:main:x")
    delta = {"runId": "R", "sessionKey": "agent:main:x", "state": "delta"}
    async with app.run_test() as pilot:
        await until(pilot, lambda: len(said(app)) == 2)
        await fake.tell("chat", delta | {"sessionKey": "agent:main:y"})
        await fake.tell("chat", delta | {"message": message("assistant", "a")})
        await fake.tell("chat", delta | {"message": message("assistant", "ab")})
        await fake.tell("chat", delta | {"state": "error", "errorMessage": "gone"})
        await until(pilot, lambda: said(app)[2:] == ["ab"])
        bubbles = app.screen_stack[0].query(Bubble)
        await until(pilot, lambda: "gone" in str(bubbles.last().render()))


async def test_a_refused_question_is_told_where_the_answer_would_stand(fake: FakeGateway) -> None:
    error = {"code": "INVALID_REQUEST", "message": "not like this"}
    fake.answers["agent"] = {"ok": False, "error": error}
    fake.answers["chat.history"] = {"ok": False, "error": error}
    app = chat(fake, agent_id="pirate")
    async with app.run_test() as pilot:
        await until(pilot, lambda: said(app) == ["not like this"])
        await pilot.press("h", "enter", "enter")
        bubbles = app.screen_stack[0].query(Bubble)
        await until(pilot, lambda: "not like this" in str(bubbles.last().render()))
    assert fake.methods("agent")[0]["sessionKey"] == "agent:pirate:main"


async def test_where_nobody_answers_it_ends_and_says_why(fake: FakeGateway) -> None:
    app = Chat(Options(url="ws://127.0.0.1:9"))
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.failure is not None)
    assert isinstance(app.failure, ConnectFailed)


async def test_it_shows_that_older_messages_are_summarised(fake: FakeGateway) -> None:
    app = chat(fake)

    def noted() -> str:
        return str(app.screen_stack[0].query(Bubble).last().render())

    async with app.run_test() as pilot:
        await until(pilot, lambda: len(said(app)) == 2)
        await pilot.press(*"hi", "enter")
        await until(pilot, lambda: bool(fake.runs))
        [run] = fake.runs.values()
        await run.tell(started(), {"stream": "compaction", "data": {"phase": "start"}})
        await until(pilot, lambda: "are being summarised" in noted())
        ended = {"phase": "end", "willRetry": False, "tokensBefore": 9, "tokensAfter": 2}
        await run.tell({"stream": "compaction", "data": ended}, text("Hello"))
        await until(pilot, lambda: "The older messages were summarised." in noted())
        await run.tell({"stream": "compaction", "data": {**ended, "error": "too\x1b[31m long"}})
        await until(pilot, lambda: "may be left out: too[31m long" in noted())
        pruned = {"phase": "end", "results": 3, "tokensSaved": 5}
        await run.tell({"stream": "pruning", "data": pruned}, finished())
        await until(pilot, lambda: "3 old tool results are shortened" in noted())
        assert said(app)[-1] == "Hello"
