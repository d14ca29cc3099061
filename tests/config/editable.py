"""A configuration file that tests edit: its text, and an editor for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from opensoul.adapters.config import ConfigEditor, locate
from opensoul.domain.ports.configuration import ConfigFile

from .place import Place

COMMENTED = """\
// Ours.
{
  // Where it listens.
  gateway: {
    port: 18789, // the usual one
    auth: { token: "${TOKEN}", password: 'quoted' }, // both
  },
  models: { providers: { demo: {
    baseUrl: "http://127.0.0.1:9/v1", apiKey: "sk-demo", headers: { "X-Any": "sk-header" },
    models: [
      { id: "one", name: "One", maxTokens: 5 }, // small
      { id: "two", name: "Two", headers: { "X-Two": "sk-two" } },
    ],
  } } },
  agents: {
    list: [
      { id: "main", model: "demo/one" }, // the first
    ],
  },
}
"""


def editor(place: Place, *, lock_timeout: float = 10.0, on_machine: bool = False) -> ConfigFile:
    """The editor of the place's configuration; the annotation proves that it fits the port."""
    place.env.setdefault("TOKEN", "token-from-outside")
    inputs = replace(place.inputs(), generated_token=_refused)
    locations = locate(place.env, place.overrides, place.home)
    return ConfigEditor(
        inputs,
        locations,
        clock=lambda: 0.0,
        lock_timeout=lock_timeout,
        on_machine=on_machine,
    )


def _refused(_: Path) -> str:
    raise AssertionError("an edit must not make a token")
