"""The models that there are and may be chosen, their prices, and the rules for writing."""

from __future__ import annotations

import json

import pytest

from opensoul.domain.errors import InvalidRequest, SendBlocked
from opensoul.domain.models.calls import Price
from opensoul.domain.models.directory import ModelDirectory
from opensoul.domain.sessions.keys import SessionKey
from opensoul.domain.sessions.policy import check_send

from .place import Place

PROVIDERS = """models: { providers: {
  acme: { baseUrl: "http://127.0.0.1:9/v1", models: [
    { id: "two", reasoning: true, contextWindow: 9000, input: ["text", "image"],
      cost: { input: 1.5, output: 6, cacheRead: 0.5 } },
    { id: "one" } ] },
  other: { baseUrl: "http://127.0.0.1:9/v1", api: "openai-responses", models: [{ id: "x" }] },
} }"""


def models(place: Place, agents: str = "{}", more: str = PROVIDERS) -> ModelDirectory:
    return place.load(f"{{ {more}, agents: {agents} }}").settings.models


def refs(directory: ModelDirectory) -> list[str]:
    return [target.ref for target in directory]


def test_every_model_that_a_provider_lists_is_there_and_every_agents(place: Place) -> None:
    directory = models(place, "{ list: [{ id: 'a', model: 'openai/gpt-5.2' }] }")
    assert refs(directory) == ["acme/one", "acme/two", "openai/gpt-5.2"]


def test_a_model_that_cannot_be_called_is_not_there(place: Place) -> None:
    assert models(place).get("other/x") is None


def test_a_model_knows_what_it_costs_and_what_it_reads(place: Place) -> None:
    two, one = models(place).get("acme/two"), models(place).get("acme/one")
    assert two is not None
    assert one is not None
    assert (two.price, two.inputs) == (Price(1.5, 6, 0.5), ("text", "image"))
    assert (two.reasoning, two.context_window) == (True, 9_000)
    assert (one.price.known, one.inputs) == (False, ("text",))


def test_without_a_list_of_models_every_one_can_be_chosen(place: Place) -> None:
    assert models(place).choose("acme/one").ref == "acme/one"


def test_a_list_of_models_and_the_agents_own_are_those_to_choose_from(place: Place) -> None:
    directory = models(
        place,
        """{ defaults: { model: "openai/gpt-5.2",
                         models: { "acme/one": { alias: "Quick" }, "openai/free": {} } } }""",
    )
    assert directory.choose(" QUICK ").ref == "acme/one"
    assert directory.choose("openai/free").ref == "openai/free"
    assert directory.choose("openai/gpt-5.2").ref == "openai/gpt-5.2"
    with pytest.raises(InvalidRequest, match=r"model not allowed: acme/two"):
        directory.choose("acme/two")


def test_an_alias_of_an_alias_stands_for_the_model(place: Place) -> None:
    directory = models(
        place,
        "{ defaults: { models: { 'acme/one': { alias: 'quick' }, quick: { alias: 'q' } } } }",
    )
    assert directory.choose("q").ref == "acme/one"


def test_a_listed_model_that_leads_nowhere_is_passed_over(place: Place) -> None:
    directory = models(place, "{ defaults: { models: { 'nobody/x': {}, 'other/x': {} } } }")
    assert "nobody/x" not in refs(directory)


def test_a_list_of_models_asks_for_no_key_of_a_provider_that_nobody_uses(place: Place) -> None:
    loaded = place.load(
        f"{{ {PROVIDERS}, agents: {{ defaults: {{ model: 'acme/one', "
        "models: { 'openai/gpt-5.2': {} } } } }"
    )
    assert not any("OPENAI_API_KEY" in note for note in loaded.settings.notes)


@pytest.mark.parametrize(
    ("policy", "allowed", "blocked"),
    [
        ("{}", ["main", "discord:group:dev"], []),
        ("{ default: 'deny' }", [], ["main"]),
        (
            "{ rules: [{ action: 'deny', match: { channel: 'discord', chatType: 'channel' } }] }",
            ["main", "discord:dm:me", "openai:group:dev"],
            ["discord:group:dev"],
        ),
        (
            "{ rules: [{ action: 'deny', match: { keyPrefix: 'cron:' } }] }",
            ["main"],
            ["cron:job-1"],
        ),
        (
            "{ default: 'deny', rules: [{ action: 'allow', match: { chatType: 'dm' } }] }",
            ["main"],
            ["x:group:y"],
        ),
        ("{ rules: [{ action: 'deny' }, { action: 'allow' }] }", [], ["main"]),
    ],
)
def test_the_send_policy_says_where_may_be_written(
    place: Place, policy: str, allowed: list[str], blocked: list[str]
) -> None:
    found = place.load(f"{{ session: {{ sendPolicy: {policy} }} }}").settings.sessions.send_policy
    for rest in allowed:
        check_send(SessionKey("main", rest), found)
    for rest in blocked:
        with pytest.raises(SendBlocked):
            check_send(SessionKey("main", rest), found)


def test_a_kind_of_conversation_that_there_is_not_is_an_error(place: Place) -> None:
    issue = place.issue(
        "{ session: { sendPolicy: { rules: [{ action: 'deny', match: { chatType: 'all' } }] } } }"
    )
    assert issue.path == "session.sendPolicy.rules.0.match.chatType"


def with_embeddings(*names: str, more: str = PROVIDERS) -> str:
    section = f"{{ enabled: true, models: {json.dumps(names)} }}"
    return f"{{ {more}, gateway: {{ http: {{ endpoints: {{ embeddings: {section} }} }} }} }}"


def test_embedding_models_need_not_be_listed_by_their_provider(place: Place) -> None:
    names = ("acme/embed", "acme/two", "openai/text-embedding-3-small", "acme/embed")
    settings = place.load(with_embeddings(*names)).settings
    unlisted, listed, built_in = settings.embedding_models

    assert (unlisted.ref, unlisted.provider.base_url) == ("acme/embed", "http://127.0.0.1:9/v1")
    assert (unlisted.price.known, listed.price.input) == (False, 1.5)
    assert (built_in.ref, built_in.provider.api) == (names[2], "openai-completions")
    assert settings.models.get("acme/embed") is None


def test_the_local_embedding_model_needs_no_provider(place: Place) -> None:
    text = with_embeddings("local/multilingual-e5-small")
    (local,) = place.load(text).settings.embedding_models
    assert (local.ref, local.provider.api) == ("local/multilingual-e5-small", "local")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none/x", "there is no provider `none`"),
        ("acme/", "has no model after the slash"),
        ("acme", "is neither `provider/model` nor an alias"),
        ("antropic/x", "did you mean `anthropic`"),
        ("other/x", "has no embeddings here"),
    ],
)
def test_a_wrong_embedding_model_is_reported_with_its_place(
    place: Place, name: str, says: str
) -> None:
    issue = place.issue(with_embeddings("acme/embed", name))
    assert issue.path == "gateway.http.endpoints.embeddings.models.1"
    assert says in issue.message


def test_without_an_embedding_model_there_is_a_note(place: Place) -> None:
    notes = place.load(with_embeddings()).settings.notes
    assert any("embeddings.models names no model" in note for note in notes)
