"""Substitutes variables and secrets, as the schema says for each text; keys without effect stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ....domain.text import Kind
from ..errors import KeyPath
from ..schema import INERT, Root, StarPath
from ..schema.walk import Shape, below, mark
from .documents import Node
from .environment import Report, with_variables
from .secret_refs import SecretRefs


@dataclass(frozen=True, slots=True)
class _Place:
    """The place and the kind of a value. `shape`: None outside the schema."""

    path: KeyPath
    stars: StarPath
    shape: Shape | None
    kind: Kind = Kind.SETTING
    secret: bool = False

    def below(self, key: str | int) -> _Place:
        """The place of a member or an element."""
        shape, field = None, None
        if self.shape is not None:
            shape, field = below(self.shape, key) or (None, None)
        many = self.shape is not None and self.shape.kind in ("record", "list")
        star = "*" if many else str(key)
        kind, secret = self.kind, self.secret
        if field is not None and mark(field, "x-secret"):
            secret = True
            kind = Kind.SECRET if shape is not None and shape.kind == "scalar" else kind
        elif (field is not None and mark(field, "x-text")) or (
            shape is not None and shape.kind == "anything"
        ):
            kind = Kind.TEXT
        return _Place((*self.path, key), (*self.stars, star), shape, kind, secret)

    @property
    def has_effect(self) -> bool:
        # Parameters of a model have any shape, and all their strings are free text.
        known = self.shape is not None or self.kind is Kind.TEXT
        return known and self.stars not in INERT


def resolved(root: Node, env: Mapping[str, str], secrets: SecretRefs, report: Report) -> Node:
    """The tree with variables and secrets. Those not found are reported, and stay as written."""
    whole = _Place((), (), Shape("object", model=Root))
    return _Resolver(env, secrets, report).node(root, whole)


@dataclass(frozen=True, slots=True)
class _Resolver:
    env: Mapping[str, str]
    secrets: SecretRefs
    report: Report

    def node(self, node: Node, place: _Place) -> Node:
        match node.value:
            case dict() if self._is_reference(node.value, place):
                text = self.secrets.value(node, place.path, self.report)
                return node if text is None else Node(text, node.file, node.path)
            case dict():
                members = {
                    key: self._member(item, place.below(key)) for key, item in node.value.items()
                }
                return Node(members, node.file, node.path)
            case list():
                items = [self.node(item, place.below(i)) for i, item in enumerate(node.value)]
                return Node(items, node.file, node.path)
            case str():
                text = with_variables(
                    node.value,
                    place.kind,
                    self.env,
                    place.path,
                    self.report,
                    secret=place.secret,
                )
                written = None if text == node.value else node.value
                return Node(text, node.file, node.path, written=written)
            case _:
                return node

    def _member(self, node: Node, place: _Place) -> Node:
        # The `env` block was resolved when its variables were collected.
        if place.path == ("env",) or not place.has_effect:
            return node
        return self.node(node, place)

    def _is_reference(self, members: Mapping[str, Node], place: _Place) -> bool:
        """Whether it is an object in place of a secret string."""
        scalar = place.shape is not None and place.shape.kind == "scalar"
        return place.secret and scalar and "source" in members
