"""`opensoul gateway run`: one Gateway in this process, from its options to its exit code."""

from __future__ import annotations

import logging
from dataclasses import replace

from dependency_injector import providers

from ...adapters.config import Overrides
from ...adapters.system.files import TokenFile
from ...domain.settings import Settings
from ..container import Container
from ..server import create_app, host
from ..terminal import echo
from .common.banner import base_url, start_message
from .common.streams import discard_output

logger = logging.getLogger(__name__)


def serve(overrides: Overrides, *, print_example: bool) -> int:
    """Serve until a signal; the exit code.

    `print_example`: the printed command may contain the generated token. Raises
    ConfigInvalid, PluginMissing, PortTaken, TlsUnusable, StateLocked, StoreFailed.
    """
    container = Container(overrides=providers.Object(overrides))
    app = create_app(container)
    settings = container.settings()()

    def announce(port: int) -> None:
        serving = replace(settings, listen=replace(settings.listen, port=port))
        container.lock().announce(base_url(serving))
        message = start_message(
            serving,
            token=_generated_token(settings, container.token_file()) if print_example else None,
            config=overrides.config_path,
            secret_from_options=overrides.token is not None or overrides.password is not None,
        )
        try:
            echo(message)
        except OSError as error:
            # A closed output or a full disk is no reason not to serve.
            reason = error.strerror or str(error)
            logger.warning("the start message is not printed", extra={"reason": reason})
            discard_output()

    host(app, container.lifecycle(), settings.listen, on_ready=announce)
    return 0


def _generated_token(settings: Settings, token_file: TokenFile) -> str | None:
    """The token in force if it was generated; None for a configured secret."""
    if settings.auth.secret is None or not token_file.path.exists():
        return None
    token = token_file.read_or_create()
    return token if token == settings.auth.secret.reveal() else None
