"""The program that makes a readable text of a web page.

A file of its own that imports the standard library only: it is run by its path. Standard input is a
line of JSON, `{"kind": "html" or "text", "charset", "base", "longest", "seconds"}`, and then the
page. Standard output is `{"text", "cut"}`.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from urllib.parse import urljoin

_MEMORY = 2 * 1024**3
_UNSEEN = frozenset(
    {"script", "style", "noscript", "template", "svg", "canvas", "object", "select"}
)
_FRAME = frozenset({"nav", "footer", "aside", "dialog"})
"""Around the content of a page."""
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "wbr"}
)
_BLOCKS = frozenset(
    {
        "address", "article", "blockquote", "body", "caption", "dd", "details", "div", "dl", "dt",
        "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6",
        "head", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section", "summary",
        "table", "title", "tr", "ul",
    }
)  # fmt: skip
_APART = frozenset({"h1", "h2", "h3", "h4", "h5", "h6", "p", "pre", "table", "title"})
_HIDDEN = re.compile(r"display:\s*none|visibility:\s*hidden", re.IGNORECASE)
_SHORTEST_CONTENT = 200
"""Characters: with fewer in `main` or `article`, the page is taken as a whole."""


class Reader(HTMLParser):
    """Collects the text: headings, list items, links and preformatted text as in Markdown."""

    def __init__(self, base: str, skipped: frozenset[str]) -> None:
        super().__init__(convert_charrefs=True)
        self._base = base
        self._skipped = skipped
        self._skipping = ""
        self._depth = 0
        """Of the elements with the name of the skipped one."""
        self._within = 0
        """Of `main` and `article`."""
        self._preformatted = 0
        self._breaks = 0
        """Line feeds at the end of the text."""
        self._links: list[str] = []
        self.pieces: list[str] = []
        self.content: list[str] = []
        """The pieces in `main` and `article`."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._skipping:
            self._depth += tag == self._skipping
            return
        attributes = dict(attrs)
        if tag not in _VOID and (tag in self._skipped or _is_hidden(attributes)):
            self._skipping, self._depth = tag, 1
            return
        self._break(tag)
        match tag:
            case "br":
                self._add("\n")
            case "main" | "article":
                self._within += 1
            case "h1" | "h2" | "h3" | "h4" | "h5" | "h6":
                self._add(f"{'#' * int(tag[1])} ")
            case "title":
                self._add("# ")
            case "li":
                self._add("- ")
            case "td" | "th":
                self._add(" | ")
            case "pre":
                self._preformatted += 1
                self._add("```\n")
            case "a":
                self._links.append(_absolute(self._base, attributes.get("href")))
                self._add("[" if self._links[-1] else "")
            case "img":
                self._add(f" {attributes.get('alt') or ''} ")
            case _:
                pass

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._skipping:
            self._depth -= tag == self._skipping
            if not self._depth:
                self._skipping = ""
            return
        match tag:
            case "pre" if self._preformatted:
                self._preformatted -= 1
                self._add("\n```")
            case "a" if self._links:
                link = self._links.pop()
                self._add(f"]({link})" if link else "")
            case _:
                pass
        self._break(tag)
        if tag in ("main", "article") and self._within:
            self._within -= 1

    def handle_data(self, data: str) -> None:
        if not self._skipping:
            text = data if self._preformatted else re.sub(r"\s+", " ", data)
            self._add("" if text == " " and self._breaks else text)

    def _break(self, tag: str) -> None:
        """End the line, and leave an empty one, if the element does so and nothing else has."""
        wanted = 2 if tag in _APART else 1 if tag in _BLOCKS else 0
        if wanted > self._breaks:
            self._add("\n" * (wanted - self._breaks))
            self._breaks = wanted

    def _add(self, piece: str) -> None:
        if piece:
            self._breaks = 0
            self.pieces.append(piece)
            if self._within:
                self.content.append(piece)


def readable(page: str, base: str) -> str:
    """The content of a page; where it has no marks around it, all of the text."""
    text = ""
    for skipped in (_UNSEEN | _FRAME, _UNSEEN):
        reader = Reader(base, skipped)
        # The parser takes a marked section, which HTML has not, for an error.
        reader.feed(page.replace("<![", "<! ["))
        reader.close()
        content, text = _tidy(reader.content), _tidy(reader.pieces)
        if len(content) >= _SHORTEST_CONTENT:
            return content
        if text:
            break
    return text


def decoded(data: bytes, charset: str) -> str:
    """By the name in the header or in the page. Unknown names count as UTF-8."""
    declared = re.search(rb"""<meta[^>]{0,200}charset=["']?([\w-]{1,40})""", data[:4_096], re.I)
    for name in (charset, declared[1].decode() if declared else "", "utf-8"):
        if name:
            try:
                return data.decode(name, "replace")
            except (LookupError, ValueError):
                continue
    return ""


def _tidy(pieces: Sequence[str]) -> str:
    """At most one empty line, and no white space at the ends of lines."""
    lines: list[str] = []
    fenced = False
    for line in "".join(pieces).split("\n"):
        fenced ^= line.startswith("```")
        line = line.rstrip() if fenced else " ".join(line.split())
        if line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines).strip()


def _is_hidden(attributes: dict[str, str | None]) -> bool:
    return (
        "hidden" in attributes
        or attributes.get("aria-hidden") == "true"
        or bool(_HIDDEN.search(attributes.get("style") or ""))
    )


def _absolute(base: str, link: str | None) -> str:
    try:
        url = urljoin(base, (link or "").strip())
    except ValueError:
        return ""
    is_page = url.startswith(("http://", "https://")) and not (link or "").startswith("#")
    return url if is_page and url.isprintable() and " " not in url else ""


def main() -> None:
    request = json.loads(sys.stdin.buffer.readline())
    limit = int(request["seconds"]) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))  # Also without the Gateway.
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    text = decoded(sys.stdin.buffer.read(), request["charset"])
    if request["kind"] == "html":
        text = readable(text, request["base"])
    longest = request["longest"]
    sys.stdout.write(json.dumps({"text": text[:longest], "cut": len(text) > longest}))


if __name__ == "__main__":
    main()
