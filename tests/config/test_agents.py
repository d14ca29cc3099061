"""Agents, their models and providers, as configuration makes them."""

from __future__ import annotations

import pytest

from opensoul.domain.agents import PromptSettings, RunLimits
from opensoul.domain.models.calls import Compat, Secret

from .place import Place, agent, refs


def test_an_empty_list_means_one_agent_main_with_the_defaults(place: Place) -> None:
    loaded = place.load("{ agents: { defaults: { instructions: ' Be brief. ' }, list: [] } }")
    main = agent(loaded)
    assert loaded.settings.agents.default is main
    assert (main.name, main.instructions, main.runner) == ("main", "Be brief.", "native")
    assert (main.timeout, main.workspace) == (600, str(place.state / "workspace"))
    assert refs(loaded) == ["openai/gpt-5.2"]


def test_the_marked_agent_is_the_default_else_the_first(place: Place) -> None:
    loaded = place.load('{ agents: { list: [{ id: "a" }, { id: "B", default: true }] } }')
    assert loaded.settings.agents.default.id == "b"
    loaded = place.load('{ agents: { list: [{ id: "a" }, { id: "b" }] } }')
    assert loaded.settings.agents.default.id == "a"


def test_two_marked_agents_are_noted_and_the_first_wins(place: Place) -> None:
    loaded = place.load(
        '{ agents: { list: [{ id: "a", default: true }, { id: "b", default: true }] } }'
    )
    assert loaded.settings.agents.default.id == "a"
    assert any("(a, b); `a` is used" in note for note in loaded.settings.notes)


@pytest.mark.parametrize("agent_id", ["", " a", "-a", "a b", "a/b", "ä", "a" * 65, "a\\n"])
def test_an_id_outside_the_grammar_is_an_error(place: Place, agent_id: str) -> None:
    issue = place.issue(f'{{ agents: {{ list: [{{ id: "{agent_id}" }}] }} }}')
    assert issue.path == "agents.list.0.id"


def test_two_agents_of_one_id_are_an_error(place: Place) -> None:
    issue = place.issue('{ agents: { list: [{ id: "a" },\n { id: "A" }] } }')
    assert (issue.path, issue.line) == ("agents.list.1.id", 2)
    assert "agents.list.0 has the same id, `a`" in issue.message


def test_identity_and_instructions_make_up_what_an_agent_is_reported(place: Place) -> None:
    loaded = place.load(
        """{ agents: { defaults: { instructions: "Default." }, list: [
             { id: "a", identity: { name: "Molty", theme: "a helpful owl" } },
             { id: "b", name: "Bee", identity: { name: "Molty" }, instructions: "Own." },
             { id: "c", instructions: "" },
             { id: "d", identity: { theme: "owl" }, instructions: "Own." } ] } }"""
    )
    assert agent(loaded, "a").instructions == (
        "You are Molty. Your theme: a helpful owl.\n\nDefault."
    )
    assert agent(loaded, "a").name == "Molty"
    assert agent(loaded, "b").instructions == "You are Molty.\n\nOwn."
    assert agent(loaded, "b").name == "Bee"
    assert agent(loaded, "c").instructions == ""
    assert agent(loaded, "d").instructions == "Your theme: owl.\n\nOwn."


def test_each_agent_has_a_workspace(place: Place) -> None:
    loaded = place.load(
        """{ agents: { defaults: { workspace: "~/shared" }, list: [
             { id: "a" }, { id: "b", default: true }, { id: "c", workspace: "own/c" } ] } }"""
    )
    assert agent(loaded, "a").workspace == str(place.state / "workspace-a")
    assert agent(loaded, "b").workspace == str(place.home / "shared")
    assert agent(loaded, "c").workspace == str(place.state / "own" / "c")


def test_zero_seconds_mean_no_limit(place: Place) -> None:
    loaded = place.load(
        """{ agents: { defaults: { timeoutSeconds: 0 },
                       list: [{ id: "a" }, { id: "b", timeoutSeconds: 1.5 }] } }"""
    )
    assert (agent(loaded, "a").timeout, agent(loaded, "b").timeout) == (None, 1.5)
    loaded = place.load('{ agents: { list: [{ id: "a", timeoutSeconds: 0 }] } }')
    assert agent(loaded, "a").timeout is None


def test_own_models_and_fallbacks_replace_the_defaults_each_for_itself(place: Place) -> None:
    loaded = place.load(
        """{ agents: { defaults: { model: { primary: "openai/p", fallbacks: ["openai/f"] } },
             list: [ { id: "a" },
                     { id: "b", model: "openai/own" },
                     { id: "c", model: { primary: "openai/own", fallbacks: [] } },
                     { id: "d", model: { fallbacks: ["openai/own", "openai/p", "openai/own"] } },
                     { id: "e", model: { primary: "openai/f" } } ] } }"""
    )
    assert refs(loaded, "a") == ["openai/p", "openai/f"]
    assert refs(loaded, "b") == ["openai/own", "openai/f"]
    assert refs(loaded, "c") == ["openai/own"]
    assert refs(loaded, "d") == ["openai/p", "openai/own"]
    assert refs(loaded, "e") == ["openai/f"]


def test_a_plain_string_is_a_model_for_the_defaults_too(place: Place) -> None:
    assert refs(place.load("{ agents: { defaults: { model: 'openai/x/y' } } }")) == ["openai/x/y"]


def test_aliases_stand_for_models_whatever_their_case(place: Place) -> None:
    loaded = place.load(
        """{ agents: { defaults: { model: { primary: "FAST", fallbacks: ["chain", "gpt"] },
             models: { "openai/x": { alias: "Fast" }, fast: { alias: "chain" },
                       "openai/gpt-5.2": {}, "openai/gpt-5-mini": { alias: "mini" } } } } }"""
    )
    assert refs(loaded) == ["openai/x", "openai/gpt-5.2"]


def test_an_alias_in_use_keeps_its_meaning(place: Place) -> None:
    loaded = place.load(
        """{ agents: { defaults: { model: "gpt",
             models: { "openai/gpt-5.2": {}, "openai/x": { alias: "gpt" } } } } }"""
    )
    assert refs(loaded) == ["openai/x"]


@pytest.mark.parametrize(
    ("models", "path", "message"),
    [
        ("{ a: { alias: 'b' }, b: { alias: 'a' } }", "a", "is part of a cycle: a -> b -> a"),
        ("{ a: { alias: 'a' } }", "a", "is part of a cycle: a -> a"),
        ("{ nope: {} }", "nope", "neither `provider/model` nor an alias. Aliases: none"),
    ],
)
def test_aliases_that_lead_nowhere_are_errors(
    place: Place, models: str, path: str, message: str
) -> None:
    issues = place.messages(f"{{ agents: {{ defaults: {{ models: {models} }} }} }}")
    assert message in issues[f"agents.defaults.models.{path}"]


def test_one_alias_for_two_models_is_an_error(place: Place) -> None:
    issue = place.issue(
        """{ agents: { defaults: { models: {
             "openai/a": { alias: "x" }, "openai/b": { alias: "X" } } } } }"""
    )
    assert issue.path == "agents.defaults.models.openai/b.alias"
    assert issue.message == "`openai/a` has the same alias"


def test_an_alias_with_a_slash_is_an_error(place: Place) -> None:
    issue = place.issue("{ agents: { defaults: { models: { 'openai/a': { alias: 'a/b' } } } } }")
    assert issue.message == "an alias must not contain a slash"


def test_an_unknown_alias_is_an_error_with_the_nearest(place: Place) -> None:
    issue = place.issue(
        """{ agents: { defaults: { models: { "openai/a": { alias: "fast" } } },
             list: [{ id: "a", model: { primary: "openai/a", fallbacks: ["fats"] } }] } }"""
    )
    assert issue.path == "agents.list.0.model.fallbacks.0"
    assert "did you mean `fast`? Aliases: fast" in issue.message


def test_broken_aliases_are_not_blamed_on_the_agents(place: Place) -> None:
    issue = place.issue(
        """{ agents: { defaults: { models: { "openai/a": { alias: 5 } } },
             list: [{ id: "a", model: "fast" }] } }"""
    )
    assert issue.path == "agents.defaults.models.openai/a.alias"


PROVIDER = """{ models: { providers: { %s } }, agents: { defaults: { model: "%s" } } }"""


def test_an_unknown_provider_is_an_error_with_the_nearest(place: Place) -> None:
    issue = place.issue("{ agents: { list: [{ id: 'a', model: 'opena/x' }] } }")
    assert issue.message.startswith("there is no provider `opena`; did you mean `openai`? Prov")
    assert "anthropic, " in issue.message


def test_a_model_that_its_provider_does_not_list_is_an_error(place: Place) -> None:
    listed = 'p: { baseUrl: "http://h", models: [{ id: "one" }, { id: "two" }] }'
    issue = place.issue(PROVIDER % (listed, "p/on"))
    assert issue.path == "agents.defaults.model"
    assert issue.message == (
        "the provider `p` has no model `on`; did you mean `one`? Its models: one, two"
    )


def test_a_reference_without_a_model_is_an_error(place: Place) -> None:
    issue = place.issue("{ agents: { defaults: { model: 'openai/' } } }")
    assert issue.message == "has no model after the slash"


def test_one_fault_of_the_defaults_is_reported_once_for_all_agents(place: Place) -> None:
    issue = place.issue(
        """{ agents: { defaults: { model: { fallbacks: ["nope/x"] } },
             list: [{ id: "a" }, { id: "b" }] } }"""
    )
    assert issue.path == "agents.defaults.model.fallbacks.0"


def test_a_broken_provider_is_not_blamed_on_the_agents(place: Place) -> None:
    issue = place.issue(PROVIDER % ('p: { baseUrl: "http://h", models: [{}] }', "p/x"))
    assert issue.path == "models.providers.p.models.0.id"


def test_a_provider_needs_a_url_unless_its_api_has_none(place: Place) -> None:
    issue = place.issue(
        "{ models: { providers: { p: {}, l: {api: 'local'}, s: {api: 'scripted'} } } }"
    )
    assert issue.path == "models.providers.p.baseUrl"
    assert "is required" in issue.message


@pytest.mark.parametrize(
    "url",
    [
        *("", "ftp://h", "http://", "h:80", "http://u:p@h", "http://h#x", "http://h:99999"),
        *("http://h/ x", "http://[::1", "http://h\\n"),
    ],
)
def test_a_url_that_is_none_is_an_error(place: Place, url: str) -> None:
    issue = place.issue(f"{{ models: {{ providers: {{ p: {{ baseUrl: '{url}' }} }} }} }}")
    assert issue.path == "models.providers.p.baseUrl"
    assert issue.message.startswith("must be an http:// or https:// URL")


def test_a_provider_id_has_no_slash(place: Place) -> None:
    issue = place.issue("{ models: { providers: { 'a/b': { baseUrl: 'http://h' } } } }")
    assert issue.path == "models.providers.a/b"


def test_two_models_of_one_id_are_an_error(place: Place) -> None:
    issue = place.issue("{ models: { providers: { openai: { models: [{id: 'a'}, {id: 'a'}] } } } }")
    assert issue.path == "models.providers.openai.models.1.id"


@pytest.mark.parametrize(
    "headers", ["{ 'a b': 'x' }", "{ '': 'x' }", "{ a: 'x\\ny' }", "{ a: 5 }", "[]"]
)
def test_headers_that_cannot_be_sent_are_errors(place: Place, headers: str) -> None:
    issue = place.issue(f"{{ models: {{ providers: {{ openai: {{ headers: {headers} }} }} }} }}")
    assert issue.path.startswith("models.providers.openai.headers")


def test_everything_about_a_model_reaches_the_target(place: Place) -> None:
    loaded = place.load(
        """{ models: { providers: { p: {
               baseUrl: "https://host/v1/", apiKey: "key", authHeader: false,
               headers: { "X-A": "1", "X-B": "2" },
               connectTimeoutSeconds: 1, idleTimeoutSeconds: 2.5, maxAnswerBytes: 9,
               models: [{ id: "m", name: "M", api: "scripted", reasoning: true,
                 contextWindow: 1000, maxTokens: 100, headers: { "x-b": "3" },
                 params: { temperature: 1, top_p: 0.5 }, file: "m.gguf",
                 compat: { supportsStore: false, supportsDeveloperRole: false,
                   supportsReasoningEffort: false, supportsUsageInStreaming: false,
                   maxTokensField: "max_tokens" } }] } } },
             agents: { defaults: { model: "m", contextTokens: 2000,
               models: { "p/m": { alias: "m", params: { temperature: 0 } } } } } }"""
    )
    (target,) = agent(loaded).models
    assert target.ref == "p/m"
    assert (target.context_window, target.max_tokens, target.reasoning) == (1000, 100, True)
    assert dict(target.params) == {"temperature": 0, "top_p": 0.5}
    assert target.file == str(place.state / "m.gguf")
    assert target.compat == Compat(False, False, False, False, "max_tokens")
    provider = target.provider
    assert (provider.id, provider.api, provider.base_url) == ("p", "scripted", "https://host/v1")
    assert (provider.api_key, provider.auth_header) == (Secret("key"), False)
    assert provider.headers == (("X-A", Secret("1")), ("x-b", Secret("3")))
    assert (provider.connect_timeout, provider.idle_timeout) == (1, 2.5)
    assert provider.max_answer_bytes == 9


THINKERS = """{
  models: { providers: { p: { baseUrl: "http://h", models: [
    { id: "a", reasoning: true },
    { id: "b", reasoning: true, params: { reasoning_effort: "low" } },
    { id: "c" },
  ] } } },
  agents: {
    defaults: { model: { primary: "p/a", fallbacks: ["p/b", "p/c"] }, thinkingDefault: "medium" },
    list: [{ id: "main" }, { id: "deep", thinkingDefault: "max" },
           { id: "quick", thinkingDefault: "off" }, { id: "odd", thinkingDefault: "very" }],
  },
}"""


@pytest.mark.parametrize(
    ("agent_id", "level"), [("main", "medium"), ("deep", "high"), ("quick", None), ("odd", None)]
)
def test_models_that_reason_think_as_much_as_their_agent_says(
    place: Place, agent_id: str, level: str | None
) -> None:
    settings = place.load(THINKERS).settings
    (agent,) = (one for one in settings.agents if one.id == agent_id)

    efforts = [dict(target.params).get("reasoning_effort") for target in agent.models]
    assert efforts == [level, "low", None]


def test_an_unknown_level_of_thinking_is_a_note(place: Place) -> None:
    (note,) = place.load(THINKERS).settings.notes
    assert note.startswith("agents.list.3.thinkingDefault `very` has no effect")


def test_windows_are_capped_and_answers_fit_into_them(place: Place) -> None:
    loaded = place.load("{ agents: { defaults: { contextTokens: 4000 } } }")
    (target,) = agent(loaded).models
    assert (target.context_window, target.max_tokens) == (4000, 4000)
    (target,) = agent(place.load("{}")).models
    assert (target.context_window, target.max_tokens) == (200_000, 8192)


def test_the_built_in_provider_takes_its_key_from_the_environment(place: Place) -> None:
    place.env["OPENAI_API_KEY"] = "env-key"
    loaded = place.load("{}")
    provider = agent(loaded).models[0].provider
    assert (provider.api, provider.base_url) == ("openai-completions", "https://api.openai.com/v1")
    assert provider.api_key == Secret("env-key")
    assert loaded.settings.notes == ()
    loaded = place.load('{ models: { providers: { openai: { apiKey: "own" } } } }')
    assert agent(loaded).models[0].provider.api_key == Secret("own")


def test_a_missing_key_of_the_built_in_provider_is_a_note(place: Place) -> None:
    (note,) = place.load("{}").settings.notes
    assert "OPENAI_API_KEY" in note
    scripted = PROVIDER % ('demo: { api: "scripted" }', "demo/echo")
    assert place.load(scripted).settings.notes == ()


def test_mode_replace_leaves_the_built_in_provider_out(place: Place) -> None:
    issue = place.issue("{ models: { mode: 'replace' } }")
    assert issue.path == "agents.defaults.model.primary"
    assert issue.message == "there is no provider `openai`. Providers: none"


@pytest.mark.parametrize(
    ("api", "instead"),
    [
        ("ollama", "use `openai-completions`, which Ollama answers below `/v1`"),
        ("openai-responses", "use `openai-completions`, which the same providers mostly answer"),
        ("next-years-api", "use one of these: openai-completions, anthropic-messages, local, "),
    ],
)
def test_an_api_that_is_not_available_is_noted_and_refused_for_agents(
    place: Place, api: str, instead: str
) -> None:
    place.env["OPENAI_API_KEY"] = "k"
    other = f'p: {{ baseUrl: "http://h", api: "{api}" }}'
    (note,) = place.load(PROVIDER % (other, "openai/x")).settings.notes
    assert note.startswith(
        f"models.providers.p has the api `{api}`, which is not available here; {instead}"
    )
    issue = place.issue(PROVIDER % (other, "p/x"))
    assert f"`p/x` is served by the api `{api}`" in issue.message
    assert instead in issue.message


def test_a_misspelt_api_is_an_error(place: Place) -> None:
    place.env["OPENAI_API_KEY"] = "k"
    issue = place.issue(
        PROVIDER % ('p: { baseUrl: "http://h", api: "openai-completion" }', "openai/x")
    )
    assert issue.path == "models.providers.p.api"
    assert issue.message.endswith("did you mean `openai-completions`?")


@pytest.mark.parametrize(
    ("model", "variable", "base_url"),
    [
        ("anthropic/claude-opus-4-6", "ANTHROPIC_API_KEY", "https://api.anthropic.com/v1"),
        ("openrouter/auto", "OPENROUTER_API_KEY", "https://openrouter.ai/api/v1"),
        ("google/gemini-3-flash-preview", "GOOGLE_API_KEY", "https://generativelanguage."),
    ],
)
def test_a_built_in_provider_needs_its_variable_only(
    place: Place, model: str, variable: str, base_url: str
) -> None:
    text = f"{{ agents: {{ defaults: {{ model: '{model}' }} }} }}"
    (note,) = place.load(text).settings.notes
    assert note.startswith(f"There is no API key for the provider `{model.partition('/')[0]}`")
    place.env[variable] = "the-key"
    loaded = place.load(text)
    assert loaded.settings.notes == ()
    (target,) = agent(loaded).models
    assert target.provider.base_url.startswith(base_url)
    assert target.provider.api_key is not None
    assert target.provider.api_key.reveal() == "the-key"


def test_ollama_needs_no_key(place: Place) -> None:
    loaded = place.load("{ agents: { defaults: { model: 'ollama/llama3.2' } } }")
    assert loaded.settings.notes == ()
    assert agent(loaded).models[0].provider.base_url == "http://127.0.0.1:11434/v1"


def test_a_runner_that_is_not_there_is_an_error(place: Place) -> None:
    text = "{ agents: { list: [{ id: 'a', runner: 'natve' }] } }"
    assert agent(place.load(text), "a").runner == "natve"
    place.runners = frozenset({"native", "other"})
    issue = place.issue(text)
    assert issue.message == (
        "there is no runner `natve`; did you mean `native`? Runners: native, other"
    )


AVATAR = '{ agents: { list: [{ id: "a", identity: { avatar: "%s" } }] } }'


@pytest.mark.parametrize("avatar", ["/etc/x.png", "../x.png", "a/../../x", "~/x", "C:\\\\..\\\\x"])
def test_an_avatar_outside_the_workspace_is_an_error(place: Place, avatar: str) -> None:
    assert place.issue(AVATAR % avatar).path == "agents.list.0.identity.avatar"


@pytest.mark.parametrize("avatar", ["https://h/x.png", "data:image/png;base64,AA", "pics/x.png"])
def test_an_avatar_may_be_a_url_or_in_the_workspace(place: Place, avatar: str) -> None:
    place.load(AVATAR % avatar)


def test_an_agent_replaces_single_limits_of_the_defaults(place: Place) -> None:
    loaded = place.load(
        "{ agents: { defaults: { limits: { maxSteps: 7, maxOutputTokens: 1000, maxCost: 1 } },"
        ' list: [{ id: "a" },'
        ' { id: "b", limits: { maxSteps: 3, maxToolCalls: 9, maxSeconds: 2.5, maxCost: 0.5 } }] } }'
    )

    agents = loaded.settings.agents
    assert agents.find("a", param="").limits == RunLimits(steps=7, output_tokens=1000, cost=1)
    assert agents.find("b", param="").limits == RunLimits(3, 9, 1000, 2.5, 0.5)


def test_without_limits_an_agent_has_those_of_the_documentation(place: Place) -> None:
    limits = agent(place.load("{}")).limits

    assert limits == RunLimits(steps=50, tool_calls=200)


@pytest.mark.parametrize(
    "limit", ["maxSteps: 0", "maxToolCalls: 0", "maxSeconds: 0", "maxCost: 0", "maxSteps: '5'"]
)
def test_a_limit_that_allows_nothing_is_an_error(place: Place, limit: str) -> None:
    issue = place.issue(f"{{ agents: {{ defaults: {{ limits: {{ {limit} }} }} }} }}")

    assert issue.path == f"agents.defaults.limits.{limit.split(':')[0]}"


def test_a_misspelled_limit_is_an_error(place: Place) -> None:
    assert "maxStep" in place.issue("{ agents: { defaults: { limits: { maxStep: 5 } } } }").path


def test_what_system_prompts_contain_is_configured(place: Place) -> None:
    loaded = place.load(
        """{ agents: {
             defaults: { bootstrapMaxChars: 9, bootstrapTotalMaxChars: 10, skills: ["pdf"],
                         userTimezone: "Asia/Tokyo" },
             list: [{ id: "a" }, { id: "b", skills: [] }, { id: "c", skills: ["mail"] }] } }"""
    )
    assert agent(loaded, "a").prompt == PromptSettings(9, 10, ("pdf",), "Asia/Tokyo")
    assert agent(loaded, "b").prompt == PromptSettings(9, 10, (), "Asia/Tokyo")
    assert agent(loaded, "c").prompt == PromptSettings(9, 10, ("mail",), "Asia/Tokyo")
    assert agent(place.load("{}")).prompt == PromptSettings(20_000, 60_000, None, "")


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", "/etc/localtime", "Europe"])
def test_an_unknown_time_zone_is_noted_and_has_no_effect(place: Place, zone: str) -> None:
    loaded = place.load(f'{{ agents: {{ defaults: {{ userTimezone: "{zone}" }} }} }}')
    note = f"agents.defaults.userTimezone `{zone}` has no effect: there is no such time zone."

    assert agent(loaded).prompt.time_zone == ""
    assert note in loaded.settings.notes


@pytest.mark.parametrize("key", ["bootstrapMaxChars", "bootstrapTotalMaxChars"])
def test_a_limit_of_a_prompt_is_at_least_one_character(place: Place, key: str) -> None:
    issue = place.issue(f"{{ agents: {{ defaults: {{ {key}: 0 }} }} }}")

    assert issue.path == f"agents.defaults.{key}"


def test_an_interpreter_of_a_python_agent_starts_at_the_file_and_needs_a_process(
    place: Place,
) -> None:
    runner = 'use: "python", target: "a:b", python: "./.venv/bin/python"'
    text = "{ agents: { list: [{ id: 'x', runner: { %s } }] } }"

    python = agent(place.load(text % f'{runner}, isolation: "process"'), "x").python
    issue = place.issue(text % runner)

    assert python is not None
    assert python.python == str(place.file.parent / ".venv/bin/python")
    assert issue.path == "agents.list.0.runner.python"
    assert 'needs `isolation: "process"`' in issue.message
