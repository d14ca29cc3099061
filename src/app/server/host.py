"""Hosts the application with hypercorn: sockets, signals and shutdown."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, suppress

from hypercorn.asyncio.run import worker_serve
from hypercorn.config import Sockets
from hypercorn.utils import wrap_app
from quart import Quart

from ...domain.concurrency import FairThreads
from ...domain.settings import ListenSettings
from ..lifecycle import Lifecycle, Stopping
from ..memory import give_large_blocks_back
from ..signals import stop_on_signals
from . import event_loop, listeners
from .hypercorn import Leaving, PeerConnections, ServerConfig, Timing, install

logger = logging.getLogger(__name__)

_BACKLOG = 1_024
_KEEP_ALIVE = 75.0
"""Seconds that an idle connection is kept. Longer than those at the other end keep one, since who
closes it first sends nothing more on it: 60 s for nginx and most load balancers, 4 to 15 s for
clients."""
TLS_BUFFER = 60 * 1024
"""Receive buffer of a TLS connection, in bytes. The event loop decrypts all of it in one turn: for
records of a single byte each, the usual megabytes would take a second. A client 100 ms away can
still send half a megabyte a second."""
_UNACKNOWLEDGED = 120_000
"""Milliseconds that sent bytes may stay unacknowledged before the connection is aborted."""
_LAST_HANDSHAKES = 0.25
"""Seconds for connections that are being opened when listening ends. A client's system repeats an
attempt that is ignored after one second."""
_LAST_CONNECTIONS = 0.5
"""Seconds for the first request of connections that were accepted last."""
_LAST_TURNS = 60.0
"""Seconds for turns that cannot be stored, because the database cannot be reached."""
_LAST_WORDS = 5.0
"""Seconds for the rest of the responses after the last run."""


class PortTaken(Exception):
    """The address cannot be listened on; the message names it and the reason."""


class TlsUnusable(Exception):
    """The certificate or its key cannot be used; the message names the files and the reason."""


OnReady = Callable[[int], None]
"""Called with the port once connections are accepted there."""


def host(app: Quart, lifecycle: Lifecycle, listen: ListenSettings, *, on_ready: OnReady) -> None:
    """Run until a signal to stop, then drain; a second one ends the process at once.

    Raises PortTaken, TlsUnusable, and the errors of the Gateway's start.
    """
    sockets = open_sockets(listen)
    _allow_many_connections()
    give_large_blocks_back()
    # No log format uses these: https://docs.python.org/3/howto/logging.html#optimization
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False

    def ready(port: int) -> None:
        # The objects that exist now stay until the end, so the collector need not scan them; and a
        # request makes thousands of objects of which hardly any are in cycles.
        gc.freeze()
        gc.set_threshold(20_000, 50, 100)
        gc.enable()  # The command line disables it during the start.
        on_ready(port)

    async def until_signal() -> None:
        asyncio.get_running_loop().set_default_executor(FairThreads())
        stop = stop_on_signals()
        await serve_until(stop, app, lifecycle, listen, sockets, ready)

    event_loop.run(until_signal(), loop_factory=_loop_factory())


async def serve_until(
    stop: asyncio.Event,
    app: Quart,
    lifecycle: Lifecycle,
    listen: ListenSettings,
    sockets: Sockets,
    on_ready: OnReady,
    *,
    websockets: Timing = Timing(),  # noqa: B008 (frozen)
    peers: PeerConnections | None = None,
) -> None:
    """Serve on `sockets`, which are closed at the end, until `stop` is set; then let clients leave,
    and drain.

    `peers` limits the connections of one address; by default according to the settings in force.
    """
    opened = (*sockets.secure_sockets, *sockets.insecure_sockets)
    port = opened[0].getsockname()[1]
    config = hypercorn_config(listen)
    config.websocket_timing = websockets
    config.peers = peers or PeerConnections.by(lambda: lifecycle.settings)
    config.leaving = leaving = Leaving()
    last: list[asyncio.Task[None]] = []

    async def until_stopped() -> None:
        on_ready(port)
        await stop.wait()
        stopping = lifecycle.begin_leaving()
        config.graceful_timeout = stopping.grace + _LAST_CONNECTIONS + _LAST_WORDS
        config.shutdown_timeout = 2 * config.graceful_timeout + _LAST_TURNS
        await _let_leave(leaving, stopping, opened)
        # hypercorn stops to listen when this returns.
        last.append(asyncio.create_task(_end(leaving, stopping, lifecycle)))

    async def until_stopped_or_failed() -> None:
        try:
            await until_stopped()
        except BaseException:
            leaving.end()
            raise

    async with AsyncExitStack() as stack:
        for listener in opened:
            stack.callback(listener.close)
        install()
        _check_certificate(config)
        await lifecycle.start()
        stack.push_async_callback(lifecycle.stop)
        await worker_serve(
            wrap_app(app, config.wsgi_max_body_size, "asgi"),
            config,
            sockets=sockets,
            shutdown_trigger=until_stopped_or_failed,
        )
        await asyncio.gather(*last)


async def _let_leave(leaving: Leaving, stopping: Stopping, opened: Iterable[socket.socket]) -> None:
    """Serve on, and have clients leave by themselves; then accept the last connections."""
    leaving.begin()
    if not stopping.linger:
        return
    logger.info(
        "requests are answered until clients have left",
        extra={"seconds": stopping.linger, "idle_connections": len(leaving)},
    )
    await asyncio.sleep(stopping.linger)
    turned_away = [listeners.turn_away(listener) for listener in opened]
    if all(turned_away):
        await asyncio.sleep(_LAST_HANDSHAKES)


async def _end(leaving: Leaving, stopping: Stopping, lifecycle: Lifecycle) -> None:
    """Close idle connections, and drain: once those that were accepted last have sent what they
    were opened for."""
    if stopping.linger:
        await leaving.none_idle(_LAST_CONNECTIONS)
    leaving.end()
    lifecycle.begin_drain()


def _check_certificate(config: ServerConfig) -> None:
    """Load the certificate before the Gateway starts, for a better message. Raises TlsUnusable."""
    try:
        config.create_ssl_context()
    except OSError as error:  # An SSLError is one, too.
        reason = error.strerror or str(error)
        raise TlsUnusable(
            f"The certificate {config.certfile} with the key {config.keyfile} cannot be used: "
            f"{reason}. Both have to be readable PEM files that belong together (gateway.tls)."
        ) from error


def open_sockets(listen: ListenSettings) -> Sockets:
    """Listening sockets: of the first host, or PortTaken, and of the others where possible.

    Listening starts here, so that clients can connect as soon as the address is reported.
    """
    opened: list[socket.socket] = []
    port = listen.port
    for host in listen.hosts:
        try:
            opened.append(_listen(host, port, None if listen.tls is None else TLS_BUFFER))
        except OSError as error:
            if not opened:
                reason = (error.strerror or str(error)).partition(" (while attempting")[0]
                raise PortTaken(
                    f"Cannot listen on {host} port {port}: {reason}. "
                    "Is a Gateway running already? Choose another with --port or gateway.port."
                ) from error
        port = opened[0].getsockname()[1]
    if listen.tls is not None:
        return Sockets(opened, [], [])
    return Sockets([], opened, [])


def _listen(host: str, port: int, receive_buffer: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    # Connections inherit these options from their listener.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # hypercorn waits without a limit for a client that does not read.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED)
    if receive_buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    listener.setblocking(False)
    return listener


def hypercorn_config(listen: ListenSettings) -> ServerConfig:
    """hypercorn's settings, adapted to long streams."""
    config = ServerConfig()
    config.backlog = _BACKLOG
    config.keep_alive_timeout = _KEEP_ALIVE
    config.include_server_header = False
    config.http2 = listen.http2
    config.alpn_protocols = ["h2", "http/1.1"] if listen.http2 else ["http/1.1"]
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.errorlog.setLevel(logging.WARNING)  # The start message has the addresses already.
    if listen.tls is not None:
        config.ssl_handshake_timeout = config.first_request_seconds / 2
        config.certfile = listen.tls.cert_path
        config.keyfile = listen.tls.key_path
        config.ca_certs = listen.tls.ca_path
    return config


def _allow_many_connections() -> None:
    """Raise the limit of file descriptors: a shell's usual limit is 1,024."""
    try:
        import resource
    except ImportError:
        return  # This system has no such limit.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # Not permitted; keep the present limit.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
