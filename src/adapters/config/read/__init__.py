"""From files to validated values: JSON5, includes, variables, secrets."""

from .context import Building, Inputs, absolute_path
from .documents import Files, Node, Unreadable, parse, signature_of
from .environment import effective_environment
from .includes import INCLUDE, Includer
from .keys import nearest
from .merging import canonical, effective, foreign, merged, same
from .partners import Views, partners, value_at
from .problems import Problems
from .resolving import resolved
from .secret_refs import SecretRefs, providers_of
from .spans import Span, exchanged, spans
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
    "Views",
    "absolute_path",
    "canonical",
    "cleaned",
    "effective",
    "effective_environment",
    "exchanged",
    "foreign",
    "merged",
    "nearest",
    "parse",
    "partners",
    "providers_of",
    "resolved",
    "same",
    "signature_of",
    "spans",
    "validate",
    "value_at",
]
