"""Where a configuration is looked for, and where state is kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...domain.model_calls import Secret

CONFIG_NAMES = ("opensoul.json", "openclaw.json", "clawdbot.json", "moltbot.json", "moldbot.json")
STATE_DIR_NAMES = (".opensoul", ".openclaw", ".clawdbot", ".moltbot", ".moldbot")
STORE_NAME = "opensoul.sqlite3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What was said on the command line; it wins over the file and the environment."""

    config_path: str | None = None
    port: int | None = None
    bind: str | None = None
    auth_mode: str | None = None
    token: Secret | None = None
    password: Secret | None = None
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class Locations:
    """`explicit`: the configuration file was named by the operator, so it has to exist."""

    state_dir: Path
    config_path: Path
    explicit: bool

    @property
    def store_path(self) -> Path:
        return self.state_dir / STORE_NAME


def locate(env: Mapping[str, str], overrides: Overrides, home: Path) -> Locations:
    """Find the state directory and the configuration file, whether or not they exist.

    File: `--config`, OPENSOUL_CONFIG_PATH, OPENCLAW_CONFIG_PATH, then the first that exists of the
    known names in the state directory and in the known directories of the home directory.
    """
    named_dir = first_set(env, "OPENSOUL_STATE_DIR", "OPENCLAW_STATE_DIR")
    known_dirs = [home / name for name in STATE_DIR_NAMES]
    if named_dir is not None:
        state_dir = absolute(named_dir, home=home)
    else:
        state_dir = next((path for path in known_dirs if path.is_dir()), known_dirs[0])
    named_file = overrides.config_path
    if named_file is None:
        named_file = first_set(env, "OPENSOUL_CONFIG_PATH", "OPENCLAW_CONFIG_PATH")
    if named_file is not None:
        return Locations(state_dir, absolute(named_file, home=home), explicit=True)
    places = [state_dir, *known_dirs]
    candidates = (place / name for place in places for name in CONFIG_NAMES)
    found = next((path for path in candidates if path.is_file()), state_dir / CONFIG_NAMES[0])
    return Locations(state_dir, found, explicit=False)


def first_set(env: Mapping[str, str], *names: str) -> str | None:
    """The first of these variables that is neither unset nor blank, trimmed."""
    return next((value for name in names if (value := env.get(name, "").strip())), None)


def absolute(text: str, *, home: Path, base: Path | None = None) -> Path:
    """`text` as an absolute path: `~` is `home`; a relative path starts at `base`, or here."""
    if text == "~" or text.startswith(("~/", "~\\")):
        text = str(home) + text[1:]
    return Path(os.path.normpath((base or Path.cwd()) / text))
