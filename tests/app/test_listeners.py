"""How a process stops to listen."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from opensoul.app.server import listeners

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the system has no filters of sockets"
)

PATIENCE = 20.0


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_an_attempt_to_connect_is_refused_later_and_none_that_had_begun_is_reset(
    address: str,
) -> None:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, 0), family=family)
    with listener, socket.create_connection(listener.getsockname()[:2]) as earlier:
        assert listeners.turn_away(listener)
        with socket.socket(family) as later:
            later.setblocking(False)
            connecting = asyncio.ensure_future(loop.sock_connect(later, listener.getsockname()[:2]))
            # The handshake of the machine with itself needs no time: it would be over.
            await asyncio.sleep(0.1)
            assert not connecting.done()
            accepted, _ = listener.accept()
            listener.close()
            with accepted:
                earlier.sendall(b"a request")
                assert accepted.recv(100) == b"a request"
                accepted.sendall(b"its answer")
                assert earlier.recv(100) == b"its answer"
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(ConnectionRefusedError):
                    await connecting


async def test_a_system_without_filters_goes_on_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert not listeners.turn_away(listener)
        with socket.create_connection(listener.getsockname()[:2]):
            listener.accept()[0].close()


async def test_a_socket_that_takes_no_filter_is_no_failure() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.close()
    assert not listeners.turn_away(listener)
