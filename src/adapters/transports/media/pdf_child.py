"""The program that reads the text of a PDF file, in a process that can be ended.

It is run by its path. Standard input is a line of JSON, `{"pages", "chars", "seconds"}`, and then
the file. Standard output is `{"text", "cut"}` or `{"problem"}`.
"""

from __future__ import annotations

import io
import json
import logging
import math
import resource
import sys

_MEMORY = 1024**3


def text_of(data: bytes, pages: int, chars: int) -> dict[str, object]:
    """The texts of the first pages, with empty lines between them."""
    from pypdf import PdfReader  # Within the limits of this process.

    reader = PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        return {"problem": "it is encrypted"}
    texts: list[str] = []
    length = 0
    for number, page in enumerate(reader.pages):
        if number == pages or length > chars:
            return {"text": "\n\n".join(texts)[:chars], "cut": True}
        text = page.extract_text().strip()
        texts.append(text)
        length += len(text) + 2
    whole = "\n\n".join(texts).strip()
    return {"text": whole[:chars], "cut": len(whole) > chars}


def main() -> None:
    logging.disable()
    request = json.loads(sys.stdin.buffer.readline())
    seconds = math.ceil(request["seconds"])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    data = sys.stdin.buffer.read()
    try:
        answer = text_of(data, request["pages"], request["chars"])
    except MemoryError:
        answer = {"problem": "it needs too much memory"}
    except Exception as error:  # The parser raises any exception for a damaged file.
        # The Gateway logs its class: the text may be that of the file.
        answer = {"problem": "it is damaged", "error": type(error).__name__}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
