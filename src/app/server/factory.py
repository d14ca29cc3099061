"""Makes the application: `hypercorn "opensoul.app.server.factory:create_app()"` serves it."""

from __future__ import annotations

from quart import Quart

from ...adapters.transports import http
from ...adapters.transports.control.connection import BoundedConnection
from ..container import Container


def create_app(container: Container | None = None) -> Quart:
    """The Quart application of a container; production and tests make it here.

    Raises ConfigInvalid, with everything that is wrong, PluginMissing and PluginInvalid.
    """
    container = container or Container()
    settings = container.settings()()
    container.configure_logging()(settings.logging)
    app = Quart("opensoul", static_folder=None)
    app.asgi_websocket_class = BoundedConnection
    transports = container.transports()
    http.install(app, container.gateway(), transports)
    lifecycle = container.lifecycle()
    lifecycle.serve(transports)
    app.before_serving(lifecycle.start)
    app.after_serving(lifecycle.stop)
    return app
