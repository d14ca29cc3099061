"""The reference of the control protocol says what the Gateway does."""

from __future__ import annotations

import json

import pytest

from opensoul.adapters.transports.control.protocol import METHODS
from opensoul.adapters.transports.control.protocol.events import EVENTS
from scripts.protocol_reference import DOCS, pages


@pytest.mark.parametrize("name", ["protocol.md", "protocol.schema.json", "openapi.json"])
def test_the_page_is_what_make_docs_writes(name: str) -> None:
    path = DOCS / name

    assert path.read_text(encoding="utf-8") == pages()[path]


def test_every_method_and_event_is_explained() -> None:
    page = (DOCS / "protocol.md").read_text(encoding="utf-8")

    for name in (*METHODS, *EVENTS):
        assert f"`{name}`" in page


def test_every_reference_in_the_schema_leads_somewhere() -> None:
    schema = json.loads((DOCS / "protocol.schema.json").read_text(encoding="utf-8"))
    text = json.dumps(schema)

    for name in schema["$defs"]:
        assert f"#/$defs/{name}" in text
    for method in schema["methods"].values():
        assert method["params"]["$ref"].removeprefix("#/$defs/") in schema["$defs"]
