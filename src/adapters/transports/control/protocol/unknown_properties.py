"""Properties of requests that the Gateway does not know: ignored by methods that read.

The schemas of the family's clients grow with every release. A property that a reading method
ignores costs at most a less specific answer; one that a writing method ignored would be a change
that the client asked for and did not get, so writing methods refuse it.
"""

from __future__ import annotations

import logging
from typing import Any

from pydantic import BaseModel, ValidationError

logger = logging.getLogger(__name__)

_LOGGED = 512
"""Properties that are named in the log, over all methods; clients choose their names."""
_LONGEST_NAME = 64


class UnknownProperties:
    """Validates parameters, and names each ignored property once in the log."""

    def __init__(self, most: int = _LOGGED) -> None:
        self._logged: set[tuple[str, str]] = set()
        self._most = most

    def lenient(self, method: str, model: type[BaseModel], params: object) -> BaseModel:
        """The parameters without the properties that `model` does not have, at any depth.

        Raises ValidationError for everything else that is wrong.
        """
        try:
            return model.model_validate(params)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
            unknown = [found["loc"] for found in errors if _is_unknown(found)]
            if not unknown:
                raise
        validated = model.model_validate(params, extra="ignore")
        for place in unknown:
            # Each step is cut first: a client may choose a name of millions of characters.
            steps = (str(step)[:_LONGEST_NAME] for step in place)
            self._log(method, ".".join(steps)[:_LONGEST_NAME])
        return validated

    def _log(self, method: str, name: str) -> None:
        if (method, name) in self._logged or len(self._logged) >= self._most:
            return
        self._logged.add((method, name))
        extra = {"method": method, "property": name}
        logger.info("a request has a property that is not known and is ignored", extra=extra)
        if len(self._logged) == self._most:
            logger.info("further properties that are not known are ignored without a line here")


def _is_unknown(found: Any) -> bool:
    return bool(found["type"] == "extra_forbidden")
