"""The front matter of a SKILL.md."""

from __future__ import annotations

import pytest

from opensoul.domain.knowledge import InvalidSkill, Skill, skill_of

PATH = "skills/folder/SKILL.md"


def described(*lines: str) -> Skill:
    return skill_of("\n".join(("---", *lines, "---", "# Body")), folder="folder", path=PATH)


@pytest.mark.parametrize(
    ("lines", "name", "description"),
    [
        (["name: pdf", "description: Reads PDF files."], "pdf", "Reads PDF files."),
        (["description: Reads."], "folder", "Reads."),
        (["name:   pdf  ", "description:\tReads. "], "pdf", "Reads."),
        (["description: Use when: always"], "folder", "Use when: always"),
        (["description: Reads. # a comment"], "folder", "Reads."),
        (["description: C# and F#"], "folder", "C# and F#"),
        (['description: "Say \\"hi\\": # \\u00e9"'], "folder", 'Say "hi": # é'),
        (["description: 'It''s: # here' # comment"], "folder", "It's: # here"),
        (["description: >-", "  One", "  two.", "", "  Three."], "folder", "One two. Three."),
        (["description: |", "  One", "  two."], "folder", "One two."),
        (["description: One", "  two", "  three."], "folder", "One two three."),
        (["description:", "  One", "  two."], "folder", "One two."),
        (['description: "One', '  two."'], "folder", "One two."),
        (["# comment", "", "description: Reads."], "folder", "Reads."),
        (["description: Reads.", "# comment", "license: MIT"], "folder", "Reads."),
        (
            ["license: &a [x", "metadata:", "  name: other", "- x", "description: Reads."],
            "folder",
            "Reads.",
        ),
        (['metadata: {"a": {"b": [1]}}', "description: Reads."], "folder", "Reads."),
        (["name: Größe 2.0", "description: d"], "Größe 2.0", "d"),
    ],
)
def test_a_skill_has_a_name_and_a_description(
    lines: list[str], name: str, description: str
) -> None:
    assert described(*lines) == Skill(name, description, PATH)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no front matter"),
        ("# Title\n---\ndescription: d\n---", "has no front matter"),
        ("---\ndescription: d\n", "without an end"),
        ("---\nname: a\n---", "has no description"),
        ("---\ndescription:\n---", "an empty description"),
        ("---\ndescription: ''\n---", "an empty description"),
        ("---\ndescription: a\ndescription: b\n---", "`description` twice"),
        ("---\ndescription: [a]\n---", "is not a text; quote it"),
        ("---\ndescription: &a b\n---", "is not a text; quote it"),
        ("---\ndescription: *a\n---", "is not a text; quote it"),
        ("---\ndescription: !!python/object:x y\n---", "is not a text; quote it"),
        ('---\ndescription: "a\n---', "invalid quotes or escapes"),
        ('---\ndescription: "a" b\n---', "invalid quotes or escapes"),
        ('---\ndescription: "\\x41"\n---', "invalid quotes or escapes"),
        ("---\ndescription: 'a\n---", "invalid quotes"),
        ("---\nname: ../a\ndescription: d\n---", "other characters"),
        ('---\nname: "a\\nb"\ndescription: d\n---', None),
        ('---\nname: "a`b"\ndescription: d\n---', "other characters"),
        ("---\nname: " + "a" * 65 + "\ndescription: d\n---", "other characters"),
        ("---\nname: ''\ndescription: d\n---", "other characters"),
    ],
)
def test_what_describes_no_skill_is_refused_with_the_reason(text: str, why: str | None) -> None:
    if why is None:  # A line break within a text counts as a space.
        assert skill_of(text, folder="f", path=PATH).name == "a b"
        return
    with pytest.raises(InvalidSkill, match=why.replace("(", r"\(")):
        skill_of(text, folder="folder", path=PATH)


def test_files_of_windows_and_with_a_byte_order_mark_are_read() -> None:
    text = "\ufeff---\r\nname: a\r\ndescription: d\r\n---\r\n"

    assert skill_of(text, folder="f", path=PATH) == Skill("a", "d", PATH)


def test_a_long_description_is_cut_off() -> None:
    skill = described(f"description: {'x' * 5_000}")

    assert len(skill.description) == 1_024
    assert skill.description.endswith("x...")
