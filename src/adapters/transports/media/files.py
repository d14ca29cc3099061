"""The texts of files that clients send."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path, PurePath

from ....domain.settings import FileSettings
from ....domain.text import escape_line, untrusted

logger = logging.getLogger(__name__)

PDF = "application/pdf"
_TYPES = {
    ".txt": "text/plain",
    ".text": "text/plain",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".csv": "text/csv",
    ".json": "application/json",
    ".html": "text/html",
    ".htm": "text/html",
    ".pdf": PDF,
}
_UNNAMED = frozenset({"", "application/octet-stream", "binary/octet-stream"})
_CHILDREN = 2
"""Processes that read PDF files at the same time."""
_CACHED_CHARS = 8 * 1024 * 1024

FileText = tuple[str, bool]
"""A text, and whether more of it was cut off."""


class BadFile(Exception):
    """No text can be made of the file; the message says why."""


def type_of(data: bytes, declared: str, filename: str) -> str:
    """The type of a file: by its first bytes, as declared, or by its name."""
    if data.startswith(b"%PDF-"):
        return PDF
    if declared not in _UNNAMED:
        return "text/markdown" if declared == "text/x-markdown" else declared
    return _TYPES.get(PurePath(filename).suffix.lower(), "text/plain")


def decoded(data: bytes, charset: str, chars: int) -> FileText:
    """A file that is a text. Raises BadFile."""
    try:
        text = data.decode(charset or "utf-8-sig")
    except LookupError:
        raise BadFile(f"its charset {escape_line(charset)[:40]!r} is unknown") from None
    except (UnicodeError, ValueError):
        raise BadFile(f"it is no text in {escape_line(charset or 'UTF-8')[:40]}") from None
    if "\0" in text:
        raise BadFile("it is no text")
    return text[:chars], len(text) > chars


def framed(text: FileText, filename: str) -> str:
    """The text as a model gets it, with the name of the file."""
    body, is_cut = text
    if is_cut:
        body += "\n[the file goes on: it is cut off here]"
    name = escape_line(filename).replace('"', "'").replace("<", "(").replace(">", ")")
    return untrusted(body, f"file {name or 'without a name'}")


class PdfTexts:
    """The texts of PDF files, each read in a child process. The newest are cached, because clients
    send a conversation again with each turn."""

    def __init__(self) -> None:
        self._children = asyncio.Semaphore(_CHILDREN)
        self._cache: OrderedDict[tuple[bytes, int, int], FileText] = OrderedDict()
        self._cached = 0

    async def read(self, data: bytes, settings: FileSettings) -> FileText:
        """Raises BadFile."""
        digest = (await asyncio.to_thread(hashlib.sha256, data)).digest()
        key = digest, settings.max_pages, settings.max_chars
        found = self._cache.get(key)
        if found is None:
            async with self._children:
                found = await _read(data, settings)
            self._keep(key, found)
        else:
            self._cache.move_to_end(key)
        return found

    def _keep(self, key: tuple[bytes, int, int], text: FileText) -> None:
        if key in self._cache:
            return
        self._cache[key] = text
        self._cached += len(text[0])
        while self._cached > _CACHED_CHARS and len(self._cache) > 1:
            _, (old, _) = self._cache.popitem(last=False)
            self._cached -= len(old)


async def _read(data: bytes, settings: FileSettings) -> FileText:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(Path(__file__).with_name("pdf_child.py")),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={},
        start_new_session=True,
    )
    request = {
        "pages": settings.max_pages,
        "chars": settings.max_chars,
        "seconds": settings.timeout,
    }
    try:
        async with asyncio.timeout(settings.timeout):
            output, _ = await process.communicate(json.dumps(request).encode() + b"\n" + data)
    except TimeoutError:
        raise BadFile(f"it took longer than {settings.timeout:g} s to read") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    try:
        answer = json.loads(output)
    except ValueError:
        raise BadFile("it needs too much memory or time") from None
    if "error" in answer:
        logger.info("a PDF file could not be parsed", extra={"error": answer["error"]})
    if "problem" in answer:
        raise BadFile(str(answer["problem"]))
    if not answer["text"]:
        raise BadFile("it contains no text; send its pages as pictures")
    return str(answer["text"]), bool(answer["cut"])
