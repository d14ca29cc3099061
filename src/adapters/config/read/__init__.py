"""Reads files into validated values: JSON5, includes, variables, secrets."""

from .context import Building, Inputs, absolute_path
from .documents import (
    Files,
    Node,
    Unreadable,
    canonical,
    parse,
    same,
    signature_of,
    value_at,
)
from .environment import effective_environment
from .includes import INCLUDE, Includer
from .keys import nearest
from .problems import Problems
from .resolving import resolved
from .scanning import Span, replace_spans, spans
from .secret_refs import SecretRefs, providers_of
from .validation import cleaned, validate

__all__ = [
    "INCLUDE",
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
    "effective_environment",
    "nearest",
    "parse",
    "providers_of",
    "replace_spans",
    "resolved",
    "same",
    "signature_of",
    "spans",
    "validate",
    "value_at",
]
