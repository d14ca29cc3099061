"""JSON5, `$include` and variables: what becomes of the text of configuration files."""

from __future__ import annotations

from pathlib import Path

import pytest

from .place import EVERYWHERE, Place, agent


def test_json5_is_understood(place: Place) -> None:
    loaded = place.load(
        """
        // comment
        { gateway: { port: 0x1F90, /* here too */ 'bind': "lan", }, }
        """
    )
    assert loaded.settings.listen.port == 8080


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("{\n  gateway: {\n    port 1\n  }\n}", 3, "is not valid JSON5: expected a colon here"),
        ("{\n a: 1\n b: 2 }", 3, "is not valid JSON5: expected comma or `}` here"),
        ("", 1, "is not valid JSON5: no JSON data found here"),
        ("{\n\n gateway: {", 3, "which begins on this line"),
        ("{}\n}", 2, "is not valid JSON5: extra data"),
        ('{\n token: "sesame', 2, "unclosed string, which begins on this line"),
        ("[" * 100 + "]" * 100, 1, "is nested more than 64 levels deep"),
        ("{a: 1" + "0" * 5000 + "}", 1, "number"),
        ("{a: sesame}", 1, "expected a value here"),
    ],
)
def test_text_that_is_no_json5_is_explained(
    place: Place, text: str, line: int, message: str
) -> None:
    issue = place.issue(text)
    assert (issue.file, issue.path, issue.line) == (str(place.file), "", line)
    assert message in issue.message
    assert "sesame" not in issue.message


def test_bytes_that_are_no_text_are_explained(place: Place) -> None:
    place.write("")
    place.file.write_bytes(b'{\n a: "\xff" }')
    issue = place.issue()
    assert (issue.line, issue.message) == (2, "is not UTF-8 text")


def test_a_directory_is_no_file(place: Place) -> None:
    place.env["OPENSOUL_CONFIG_PATH"] = str(place.home)
    assert "cannot be read: Is a directory" in place.issue().message


def test_a_path_that_no_system_has_is_an_error(place: Place) -> None:
    place.env["OPENSOUL_CONFIG_PATH"] = "/a\0b"
    assert "cannot be read" in place.issue().message


@pytest.mark.parametrize("text", ["[]", "null", "5", '"x"'])
def test_a_configuration_is_an_object(place: Place, text: str) -> None:
    issue = place.issue(text)
    assert issue.path == ""
    assert "must be an object, not" in issue.message


def test_a_duplicate_key_is_an_error_with_both_lines(place: Place) -> None:
    issue = place.issue("{ gateway: {\n port: 1,\n 'bind': 'lan',\n \\u0070ort: 2 } }")
    assert (issue.path, issue.line) == ("gateway.port", 4)
    assert issue.message == "duplicate key; the first one is on line 2"


def test_the_same_key_in_two_objects_is_fine(place: Place) -> None:
    loaded = place.load('{ agents: { list: [{id: "a"}, {id: "b"}] }, channels: {id: {id: 1}} }')
    assert len(loaded.settings.agents) == 2


def test_lines_survive_every_kind_of_token(place: Place) -> None:
    issues = place.issues(
        '{ // a comment: { "x": [\r\n'
        "  channels: { a: [1, {b: '}'}, \"]\\\n\", .5, -Infinity, +0x1f, null, true] },\r\n"
        "  /* port: 1,\n */\n"
        "  gateway: { port: 'x' } }"
    )
    assert [(issue.path, issue.line) for issue in issues] == [
        ("channels.a.4", 3),
        ("gateway.port", 6),
    ]


def test_an_included_file_takes_the_place_of_the_object(place: Place) -> None:
    place.write("{ port: 1234 }", "parts/gateway.json5")
    loaded = place.load('{ gateway: { $include: "./parts/gateway.json5" } }')
    assert loaded.settings.listen.port == 1234
    assert loaded.files == (str(place.file), str(place.state / "parts/gateway.json5"))


def test_a_whole_configuration_can_be_an_include(place: Place, tmp_path: Path) -> None:
    (tmp_path / "whole.json5").write_text("{ gateway: { port: 99 } }")
    assert place.load('{ $include: "~/whole.json5" }').settings.listen.port == 99


def test_relative_includes_start_at_the_including_file(place: Place) -> None:
    place.write('{ $include: "./more/b.json5" }', "parts/a.json5")
    place.write('{ $include: "../c.json5", bind: "lan" }', "parts/more/b.json5")
    place.write("{ port: 7 }", "parts/c.json5")
    listen = place.load('{ gateway: { $include: "parts/a.json5" } }').settings.listen
    assert (listen.port, listen.hosts) == (7, EVERYWHERE)


def test_several_includes_are_merged_and_siblings_win(place: Place) -> None:
    place.write('{ list: [{id: "a"}], defaults: { maxWaiting: 1, maxQueued: 1 } }', "a.json5")
    place.write('{ list: [{id: "b"}], defaults: { maxWaiting: 2 } }', "b.json5")
    loaded = place.load(
        """{ agents: { $include: ["a.json5", "b.json5"],
             list: [{id: "c"}], defaults: { maxConcurrent: 3 } } }"""
    )
    assert [found.id for found in loaded.settings.agents] == ["a", "b", "c"]
    lanes = loaded.settings.lanes
    assert (lanes.max_waiting, lanes.max_queued, lanes.max_concurrent) == (2, 1, 3)


def test_a_list_may_be_included_where_nothing_stands_beside_it(place: Place) -> None:
    place.write('[{id: "a"}]', "list.json5")
    loaded = place.load('{ agents: { list: { $include: "list.json5" } } }')
    assert [found.id for found in loaded.settings.agents] == ["a"]
    issue = place.issue('{ agents: { list: { $include: "list.json5", id: "b" } } }')
    assert "the included file must be an object" in issue.message
    assert issue.path == "agents.list.$include"


@pytest.mark.parametrize(
    ("target", "path", "message"),
    [
        ("5", "gateway.$include", "must be a path or a list of paths"),
        ('["a.json5", 5]', "gateway.$include.1", "must be a path"),
        ('"gone.json5"', "gateway.$include", "there is no file "),
    ],
)
def test_an_include_that_cannot_be_followed_is_an_error(
    place: Place, target: str, path: str, message: str
) -> None:
    place.write("{}", "a.json5")
    issue = place.issue(f"{{\n gateway: {{\n $include: {target} }} }}")
    assert (issue.path, issue.line) == (path, 3)
    assert issue.message.startswith(message)


def test_an_include_that_is_no_json5_names_its_own_file_and_line(place: Place) -> None:
    part = place.write("{\n port }", "part.json5")
    issue = place.issue('{ gateway: { $include: "part.json5" } }')
    assert (issue.file, issue.line) == (str(part), 2)


def test_a_circle_of_includes_is_an_error_that_shows_the_way(place: Place) -> None:
    place.write('{ $include: "b.json5" }', "a.json5")
    place.write('{ $include: "a.json5" }', "b.json5")
    issue = place.issue('{ gateway: { $include: "a.json5" } }')
    a, b = place.state / "a.json5", place.state / "b.json5"
    assert issue.message == f"includes itself: {a} -> {b} -> {a}"
    assert issue.file == str(b)


def chain(place: Place, length: int) -> str:
    for i in range(length):
        following = f'{{ $include: "{i + 1}.json5" }}' if i < length - 1 else "{ port: 5 }"
        place.write(following, f"{i}.json5")
    return '{ gateway: { $include: "0.json5" } }'


def test_includes_go_ten_deep_and_no_deeper(place: Place) -> None:
    assert place.load(chain(place, 10)).settings.listen.port == 5
    assert "more than 10 deep" in place.issue(chain(place, 11)).message


def test_an_error_in_an_included_value_names_the_included_file(place: Place) -> None:
    part = place.write("\n\n{ port: 'x' }", "part.json5")
    issue = place.issue('{ gateway: { $include: "part.json5", bind: "lan" } }')
    assert (issue.file, issue.line, issue.path) == (str(part), 3, "gateway.port")


def test_variables_are_put_into_strings(place: Place) -> None:
    place.env |= {"WHO": "Molty", "REST": "owl"}
    loaded = place.load(
        """{ agents: { list: [{ id: "main",
             instructions: "${WHO} the ${REST}; $${WHO} $WHO ${who} ${}" }] } }"""
    )
    assert agent(loaded).instructions == "Molty the owl; ${WHO} $WHO ${who} ${}"


@pytest.mark.parametrize(("env", "state"), [({}, "not set"), ({"KEY": ""}, "empty")])
def test_a_variable_without_a_value_is_an_error(
    place: Place, env: dict[str, str], state: str
) -> None:
    place.env |= env
    issue = place.issue('{ models: { providers: {\n openai: { apiKey: "${KEY}" } } } }')
    assert (issue.path, issue.line) == ("models.providers.openai.apiKey", 2)
    assert issue.message == f"the environment variable KEY is {state}"


def test_keys_are_not_substituted(place: Place) -> None:
    place.env["X"] = "y"
    assert place.load('{ channels: { "${X}": 1 } }').tree.plain() == {"channels": {"${X}": 1}}


def test_the_env_block_gives_values_where_the_process_has_none(place: Place) -> None:
    place.env |= {"SET": "process", "BLANK": " "}
    loaded = place.load(
        """{ env: { A: "outer", SET: "block", BLANK: "filled", EMPTY: "",
                    vars: { A: "inner", COPY: "${SET}!" } },
             agents: { defaults: { instructions: "${A} ${SET} ${BLANK} ${COPY}" } } }"""
    )
    assert agent(loaded).instructions == "inner process filled process!"
    assert loaded.env["A"] == "inner"
    assert "EMPTY" not in loaded.env
    assert "A" not in place.env


def test_a_missing_variable_in_the_env_block_is_reported_once(place: Place) -> None:
    issue = place.issue('{ env: { vars: { A: "${NOPE}" } } }')
    assert issue.path == "env.vars.A"


def test_secrets_may_come_from_the_env_block(place: Place) -> None:
    loaded = place.load('{ env: { OPENSOUL_GATEWAY_TOKEN: "abc", OPENAI_API_KEY: "key" } }')
    secret = loaded.settings.auth.secret
    assert secret is not None
    assert secret.reveal() == "abc"
    key = agent(loaded).models[0].provider.api_key
    assert key is not None
    assert key.reveal() == "key"


@pytest.mark.parametrize("text", ["{ env: { A: 5 } }", "{ env: { vars: { A: 5 } } }"])
def test_variables_are_strings(place: Place, text: str) -> None:
    assert place.issue(text).message == "must be a string, not a number"


def test_an_env_block_that_is_no_object_is_an_error(place: Place) -> None:
    assert place.issue("{ env: 5 }").message == "must be an object, not a number"
    assert place.issue("{ env: { vars: [] } }").message == "must be an object, not a list"
