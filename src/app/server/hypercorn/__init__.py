"""What replaces or extends the inside of hypercorn; written against hypercorn 0.18.0.

==================  ===============================  ===============================================
of hypercorn        replaced by                      why
==================  ===============================  ===============================================
``Config``          ``config.ServerConfig``          Settings of the classes below.
``TCPServer``       ``tcp_server.PatientServer``     One address could open every connection; an
                                                     idle one keeps its socket for the whole
                                                     keep-alive; a client that disconnects is an
                                                     error of the server on uvloop; a client that
                                                     closes its sending half gets no answer
                                                     (``half_closed``); a request that comes as an
                                                     idle connection is closed gets a reset.
``AsyncioSingleTask`` ``idle_watch.IdleWatch``       Starts and cancels two tasks for each request;
                                                     closes connections on which a request has come.
``H11Protocol``     ``http1.RuledHttp1``             A read of 64 KiB is parsed without a pause;
                                                     headers are not counted; ``Upgrade: h2c`` leads
                                                     to HTTP/2 also where that is switched off;
                                                     clients do not get to know that the server
                                                     leaves (``leaving``).
``H2Protocol``      ``http2.RuledHttp2``             Frames are not counted (``http2_frames``); a
                                                     fault of one stream ends the others; an idle
                                                     connection stays for ever, or is closed without
                                                     GOAWAY.
``HTTPStream``      ``http1.RuledHttpStream``        A body may come in any number of pieces.
``WSStream``        ``websocket_stream.RuledStream`` Pings have no deadline; a peer that reads
                                                     nothing blocks the end; compression cannot be
                                                     switched off (``websocket_upgrade``); the
                                                     application cannot cut or limit a connection
                                                     (``websocket_wire``).
``WebsocketBuffer`` ``websocket_message.ByteCounter`` Counts characters of a text instead of bytes,
                                                     against a limit that cannot change.
==================  ===============================  ===============================================

``replacements.install`` puts these classes in their places; it refuses other releases of hypercorn.
tests/websocket/test_hypercorn.py compares the source of each replaced class with the digest of the
version that was read, and checks that ours serve on both event loops and in both HTTP versions. To
move to a newer hypercorn: read the changes of these classes, then adapt ours, the releases that
``replacements`` accepts, and the digests in the test.
"""

from .config import ServerConfig, Timing
from .leaving import Leaving
from .peers import PeerConnections
from .replacements import HypercornChanged, install

__all__ = [
    "HypercornChanged",
    "Leaving",
    "PeerConnections",
    "ServerConfig",
    "Timing",
    "install",
]
