"""Which agent a request means."""

from __future__ import annotations

import pytest

from opensoul.domain.agents import AgentDirectory
from opensoul.domain.errors import UnknownAgent
from tests.fakes.domain import agent


@pytest.fixture
def directory() -> AgentDirectory:
    return AgentDirectory([agent("main"), agent("beta")], "main")


@pytest.mark.parametrize(
    "model",
    [
        "opensoul:beta",
        "opensoul/beta",
        "openclaw:beta",
        "openclaw/beta",
        "agent:beta",
        "beta",
        "BETA",
        "OpenSoul:Beta",
        "  opensoul/beta ",
        "opensoul: beta",
    ],
)
def test_every_spelling_of_an_agent_is_understood(directory: AgentDirectory, model: str) -> None:
    found = directory.named_by_model(model)

    assert found is not None
    assert found.id == "beta"


@pytest.mark.parametrize(
    "model",
    [
        "",
        " ",
        "opensoul",
        "openclaw",
        "OpenSoul",
        "opensoul/default",
        "opensoul:default",
        "openclaw/default",
        "openclaw:default",
    ],
)
def test_the_product_alone_names_no_agent(directory: AgentDirectory, model: str) -> None:
    assert directory.named_by_model(model) is None


@pytest.mark.parametrize(
    "model", ["gpt-4", "opensoul:", "opensoul/nobody", "agent:", "agent/beta", "opensoul:beta:x"]
)
def test_an_unknown_agent_is_refused_naming_the_field_and_what_there_is(
    directory: AgentDirectory, model: str
) -> None:
    with pytest.raises(UnknownAgent, match=r"Agents: beta, main\.") as refused:
        directory.named_by_model(model)

    assert refused.value.param == "model"
    assert refused.value.code == "model_not_found"


def test_an_agent_is_found_whatever_the_case(directory: AgentDirectory) -> None:
    assert directory.find(" Beta ", param="x").id == "beta"
    assert directory.get("gamma") is None


def test_the_directory_lists_its_agents_in_their_order(directory: AgentDirectory) -> None:
    assert [found.id for found in directory] == ["main", "beta"]
    assert len(directory) == 2
    assert directory.default.id == "main"


def test_two_agents_of_one_id_are_refused() -> None:
    with pytest.raises(ValueError, match="two agents have the id 'main'"):
        AgentDirectory([agent("main"), agent("main")], "main")


def test_a_default_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="'main' is not configured"):
        AgentDirectory([agent("beta")], "main")
