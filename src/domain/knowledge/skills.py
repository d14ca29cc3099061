"""Skills: the front matter of a `SKILL.md`.

Of YAML, only what describes two texts is read: plain and quoted scalars, and blocks (`|`, `>`).
Other keys are skipped with all that is below them, whatever their form. A parser for all of YAML
would bring anchors, tags and types, and an error in a key that nothing reads would cost the skill.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from .known import Skill

LONGEST_DESCRIPTION = 1_024
"""Characters of a description. A longer one is cut off."""

_NAME = re.compile(r"\w[\w .-]{0,63}")
_KEY = re.compile(r"[A-Za-z_][\w-]*")
_BLOCK = re.compile(r"[|>][-+1-9]{0,2}(?:\s+#.*)?")
_DOUBLE_QUOTED = re.compile(r'("(?:[^"\\]|\\.)*")(?:\s+#.*)?')
_SINGLE_QUOTED = re.compile(r"'((?:[^']|'')*)'(?:\s+#.*)?")
_COMMENT = re.compile(r"(?:^|\s)#.*")
_NO_SCALAR = tuple("&*!{[%@`")


class InvalidSkill(ValueError):
    """The file describes no skill; the message says why, as a predicate."""


def is_skill_name(text: str) -> bool:
    """Letters, digits, `_`, and behind the first one also space, `.` and `-`; at most 64."""
    return _NAME.fullmatch(text) is not None


def skill_of(text: str, *, folder: str, path: str) -> Skill:
    """The skill that a `SKILL.md` describes. Without a `name` it has that of its folder. Raises
    InvalidSkill."""
    fields = _front_matter(text)
    name = _scalar("name", *fields["name"]) if "name" in fields else folder
    if not is_skill_name(name):
        raise InvalidSkill("has a name with other characters than letters, digits and `_ .-`")
    if "description" not in fields:
        raise InvalidSkill("has no description in its front matter")
    description = _scalar("description", *fields["description"])
    if not description:
        raise InvalidSkill("has an empty description")
    if len(description) > LONGEST_DESCRIPTION:
        description = f"{description[: LONGEST_DESCRIPTION - 3].rstrip()}..."
    return Skill(name, description, path)


def _front_matter(text: str) -> Mapping[str, tuple[str, list[str]]]:
    """The top-level keys: what stands behind each, and the lines that continue it."""
    first, *lines = text.removeprefix("\ufeff").splitlines() or [""]
    if first.rstrip() != "---":
        raise InvalidSkill("has no front matter: its first line is not `---`")
    fields: dict[str, tuple[str, list[str]]] = {}
    continued: list[str] = []
    for line in lines:
        if line.rstrip() in ("---", "..."):
            return fields
        key, colon, value = line.partition(":")
        if colon and value[:1] in ("", " ", "\t") and _KEY.fullmatch(key):
            continued = []
            if key in fields:
                raise InvalidSkill(f"has the key `{key}` twice in its front matter")
            fields[key] = value.strip(), continued
        else:
            continued.append(line.strip())
    raise InvalidSkill("has a front matter without an end (`---`), or a very long one")


def _scalar(key: str, value: str, continued: list[str]) -> str:
    """The text of a key, on one line."""
    if _BLOCK.fullmatch(value):
        return " ".join(" ".join(continued).split())
    if not value or value.startswith("#"):
        continued = [line for line in continued if not line.startswith("#")]
        value = ""
    whole = " ".join((value, *continued)).strip()
    if whole.startswith(_NO_SCALAR):
        raise InvalidSkill(f"has a {key} that is not a text; quote it")
    if whole.startswith('"'):
        quoted = _DOUBLE_QUOTED.fullmatch(whole)
        try:
            whole = str(json.loads(quoted[1])) if quoted else ""
        except ValueError:
            quoted = None
        if quoted is None:
            raise InvalidSkill(f"has a {key} with invalid quotes or escapes")
    elif whole.startswith("'"):
        quoted = _SINGLE_QUOTED.fullmatch(whole)
        if quoted is None:
            raise InvalidSkill(f"has a {key} with invalid quotes")
        whole = quoted[1].replace("''", "'")
    else:
        whole = _COMMENT.sub("", whole)
    return " ".join(whole.split())
