"""Writes the files of `examples/` into docs/extending.md, at the places marked for them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "extending.md"
_MARKED = re.compile(r"<!-- example: (?P<path>\S+) -->.*?<!-- end of example -->", re.DOTALL)


def with_examples(page: str) -> str:
    """The page with the marked files as they are now."""

    def block(match: re.Match[str]) -> str:
        path = match["path"]
        code = (ROOT / path).read_text().rstrip()
        return f"<!-- example: {path} -->\n```python\n{code}\n```\n<!-- end of example -->"

    return _MARKED.sub(block, page)


if __name__ == "__main__":
    PAGE.write_text(with_examples(PAGE.read_text()))
