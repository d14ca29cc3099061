"""Rules for texts: characters that are unsafe in names and terminals, placeholders, and marks
for content from outside."""

from .placeholders import Kind, literal, names_variable, replaced
from .terminal import PieceCleaner, check_name, clean, escape_json, escape_line, unsafe_in_name
from .untrusted import untrusted

__all__ = [
    "Kind",
    "PieceCleaner",
    "check_name",
    "clean",
    "escape_json",
    "escape_line",
    "literal",
    "names_variable",
    "replaced",
    "unsafe_in_name",
    "untrusted",
]
