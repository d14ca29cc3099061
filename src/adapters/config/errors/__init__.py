"""Findings about a configuration: locations and messages."""

from .issues import (
    COMMAND_LINE,
    ENVIRONMENT,
    ConfigInvalid,
    Issue,
    KeyPath,
    Signature,
    bounded,
    dotted,
    render,
)
from .locations import (
    Locations,
    NoPlace,
    Overrides,
    absolute,
    first_set,
    home_directory,
    is_text,
    locate,
)
from .messages import TRUSTED_PROXY, guess, kind_of, listing, sentence
from .secret_texts import REDACTED, masked, sounds_secret

__all__ = [
    "COMMAND_LINE",
    "ENVIRONMENT",
    "REDACTED",
    "TRUSTED_PROXY",
    "ConfigInvalid",
    "Issue",
    "KeyPath",
    "Locations",
    "NoPlace",
    "Overrides",
    "Signature",
    "absolute",
    "bounded",
    "dotted",
    "first_set",
    "guess",
    "home_directory",
    "is_text",
    "kind_of",
    "listing",
    "locate",
    "masked",
    "render",
    "sentence",
    "sounds_secret",
]
