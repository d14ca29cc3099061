"""A home directory with configuration files in it, for one test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from opensoul.adapters.config import ConfigInvalid, Inputs, Issue, Loaded, Overrides, load
from opensoul.domain.agents import Agent

GENERATED = "generated-secret"
EVERYWHERE = ("0.0.0.0",)  # noqa: S104 - what settings say; nothing listens in these tests


@dataclass
class Place:
    """`tokens_made` remembers for which state directories a token was asked for."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)
    overrides: Overrides = field(default_factory=Overrides)
    tailnet: str | None = None
    runners: frozenset[str] | None = None
    tokens_made: list[Path] = field(default_factory=list)
    generated: str = GENERATED
    refusal: OSError | None = None
    """Raised instead of making a token."""

    @property
    def state(self) -> Path:
        return self.home / ".opensoul"

    @property
    def file(self) -> Path:
        return self.state / "opensoul.json"

    def write(self, text: str, name: str = "opensoul.json") -> Path:
        path = self.state / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def inputs(self, env: Mapping[str, str] | None = None) -> Inputs:
        def make_token(state_dir: Path) -> str:
            if self.refusal is not None:
                raise self.refusal
            self.tokens_made.append(state_dir)
            return self.generated

        return Inputs(
            env=self.env if env is None else env,
            home=self.home,
            overrides=self.overrides,
            generated_token=make_token,
            tailnet_address=lambda: self.tailnet,
            runners=self.runners,
        )

    def load(self, text: str | None = None) -> Loaded:
        if text is not None:
            self.write(text)
        return load(self.inputs())

    def issues(self, text: str | None = None) -> tuple[Issue, ...]:
        """What is wrong with the configuration, which has to be invalid."""
        with pytest.raises(ConfigInvalid) as caught:
            self.load(text)
        return caught.value.issues

    def issue(self, text: str | None = None) -> Issue:
        """The one thing that is wrong with the configuration."""
        (only,) = self.issues(text)
        return only

    def messages(self, text: str) -> dict[str, str]:
        """What is wrong, by dotted path."""
        return {issue.path: issue.message for issue in self.issues(text)}


def agent(loaded: Loaded, agent_id: str = "main") -> Agent:
    """The agent of that id, which has to be there."""
    found = loaded.settings.agents.get(agent_id)
    assert found is not None
    return found


def refs(loaded: Loaded, agent_id: str = "main") -> list[str]:
    """The models of an agent, in order."""
    return [target.ref for target in agent(loaded, agent_id).models]
