"""Which messages are commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from opensoul.domain.access import NEEDS, Action
from opensoul.domain.chat_commands import (
    COMMANDS,
    LONGEST,
    ChatCommand,
    CommandName,
    command_in,
    parse_command,
)
from opensoul.domain.messages import Image, Message, Role, Text, ToolCall
from tests.fakes.domain import assistant, system, user

ARE = [
    *((f"/{name}", ChatCommand(name)) for name in CommandName),
    (" \n/Status\t", ChatCommand(CommandName.STATUS)),
    ("/STOP", ChatCommand(CommandName.STOP)),
    ("/model fake/m", ChatCommand(CommandName.MODEL, "fake/m")),
    ("/model \t Fake/M:free ", ChatCommand(CommandName.MODEL, "Fake/M:free")),
    ("/think\nhigh", ChatCommand(CommandName.THINK, "high")),
    ("/compact keep the\nnames", ChatCommand(CommandName.COMPACT, "keep the\nnames")),
]
ARE_NOT = [
    "",
    "/",
    "//help",
    "/ help",
    "help",
    "/newer",
    "/new hello",
    "/reset now",
    "/stop it",
    "/status please",
    " /status please",
    "/status.",
    "/status\nand more",
    "/help me",
    "/tools exec",
    "/status/new",
    "/model: fake/m",
    "/model fake/m please",
    "/think about it",
    "/etc/passwd is what?",
    "/usr/bin/env",
    "/bogus",
    "/t high",
    "/abort",
    "what is /status?",
    "> /new",
    "`/new`",
    "/\u017ftatus",
    "/ne\u200bw",
    "\u200b/new",
    "/compact " + "x" * LONGEST,
    " " * LONGEST + "/new",
]


@pytest.mark.parametrize(("text", "command"), ARE)
def test_a_command_is_a_whole_message(text: str, command: ChatCommand) -> None:
    assert parse_command(text) == command
    assert command_in((user("before"), assistant("yes"), user(text))) == command
    assert command_in((user(text), system("Be brief."))) == command


@pytest.mark.parametrize("text", ARE_NOT)
def test_any_other_text_is_said_to_the_model(text: str) -> None:
    assert parse_command(text) is None


NEW = Text("/new")
OTHERS = [
    (user("/new"), assistant("Done.")),
    (user("/new"), user("hello")),
    (assistant("/new"),),
    (system("/new"),),
    (),
    (Message(Role.TOOL, (NEW,), tool_call_id="c1"),),
    (user("/new"), Message(Role.TOOL, (NEW,), tool_call_id="c1")),
    (Message(Role.ASSISTANT, (ToolCall("c1", "say", "{}"),)), Message(Role.TOOL, (NEW,))),
    (Message(Role.USER, (NEW, Image("AAAA", "image/png"))),),
    (Message(Role.USER, (Image("AAAA", "image/png"),)),),
    (Message(Role.USER, (NEW, NEW)),),
    (Message(Role.USER, ()),),
]


@pytest.mark.parametrize("messages", OTHERS)
def test_only_the_newest_message_is_a_command_and_only_a_plain_text_of_a_user(
    messages: tuple[Message, ...],
) -> None:
    assert command_in(messages) is None


def test_every_command_is_described_and_has_the_permission_of_its_method() -> None:
    assert [info.name for info in COMMANDS] == list(CommandName)
    needs = {name: (ChatCommand(name).needs, ChatCommand(name, "x").needs) for name in CommandName}
    for name in (CommandName.NEW, CommandName.RESET, CommandName.COMPACT):
        assert needs[name] == (Action.CHANGE_SESSION, Action.CHANGE_SESSION)
    for name in (CommandName.MODEL, CommandName.THINK):
        assert needs[name][1] is Action.SET_SESSION
    assert needs[CommandName.STOP][0] is Action.STOP_RUN


def test_the_page_about_commands_has_each_with_its_scope() -> None:
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text("utf-8")
    rows = re.findall(r"^\| (`/.*?) \| .* \| `(operator\.\S+)` \|$", page, re.MULTILINE)
    shown = {command: scope for names, scope in rows for command in re.findall(r"`(.*?)`", names)}
    expected = {}
    for info in COMMANDS:
        expected[f"/{info.name}"] = NEEDS[info.reads].value
        if info.shown:
            expected[f"/{info.name} {info.shown}"] = NEEDS[info.changes or info.reads].value
    assert shown == expected
