"""The usage of the models that LangChain calls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from ....domain.messages import Message, Role, Text
from ....domain.models import Usage
from ....domain.sessions import estimate, estimate_all
from .langchain_messages import from_message


@cache
def meter_class() -> Any:
    from langchain_core.callbacks import BaseCallbackHandler

    class Meter(BaseCallbackHandler):  # type: ignore[misc]
        """Adds up the usage of all models that a graph calls, also in its tools."""

        run_inline = True

        def __init__(self) -> None:
            self.usage = Usage(0, 0)
            self.model = ""
            self.finish_reason = ""
            self._inputs: dict[object, list[Any]] = {}

        def on_chat_model_start(
            self, serialized: Any, messages: Any, *, run_id: object, **more: Any
        ) -> None:
            self._inputs[run_id] = messages[0]

        def on_llm_end(self, response: Any, *, run_id: object, **more: Any) -> None:
            given = self._inputs.pop(run_id, [])
            message = getattr(response.generations[0][0], "message", None)
            if message is None:
                return
            about = message.response_metadata
            provider, model = about.get("model_provider"), about.get("model_name")
            self.model = "/".join(filter(None, (provider, model))) or self.model
            self.finish_reason = str(about.get("finish_reason") or about.get("stop_reason") or "")
            self.usage += _usage(message, given)

        def on_llm_error(self, error: BaseException, *, run_id: object, **more: Any) -> None:
            self._inputs.pop(run_id, None)

    return Meter


def _usage(message: Any, given: Sequence[Any]) -> Usage:
    reported = message.usage_metadata
    if not reported:
        texts = [Message(Role.USER, (Text(str(one.text)),)) for one in given]
        return Usage(estimate_all(texts), estimate(from_message(message)), estimated=True)
    return Usage(
        reported["input_tokens"],
        reported["output_tokens"],
        reasoning=reported.get("output_token_details", {}).get("reasoning") or 0,
        cached=reported.get("input_token_details", {}).get("cache_read") or 0,
        cache_writes=reported.get("input_token_details", {}).get("cache_creation") or 0,
    )
