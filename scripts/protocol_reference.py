"""Write docs/protocol.md, its JSON Schema and docs/openapi.json from what the Gateway runs on."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from dependency_injector import providers

from opensoul.adapters.transports.openapi import document
from opensoul.app.container import Container
from scripts.control_reference import protocol_schema, render_protocol

DOCS = Path(__file__).parent.parent / "docs"


def pages() -> dict[Path, str]:
    """What the files should hold."""
    with tempfile.TemporaryDirectory() as home:
        container = Container(
            env=providers.Object({"OPENSOUL_STATE_DIR": home}), home=providers.Object(Path(home))
        )
        handlers = container.control().handlers()
        routes = [route for transport in container.transports() for route in transport.routes]
    return {
        DOCS / "protocol.md": render_protocol(handlers, routes),
        DOCS / "protocol.schema.json": _json(protocol_schema(handlers)),
        DOCS / "openapi.json": _json(document(routes)),
    }


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
