"""Substitutes variables and secrets by the kind of each text; keys without effect stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ....domain.text import Kind
from ..schema import ROOT, Place
from .documents import Node
from .environment import Report, with_variables
from .secret_refs import SecretRefs


def resolved(root: Node, env: Mapping[str, str], secrets: SecretRefs, report: Report) -> Node:
    """The tree with variables and secrets. Those not found are reported, and stay as written."""
    return _Resolver(env, secrets, report).node(root, ROOT, Kind.SETTING, secret=False)


@dataclass(frozen=True, slots=True)
class _Resolver:
    env: Mapping[str, str]
    secrets: SecretRefs
    report: Report

    def node(self, node: Node, place: Place, kind: Kind, *, secret: bool) -> Node:
        """The node resolved; its members inherit `kind` and `secret` unless marked otherwise."""
        scalar = place.shape is not None and place.shape.kind == "scalar"
        if place.marked("x-secret"):
            secret = True
            kind = Kind.SECRET if scalar else kind
        elif place.marked("x-text") or (place.shape and place.shape.kind == "anything"):
            kind = Kind.TEXT
        # Parameters of a model have any shape, and all their strings are free text. The `env` block
        # was resolved when its variables were collected.
        if place.path == ("env",) or (place.shape is None and kind is not Kind.TEXT):
            return node
        match node.value:
            case dict() if secret and scalar and "source" in node.value:
                text = self.secrets.value(node, place.path, self.report)
                return node if text is None else Node(text, node.file, node.path)
            case dict():
                members = {
                    key: self.node(item, place.below(key), kind, secret=secret)
                    for key, item in node.value.items()
                }
                return Node(members, node.file, node.path)
            case list():
                items = [
                    self.node(item, place.below(i), kind, secret=secret)
                    for i, item in enumerate(node.value)
                ]
                return Node(items, node.file, node.path)
            case str():
                text = with_variables(
                    node.value, kind, self.env, place.path, self.report, secret=secret
                )
                written = None if text == node.value else node.value
                return Node(text, node.file, node.path, written=written)
            case _:
                return node
