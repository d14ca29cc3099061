"""`env` and `secrets`: variables, and the providers of secret references."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from .fields import Count, PathText, Section, Text, setting


class EnvSection(Section):
    """Every key without a field is the name of a variable."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str] = Field(init=False)

    vars: dict[str, str] = setting(dict, secret=True)
    """Variables for `${NAME}`, used if the process does not have them. They can also be in `env`
    itself."""
    # Without effect, and not a variable.
    shell_env: Any = Field(None, json_schema_extra={"x-inert": True})


class SecretProvider(Section):
    source: Literal["env", "file", "exec"]
    """The kind of provider; `exec` cannot be used."""
    path: PathText | None = setting(None, machine="file")
    """The file of a provider `file`."""
    mode: Literal["json", "singleValue"] = "json"
    """`json`: the reference's `id` is a JSON pointer into the file; `singleValue`: the whole file
    is the secret."""
    max_bytes: Count = 1_048_576
    """The largest file that is read."""
    allowlist: list[Text] | None = None
    """The variables that a provider `env` may read. Left out: all."""


class SecretDefaults(Section):
    env: Text = "default"
    """The provider of references with source `env`."""
    file: Text = "default"
    """The provider of references with source `file`."""


class SecretsSection(Section):
    providers: dict[Text, SecretProvider] = setting(dict)
    """The providers of references, `{source, provider, id}`, by name. `default` reads variables
    unless it is defined here."""
    defaults: SecretDefaults = setting(SecretDefaults)
    """The default providers of references."""
