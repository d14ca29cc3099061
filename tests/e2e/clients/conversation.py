"""The official Python client in a short conversation; prints what it heard as one JSON object."""

from __future__ import annotations

import json
import os
import sys

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]


def main() -> None:
    url, key = os.environ["GATEWAY_URL"] + "/v1", os.environ["GATEWAY_TOKEN"]
    with OpenAI(base_url=url, api_key=key, max_retries=0) as client:
        whole = client.chat.completions.create(model="opensoul", messages=HELLO, max_tokens=20)
        streamed = client.chat.completions.create(
            model="opensoul:pirate", messages=HELLO, max_tokens=20, stream=True
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
        echo = client.chat.completions.create(model="opensoul:echo", messages=HELLO)
        seen = {
            "models": [model.id for model in client.models.list()],
            "whole": whole.choices[0].message.content,
            "tokens": whole.usage.completion_tokens if whole.usage else 0,
            "streamed": text,
            "echo": echo.choices[0].message.content,
        }
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()
