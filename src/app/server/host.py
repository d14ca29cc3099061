"""Hosts the application with hypercorn: sockets, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress

from hypercorn.asyncio.run import worker_serve
from hypercorn.config import Sockets
from hypercorn.utils import wrap_app
from quart import Quart

from ...domain.settings import ListenSettings
from ..lifecycle import Lifecycle
from ..memory import give_large_blocks_back
from ..signals import stop_on_signals
from . import event_loop
from .hypercorn import PeerConnections, ServerConfig, Timing, install

_BACKLOG = 1_024
_KEEP_ALIVE = 75.0
TLS_BUFFER = 60 * 1024
"""Bytes that the system holds of what a TLS client sends. The event loop decrypts all of it in one
turn: of records with a single byte each the system's usual megabytes would take a second. A client
100 ms away can still send half a megabyte a second."""
_SWITCH_SECONDS = 0.0005
"""How long a thread may run Python before another one gets its turn. The loop's turn comes again
after each system call, so that with some threads at work it would wait Python's usual 5 ms, times
the threads, several times for each request."""
_UNACKNOWLEDGED = 120_000
"""Milliseconds that sent bytes may stay untaken before the connection is cut."""
_LAST_WORDS = 5.0
"""Seconds that connections get, after the last run, to take what is left for them."""


class PortTaken(Exception):
    """The address cannot be listened on; the message says which, and why."""


class TlsUnusable(Exception):
    """The certificate or its key cannot be used; the message says which files, and why."""


OnReady = Callable[[int], None]
"""Gets the port, once connections are taken there."""


def host(app: Quart, lifecycle: Lifecycle, listen: ListenSettings, *, on_ready: OnReady) -> None:
    """Run until a signal to stop, then drain; a second one ends the process at once.

    Raises PortTaken, TlsUnusable, and whatever keeps the Gateway from starting.
    """
    sockets = open_sockets(listen)
    _allow_many_connections()
    give_large_blocks_back()
    _spare_the_log()
    sys.setswitchinterval(_SWITCH_SECONDS)

    def ready(port: int) -> None:
        _spare_the_collector()
        on_ready(port)

    async def until_signal() -> None:
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
    """Serve on `sockets`, which are closed at the end, until `stop` is set; then drain.

    `peers` limits the connections of one address; left out: by the settings in force.
    """
    opened = (*sockets.secure_sockets, *sockets.insecure_sockets)
    port = opened[0].getsockname()[1]
    config = hypercorn_config(listen)
    config.websocket_timing = websockets
    config.peers = peers or PeerConnections.by(lambda: lifecycle.settings)

    async def until_stopped() -> None:
        on_ready(port)
        await stop.wait()
        config.graceful_timeout = lifecycle.begin_drain() + _LAST_WORDS
        config.shutdown_timeout = 2 * config.graceful_timeout

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
            shutdown_trigger=until_stopped,
        )


def _check_certificate(config: ServerConfig) -> None:
    """hypercorn loads it once the Gateway has started, and reports less. Raises TlsUnusable."""
    try:
        config.create_ssl_context()
    except OSError as error:  # An SSLError is one, too.
        reason = error.strerror or str(error)
        raise TlsUnusable(
            f"The certificate {config.certfile} with the key {config.keyfile} cannot be used: "
            f"{reason}. Both have to be readable PEM files that belong together (gateway.tls)."
        ) from error


def open_sockets(listen: ListenSettings) -> Sockets:
    """Listening sockets. The first host must be had; the others (as ::1 is) where they can be.

    Listening starts here, so that whoever is told the address can connect from then on.
    """
    opened: list[socket.socket] = []
    port = listen.port
    for host in listen.hosts:
        try:
            opened.append(_listen(host, port, None if listen.tls is None else TLS_BUFFER))
        except OSError as error:
            if not opened:
                raise PortTaken(
                    f"Cannot listen on {host} port {port}: {error.strerror or error}. "
                    "Is a Gateway running already? Choose another with --port or gateway.port."
                ) from error
        port = opened[0].getsockname()[1]
    if listen.tls is not None:
        return Sockets(opened, [], [])
    return Sockets([], opened, [])


def _listen(host: str, port: int, receive_buffer: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # hypercorn waits without end for a client that takes nothing; the system need not.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if receive_buffer is not None:  # Connections have it from their listener.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def hypercorn_config(listen: ListenSettings) -> ServerConfig:
    """hypercorn's settings, ours where its defaults do not suit long streams."""
    config = ServerConfig()
    config.backlog = _BACKLOG
    config.keep_alive_timeout = _KEEP_ALIVE
    config.include_server_header = False
    config.http2 = listen.http2
    config.alpn_protocols = ["h2", "http/1.1"] if listen.http2 else ["http/1.1"]
    config.accesslog = None
    config.errorlog = _quiet(logging.getLogger("hypercorn.error"))
    if listen.tls is not None:
        config.ssl_handshake_timeout = config.first_request_seconds / 2
        config.certfile = listen.tls.cert_path
        config.keyfile = listen.tls.key_path
        config.ca_certs = listen.tls.ca_path
    return config


def _quiet(logger: logging.Logger) -> logging.Logger:
    """Its addresses are in the start message already; what is left is worth a warning."""
    logger.setLevel(logging.WARNING)
    return logger


def _allow_many_connections() -> None:
    """Each takes a file descriptor, and a shell's usual limit is 1,024 of them."""
    try:
        import resource
    except ImportError:
        return  # There is no such limit here.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # Not allowed: what there is has to do.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _spare_the_collector() -> None:
    """What is there by now stays for ever, so it need not be looked through for garbage again;
    and a request makes thousands of objects of which hardly any are in cycles."""
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    gc.enable()  # It was off while everything was made: see the command line.


def _spare_the_log() -> None:
    """Each line would look up in which thread and process it was written, though none tells that:
    https://docs.python.org/3/howto/logging.html#optimization"""
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
