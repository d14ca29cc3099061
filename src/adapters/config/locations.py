"""The locations of the configuration file and the state directory."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...domain.models import Secret

CONFIG_NAMES = ("opensoul.json", "openclaw.json", "clawdbot.json", "moltbot.json", "moldbot.json")
STATE_DIR_NAMES = (".opensoul", ".openclaw", ".clawdbot", ".moltbot", ".moldbot")
DATABASE_VARIABLE = "OPENSOUL_DATABASE_URL"
"""Of the environment: the database of several processes, where the configuration names none."""
STORE_NAME = "opensoul.sqlite3"
SHARED_NAME = "shared-config.json5"
"""The copy of the configuration in the database, in the state directory."""
_HOMELESS = (
    "{}, and the user has none: HOME is not set and there is no passwd entry. "
    "Set HOME, or set OPENSOUL_STATE_DIR to an absolute path."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Options of the command line; they take precedence over the file and the environment."""

    config_path: str | None = None
    port: int | None = None
    bind: str | None = None
    auth_mode: str | None = None
    token: Secret | None = None
    password: Secret | None = None
    verbose: bool = False


class NoPlace(OSError):
    """A location cannot be determined from the environment; `strerror` is a sentence for the
    operator."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.ENOENT, message)


@dataclass(frozen=True, slots=True)
class Locations:
    """`explicit`: the operator named the configuration file, so it must exist. `node_path`: the
    file with the keys of this node, where `config_path` is a copy of the configuration that is in
    the database."""

    state_dir: Path
    config_path: Path
    explicit: bool
    node_path: Path | None = None

    @property
    def store_path(self) -> Path:
        return self.state_dir / STORE_NAME

    @property
    def base_dir(self) -> Path:
        """Where relative paths in the configuration start."""
        return (self.node_path or self.config_path).parent

    @property
    def skills_path(self) -> Path:
        """The folder of the skills that all agents share."""
        return self.state_dir / "skills"


def locate(env: Mapping[str, str], overrides: Overrides, home: Path | None) -> Locations:
    """Find the state directory and the configuration file, whether or not they exist.

    File: `--config`, OPENSOUL_CONFIG_PATH, OPENCLAW_CONFIG_PATH, then the first that exists of the
    known names in the state directory and in the known directories of the home directory.
    `home` is None where the user has none. Raises NoPlace, and OSError where the current directory
    is needed and has been deleted.
    """
    named_dir = first_set(env, "OPENSOUL_STATE_DIR", "OPENCLAW_STATE_DIR")
    known_dirs = [] if home is None else [home / name for name in STATE_DIR_NAMES]
    if named_dir is not None:
        state_dir = absolute(named_dir, home=home)
    elif known_dirs:
        state_dir = next((path for path in known_dirs if path.is_dir()), known_dirs[0])
    else:
        raise NoPlace(_HOMELESS.format("The state directory is in the home directory"))
    _check_text(state_dir)
    named_file = overrides.config_path
    if named_file is None:
        named_file = first_set(env, "OPENSOUL_CONFIG_PATH", "OPENCLAW_CONFIG_PATH")
    if named_file is not None:
        config_path = absolute(named_file, home=home)
        _check_text(config_path)
        return Locations(state_dir, config_path, explicit=True)
    places = [state_dir, *known_dirs]
    candidates = (place / name for place in places for name in CONFIG_NAMES)
    found = next((path for path in candidates if path.is_file()), state_dir / CONFIG_NAMES[0])
    return Locations(state_dir, found, explicit=False)


def home_directory() -> Path | None:
    """The user's home directory; None where HOME is not set and the user has no passwd entry."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def first_set(env: Mapping[str, str], *names: str) -> str | None:
    """The first of these variables that is neither unset nor blank, trimmed.

    Raises NoPlace where it is not UTF-8.
    """
    for name in names:
        if value := env.get(name, "").strip():
            if not is_text(value):
                raise NoPlace(f"The environment variable {name} is not UTF-8 text.")
            return value
    return None


def absolute(text: str, *, home: Path | None, base: Path | None = None) -> Path:
    """`text` as an absolute path: `~` is `home`; a relative path starts at `base`, or here.

    Raises NoPlace for `~` without a home, and OSError where the current directory was deleted.
    """
    if text == "~" or text.startswith(("~/", "~\\")):
        if home is None:
            raise NoPlace(_HOMELESS.format(f"{text} is in the home directory"))
        text = str(home) + text[1:]
    if os.path.isabs(text):
        return Path(os.path.normpath(text))
    return Path(os.path.normpath((base or _current_directory(text)) / text))


def _current_directory(text: str) -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise NoPlace(
            f"{text} starts at the current directory, which has been deleted: use an absolute path."
        ) from None


def is_text(value: str) -> bool:
    """Whether it is UTF-8. Python decodes other bytes of the system to lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_text(path: Path) -> None:
    """Paths are printed, stored as JSON and sent to clients, which all need UTF-8."""
    if not is_text(str(path)):
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise NoPlace(f"The path {shown} is not UTF-8 text. Use another one.")
