"""A configuration that changes while the Gateway serves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from opensoul.adapters.config import (
    Applied,
    ConfigInvalid,
    ConfigSource,
    Rejected,
    ReloadEvent,
    Skipped,
    load,
)
from opensoul.domain.models.calls import Secret
from opensoul.domain.settings import AuthMode

from .place import EVERYWHERE, Place

SOON = 10.0
"""Seconds that nothing here comes near to, unless it is broken."""


@dataclass
class Time:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Follower:
    """A source, with a clock that stands still and the events that it reported."""

    place: Place
    source: ConfigSource = field(init=False)
    time: Time = field(default_factory=Time)
    events: list[ReloadEvent] = field(default_factory=list)
    reported: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self, text: str | None = None, *watched: Path) -> Follower:
        if text is not None:
            self.place.write(text)
        inputs = self.place.inputs()
        self.source = ConfigSource(
            load(inputs), inputs, on_event=self.hear, watched=watched, monotonic=self.time
        )
        return self

    def hear(self, event: ReloadEvent) -> None:
        self.events.append(event)
        self.reported.set()

    def look(self, after: float = 0.0) -> list[ReloadEvent]:
        """The events when settings are read, `after` seconds from now."""
        self.time.now += after
        before = len(self.events)
        self.source.current()
        return self.events[before:]

    @property
    def token(self) -> str:
        secret = self.source.current().auth.secret
        assert secret is not None
        return secret.reveal()


@pytest.fixture
def follower(place: Place) -> Follower:
    return Follower(place)


def token(text: str) -> str:
    return f"{{ gateway: {{ auth: {{ token: '{text}' }} }} }}"


def test_a_changed_secret_is_in_force_for_the_next_request(follower: Follower) -> None:
    follower.start(token("one"))
    old = follower.source.current()
    follower.place.write(token("two!"))
    assert follower.token == "two!"
    assert follower.events == [Applied(("gateway.auth.token",))]
    assert old.auth.secret == Secret("one")


def test_a_change_of_the_same_size_in_the_same_instant_is_not_missed(follower: Follower) -> None:
    follower.start(token("one"))
    stat = follower.place.file.stat()
    with follower.place.file.open("r+") as opened:
        opened.write(token("two"))
    os.utime(follower.place.file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    follower.look(after=1)
    assert follower.token == "two"


def test_the_same_values_written_anew_change_nothing(follower: Follower) -> None:
    follower.start(token("one"))
    follower.place.write("// a comment\n" + token("one").replace("'", '"'))
    before = follower.source.loaded.settings
    assert follower.look() == []
    assert follower.look(after=60) == []
    assert follower.source.current().auth == before.auth


def test_every_changed_path_is_reported(follower: Follower) -> None:
    follower.start("{ agents: { list: [{ id: 'a' }] }, env: { X: '1' } }")
    follower.place.write(
        """{ agents: { list: [{ id: "b" }] }, env: { X: "2", Y: "3" }, session: { reset: {} },
             channels: {}, gateway: { reload: { mode: "hot" } } }"""
    )
    (event,) = follower.look()
    assert isinstance(event, Applied)
    expected = ("agents.list", "channels", "env.X", "env.Y", "gateway.reload.mode", "session.reset")
    assert event.changed == expected
    assert event.restart_needed == ()
    assert event.notes == ("channels has no effect here yet.",)
    assert [agent.id for agent in follower.source.current().agents] == ["b"]


def test_an_invalid_file_is_reported_once_and_the_last_good_one_stays(follower: Follower) -> None:
    follower.start(token("one"))
    follower.place.write("{ gateway: { bind: 5, auth: { token: '' } } }")
    assert follower.look() == []
    assert follower.look(after=0.29) == []
    (event,) = follower.look(after=0.02)
    assert isinstance(event, Rejected)
    assert [issue.path for issue in event.issues] == ["gateway.bind", "gateway.auth.token"]
    assert follower.token == "one"
    assert follower.look(after=60) == []
    os.utime(follower.place.file, ns=(1, 1))
    assert follower.look() == []
    assert follower.look(after=60) == []


def test_a_half_written_file_is_never_reported(follower: Follower) -> None:
    follower.start(token("one"))
    for piece in ("", "{ gateway: {", "{ gateway: { auth: { token:"):
        follower.place.write(piece)
        assert follower.look(after=0.2) == []
    follower.place.write(token("two"))
    assert follower.look(after=0.2) == [Applied(("gateway.auth.token",))]
    assert follower.look(after=60) == []


def test_the_same_fault_is_reported_again_after_it_was_mended(follower: Follower) -> None:
    follower.start(token("one"))
    for _ in range(2):
        follower.place.write("{ loging: 1 }")
        assert follower.look() == []
        assert isinstance(follower.look(after=1)[0], Rejected)
        follower.place.write(token("one"))
        assert follower.look() == []


def test_an_include_counts_as_the_file_does(follower: Follower) -> None:
    follower.place.write("{ token: 'one' }", "secret.json5")
    follower.start("{ gateway: { auth: { $include: 'secret.json5' } } }")
    follower.place.write("{ token: 'two!' }", "secret.json5")
    assert follower.look() == [Applied(("gateway.auth.token",))]
    follower.place.write("{ gateway: { auth: { $include: 'other.json5' } } }")
    assert follower.look() == []
    (event,) = follower.look(after=1)
    assert isinstance(event, Rejected)
    follower.place.write("{ token: 'three' }", "other.json5")
    assert follower.token == "three"


def test_a_deleted_file_is_an_error_and_no_empty_configuration(follower: Follower) -> None:
    follower.start(token("one"))
    follower.place.file.unlink()
    assert follower.look() == []
    (event,) = follower.look(after=1)
    assert isinstance(event, Rejected)
    assert event.issues[0].message == "there is no such file"
    assert follower.token == "one"


def test_a_file_that_appears_is_read(follower: Follower) -> None:
    follower.place.state.mkdir()
    follower.start()
    follower.place.write(token("one"))
    assert follower.look() == [Applied(("gateway.auth.token",))]
    assert follower.source.loaded.exists


def test_an_unreadable_file_is_tried_once_and_not_for_every_request(follower: Follower) -> None:
    follower.start(token("one"))
    follower.place.file.unlink()
    follower.place.file.mkdir()
    assert follower.look() == []
    assert len(follower.look(after=1)) == 1
    assert follower.look(after=1) == []


def test_what_was_opened_at_the_start_waits_for_a_restart(follower: Follower) -> None:
    follower.start("{}")
    follower.place.write(
        """{ gateway: { port: 5, bind: "lan" }, session: { store: ":memory:" },
             agents: { list: [{ id: "x" }] } }"""
    )
    (event,) = follower.look()
    waiting = ("gateway.bind", "gateway.port", "session.store")
    assert event == Applied(("agents.list", *waiting), waiting)
    found = follower.source.current()
    assert (found.listen.port, found.listen.hosts) == (18789, ("127.0.0.1", "::1"))
    assert not found.store.memory
    assert [agent.id for agent in found.agents] == ["x"]
    follower.place.write("{ agents: { list: [{ id: 'x' }] } }")
    assert follower.look() == [Applied(waiting)]


def test_authentication_is_not_switched_off_while_the_socket_is_open_to_all(
    follower: Follower,
) -> None:
    follower.start("{ gateway: { bind: 'lan', auth: { token: 'one' } } }")
    follower.place.write("{ gateway: { auth: { mode: 'none' } } }")
    (event,) = follower.look()
    assert isinstance(event, Applied)
    assert event.restart_needed == ("gateway.auth.mode", "gateway.bind")
    assert follower.source.current().listen.hosts == EVERYWHERE
    assert follower.token == "one"


def test_on_loopback_authentication_may_be_switched_off(follower: Follower) -> None:
    follower.start("{}")
    follower.place.write("{ gateway: { auth: { mode: 'none' } } }")
    assert follower.look() == [Applied(("gateway.auth.mode",))]
    assert follower.source.current().auth.mode is AuthMode.NONE


@pytest.mark.parametrize("mode", ["off", "restart"])
def test_modes_off_and_restart_keep_a_change_out(follower: Follower, mode: str) -> None:
    head = f"gateway: {{ reload: {{ mode: '{mode}' }}"
    follower.start(f"{{ {head} }} }}")
    follower.place.write("{ gateway: { auth: { token: 'two' }, reload: { mode: 'hybrid' } } }")
    changed = ("gateway.auth.token", "gateway.reload.mode")
    assert follower.look() == [Skipped(mode, changed)]
    assert follower.look(after=60) == []
    assert follower.token == follower.place.generated


@pytest.mark.parametrize("mode", ["off", "restart", "hybrid"])
def test_a_new_generated_token_counts_in_every_mode(follower: Follower, mode: str) -> None:
    kept = follower.place.write("a", "token")
    follower.start(f"{{ gateway: {{ reload: {{ mode: '{mode}' }} }} }}", kept)
    follower.place.generated = "rotated"
    kept.write_text("bb")
    assert follower.look() == [Applied(("gateway.auth.token",))]
    assert follower.token == "rotated"
    follower.place.refusal = PermissionError(13, "Permission denied")
    kept.write_text("ccc")
    follower.look()
    assert follower.token == "rotated"


def test_a_token_file_of_no_use_is_ignored_where_the_file_has_a_token(follower: Follower) -> None:
    kept = follower.place.write("a", "token")
    follower.start("{ gateway: { auth: { token: 'x' }, reload: { mode: 'off' } } }", kept)
    kept.write_text("bb")
    follower.place.env["OPENAI_API_KEY"] = "irrelevant"
    assert follower.look() == []


def test_a_frozen_configuration_survives_a_token_that_cannot_be_read(follower: Follower) -> None:
    kept = follower.place.write("a", "token")
    follower.start("{ gateway: { reload: { mode: 'off' } } }", kept)
    follower.place.refusal = PermissionError(13, "Permission denied")
    follower.place.write("{ gateway: { auth: { token: 'x' }, reload: { mode: 'off' } } }")
    assert follower.look() == [Skipped("off", ("gateway.auth.token",))]
    assert follower.token == follower.place.generated


def test_opening_a_source_loads_and_refuses_what_is_invalid(place: Place) -> None:
    place.write(token("one"))
    heard: list[ReloadEvent] = []
    source = ConfigSource.open(place.inputs(), on_event=heard.append)
    assert source.current().auth.secret == Secret("one")
    place.write("{ loging: 1 }")
    with pytest.raises(ConfigInvalid):
        ConfigSource.open(place.inputs(), on_event=heard.append)


@asynccontextmanager
async def watching(follower: Follower) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    follower.source = ConfigSource.open(follower.place.inputs(), on_event=follower.hear)
    task = asyncio.create_task(follower.source.watch(stop))
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.wait_for(task, SOON)


async def heard(follower: Follower, write: Callable[[], object]) -> ReloadEvent:
    """The next event after `write`, which is repeated: a watch takes a moment to begin."""
    follower.reported.clear()
    for _ in range(int(SOON / 0.5)):
        write()
        try:
            await asyncio.wait_for(follower.reported.wait(), 0.5)
        except TimeoutError:
            continue
        return follower.events[-1]
    raise AssertionError("nothing was reported")


QUICK = "reload: { debounceMs: 20 }"


async def test_a_change_is_seen_while_nobody_asks(follower: Follower) -> None:
    follower.place.write(f"{{ gateway: {{ {QUICK} }} }}")
    changed = f"{{ gateway: {{ {QUICK}, auth: {{ token: 'two' }} }} }}"
    async with watching(follower):
        event = await heard(follower, lambda: follower.place.write(changed))
    assert event == Applied(("gateway.auth.token",))
    assert follower.source.loaded.settings.auth.secret == Secret("two")


async def test_an_editors_rename_in_a_new_includes_directory_is_seen(follower: Follower) -> None:
    follower.place.write(f"{{ gateway: {{ {QUICK} }} }}")
    follower.place.write("{ token: 'one' }", "parts/auth.json5")
    main = f"{{ gateway: {{ {QUICK}, auth: {{ $include: 'parts/auth.json5' }} }} }}"

    def rename() -> None:
        draft = follower.place.write("{ token: 'two' }", "parts/.auth.json5.draft")
        draft.replace(follower.place.state / "parts/auth.json5")

    async with watching(follower):
        await heard(follower, lambda: follower.place.write(main))
        event = await heard(follower, rename)
    assert event == Applied(("gateway.auth.token",))


async def test_an_invalid_file_is_reported_while_no_request_arrives(follower: Follower) -> None:
    follower.place.write(f"{{ gateway: {{ {QUICK} }} }}")
    async with watching(follower):
        event = await heard(follower, lambda: follower.place.write("{ loging: 1 }"))
    assert isinstance(event, Rejected)
    assert len(follower.events) == 1


async def test_watching_ends_while_a_doubtful_file_is_left_alone(follower: Follower) -> None:
    follower.place.write("{ gateway: { reload: { debounceMs: 60000 } } }")
    async with watching(follower) as stop:
        follower.place.write("{")
        follower.source.current()
        stop.set()
    assert follower.events == []


async def test_where_no_directory_can_be_watched_files_are_looked_at_now_and_then(
    follower: Follower,
) -> None:
    async with watching(follower):
        event = await heard(follower, lambda: follower.place.write(token("one")))
    assert event == Applied(("gateway.auth.token",))


async def test_watching_can_be_cancelled(follower: Follower) -> None:
    follower.start("{}")
    task = asyncio.create_task(follower.source.watch(asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, SOON)
