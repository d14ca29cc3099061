"""Reads files into validated values: JSON5, includes, variables, secrets."""

from .context import Building, Inputs, absolute_path
from .documents import (
    Files,
    Node,
    Unreadable,
    canonical,
    members,
    parse,
    same,
    signature_of,
    starred,
    value_at,
)
from .environment import effective_environment
from .includes import INCLUDE, Includer
from .keys import nearest
from .problems import Problems
from .resolving import resolved
from .scanning import TOKEN, Span, decoded_key, replace_spans, spans
from .secret_refs import SecretRefs, providers_of
from .validation import cleaned, validate

__all__ = [
    "INCLUDE",
    "TOKEN",
    "Building",
    "Files",
    "Includer",
    "Inputs",
    "Node",
    "Problems",
    "SecretRefs",
    "Span",
    "Unreadable",
    "absolute_path",
    "canonical",
    "cleaned",
    "decoded_key",
    "effective_environment",
    "members",
    "nearest",
    "parse",
    "providers_of",
    "replace_spans",
    "resolved",
    "same",
    "signature_of",
    "spans",
    "starred",
    "validate",
    "value_at",
]
