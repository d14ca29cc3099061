"""`env` and `secrets`: variables, and where references to secrets lead."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from .fields import Count, PathText, Section, Text, section, setting


class EnvSection(Section):
    """Besides its fields, every other key is the name of a variable."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str] = Field(init=False)

    vars: dict[str, str] = Field(
        default_factory=dict,
        description="Variables for `${NAME}`, used where the process has none of that name. "
        "They may as well stand in `env` itself.",
        json_schema_extra={"x-secret": True},
        repr=False,
    )
    # Without effect, and no variable although it stands among them.
    shell_env: Any = Field(None, json_schema_extra={"x-inert": True})


class SecretProvider(Section):
    source: Literal["env", "file", "exec"] = setting(
        ..., "What it reads; a secret of a provider `exec` cannot be used."
    )
    path: PathText | None = setting(None, "The file of a provider `file`.", machine="file")
    mode: Literal["json", "singleValue"] = setting(
        "json",
        "`json`: the reference's `id` is a JSON pointer into the file; `singleValue`: the whole "
        "file is the secret.",
    )
    max_bytes: Count = setting(1_048_576, "The largest file that is read.")
    allowlist: list[Text] | None = setting(
        None, "The variables that a provider `env` may read. Left out: all."
    )


class SecretDefaults(Section):
    env: Text = setting("default", "The provider of references with source `env`.")
    file: Text = setting("default", "The provider of references with source `file`.")


class SecretsSection(Section):
    providers: dict[Text, SecretProvider] = Field(
        default_factory=dict,
        description="Where references to secrets, `{source, provider, id}`, lead, by the names "
        "of providers. `default` reads variables unless it is defined here.",
    )
    defaults: SecretDefaults = section(
        SecretDefaults, "The providers of references that name none."
    )
