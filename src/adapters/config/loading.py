"""Loads configuration files into settings, or reports all their errors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from ...domain.settings import Settings
from .build import build_settings
from .errors import ConfigInvalid, Issue, Signature
from .locations import Locations
from .node_keys import digest, find, literal_secrets, with_node_keys
from .read import (
    Building,
    Files,
    Includer,
    Inputs,
    Node,
    Problems,
    SecretRefs,
    Unreadable,
    absolute_path,
    effective_environment,
    providers_of,
    resolved,
    validate,
)
from .schema import Root

_LITERAL = (
    "must be a reference such as ${NAME} in a configuration that is in the database: secrets stay "
    "with the nodes"
)
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Document:
    """The files of a configuration: includes resolved, not validated."""

    tree: Node
    files: Files
    exists: bool
    ignored: tuple[str, ...] = ()
    """Top-level keys of the node's own file that have no effect."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration."""

    settings: Settings
    config: Root = field(repr=False)
    """The validated configuration, with the schema's defaults."""
    locations: Locations
    document: Document = field(repr=False)
    tree: Node = field(repr=False)
    """The values with their origins, includes and variables resolved."""
    env: Mapping[str, str] = field(repr=False)
    """The process's variables and those of the `env` block."""

    @property
    def exists(self) -> bool:
        """Whether there is a file; otherwise the defaults apply."""
        return self.document.exists

    @property
    def files(self) -> tuple[str, ...]:
        """The files involved, the main one first, even if it does not exist."""
        return tuple(self.document.files.signatures)

    @property
    def signatures(self) -> Mapping[str, Signature | None]:
        """The signature of each file, from before it was read."""
        return self.document.files.signatures

    @property
    def sha256(self) -> str:
        """The hexadecimal digest of the main file; of no bytes if it is missing."""
        return self.document.files.digests.get(str(self.locations.config_path), EMPTY_SHA256)


def load(inputs: Inputs) -> Loaded:
    """Find, read and validate the configuration. Raises ConfigInvalid with all errors."""
    return load_at(find(inputs.env, inputs.overrides, inputs.home), inputs)


def load_at(locations: Locations, inputs: Inputs) -> Loaded:
    """Read and validate the configuration there. Raises ConfigInvalid with all errors."""
    return build(read(locations, inputs), locations, inputs)


def read(
    locations: Locations,
    inputs: Inputs,
    *,
    must_exist: bool = False,
    contents: Mapping[str, bytes] | None = None,
) -> Document:
    """Read the file and all it includes. Raises ConfigInvalid where that is not possible.

    A missing main file is an empty configuration, unless it was named or `must_exist`. `contents`:
    by file, content to read instead of that of the file.
    """
    files = Files(contents=contents or {})
    main = str(locations.config_path)
    tree = Node({}, main, ())
    exists = True
    try:
        tree = Includer(files, inputs.home, (main,)).resolve(files.read(main))
    except FileNotFoundError:
        exists = False
        if locations.explicit or must_exist:
            files.fail(Issue(main, "", None, "there is no such file"))
    except Unreadable as error:
        files.fail(Issue(main, "", error.line, error.message))
    ignored: tuple[str, ...] = ()
    if locations.node_path is not None:
        tree, ignored = with_node_keys(tree, files, locations.node_path, inputs.home)
    document = Document(tree, files, exists, ignored)
    if files.incomplete:
        raise ConfigInvalid(files.issues, files.signatures)
    return document


def build(document: Document, locations: Locations, inputs: Inputs) -> Loaded:
    """Validate, and build settings. Raises ConfigInvalid with all errors."""
    files = replace(document.files, issues=list(document.files.issues))
    problems = Problems(files, str(locations.config_path), document.tree)
    notes: list[str] = []
    env = effective_environment(document.tree, inputs.env, problems.report, notes.append)
    absolute = partial(absolute_path, inputs, locations)
    secrets = SecretRefs(env, files, absolute, providers_of(document.tree))
    problems.tree = resolved(document.tree, env, secrets, problems.report)
    if locations.node_path is not None:
        if document.ignored:
            keys = ", ".join(document.ignored)
            notes.append(
                f"{keys} in {locations.node_path} have no effect: the configuration is in the "
                "database (node.config)."
            )
        for path in literal_secrets(document.tree, problems.tree, str(locations.config_path)):
            problems.report(path, _LITERAL)
    checked = validate(problems.tree, problems)
    building = Building(inputs, locations, env, checked, problems, notes)
    settings = build_settings(building, digest(document.tree.plain()), exists=document.exists)
    if problems.any():
        raise ConfigInvalid(problems.all(), files.signatures)
    return Loaded(settings, checked.config, locations, document, problems.tree, env)
