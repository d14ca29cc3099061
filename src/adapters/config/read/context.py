"""The inputs and the shared state of building settings from a configuration."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import KeyPath, bounded
from ..locations import Locations, Overrides, absolute
from ..schema import Root
from .problems import Problems
from .validation import Checked

TAILNET = ipaddress.ip_network("100.64.0.0/10")
_TAILNET_RESOLVER = ("100.100.100.100", 53)


def find_tailnet_address() -> str | None:
    """This machine's address in 100.64.0.0/10, as the route to Tailscale's resolver shows it.

    Connecting a UDP socket sends nothing; it only chooses the address to send from.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_TAILNET_RESOLVER)
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return address if ipaddress.ip_address(address) in TAILNET else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Everything besides the files that settings depend on.

    `generated_token` gets the state directory and is called only when mode `token` has no other
    secret; it may raise OSError. `runners`: the names that agents may use, None where
    that is not known.
    """

    env: Mapping[str, str]
    home: Path | None
    generated_token: Callable[[Path], str]
    overrides: Overrides = field(default_factory=Overrides)
    tailnet_address: Callable[[], str | None] = find_tailnet_address
    runners: Collection[str] | None = None


@dataclass(frozen=True, slots=True)
class Building:
    """One configuration being built. `env` includes the variables of the `env` block."""

    inputs: Inputs
    locations: Locations
    env: Mapping[str, str]
    checked: Checked
    problems: Problems
    notes: list[str] = field(default_factory=list)

    @property
    def config(self) -> Root:
        return self.checked.config

    def report(self, message: str, *path: str | int) -> None:
        """Report an issue at a path of `config`."""
        self.problems.report(self.checked.original(*path), message)

    def broken(self, *path: str | int) -> bool:
        """Whether there is an issue at, above or below a path of `config`."""
        return self.problems.broken(*self.checked.original(*path))

    def note(self, sentence: str) -> None:
        sentence = bounded(sentence)
        if sentence not in self.notes:
            self.notes.append(sentence)

    def path(self, text: str) -> str:
        """See `absolute_path`."""
        return absolute_path(self.inputs, self.locations, text)

    def origin(self, path: KeyPath) -> KeyPath:
        return self.checked.original(*path)


def absolute_path(inputs: Inputs, locations: Locations, text: str) -> str:
    """A path from the configuration: `~` is expanded; relative ones start at the main file."""
    return str(absolute(text, home=inputs.home, base=locations.base_dir))
