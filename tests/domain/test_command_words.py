"""The allow-list of `exec` sees the words that a shell passes to the program, or none at all."""

from __future__ import annotations

import random
import shutil
import subprocess

import pytest

from opensoul.domain.tools.commands import words_of

NASTY = [
    *"ab1 \t\n'\"\\$`;&|<>(){}[]*?~!#^=%@:,.+-/",
    *("$HOME", "$(id)", "`id`", "&&", "||", ">>", "<<", "$'a'", '$"a"', "a=b", "{a,b}", "''", '""'),
    *("\\\n", "\u00a0", "\u2028", "\u00e4", "\x00", "\x1b", "\r", "-n", "--", "~root", "!!", "!a"),
]


def commands(seed: int, count: int) -> list[str]:
    """Random command lines; many of them are plain."""
    dice = random.Random(seed)  # noqa: S311 - not for secrets
    plain = [*"ab1-./=:,@%+_", " ", " ", "'a b'", '"c d"', "''"]
    made = []
    for _ in range(count):
        parts = dice.choices(plain, k=dice.randrange(1, 12))
        for _ in range(dice.choice([0, 0, 1, 2])):
            parts.insert(dice.randrange(len(parts) + 1), dice.choice(NASTY))
        made.append("".join(parts))
    return made


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_words_of_a_plain_command_are_those_of_a_shell(shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    found = [(one, words) for one in commands(7, 20_000) if (words := words_of(one)) is not None]
    script = "\n".join(f"printf '%s\\0' {one}; printf '\\n'" for one, _ in found)
    ran = subprocess.run(
        [program, "-s"], input=script.encode(), capture_output=True, check=True, timeout=60
    )
    printed = ran.stdout.decode().split("\0\n")[:-1]

    assert ran.stderr == b""
    assert len(found) > 3_000
    for (command, words), line in zip(found, printed, strict=True):
        assert tuple(line.split("\0")) == words, command


def test_what_a_shell_interprets_makes_a_command_not_plain() -> None:
    special = "\n\\$`;&|<>(){}[]*?~!#^\u00a0\u2028\x00\x1b\r"
    for char in special:
        assert words_of(f"ls {char}") is None, repr(char)
        assert words_of(f"ls a{char}b") is None, repr(char)
    for char in "$`\\!\n\r\x00":
        assert words_of(f'ls "a{char}b"') is None, repr(char)
