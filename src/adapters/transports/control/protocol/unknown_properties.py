"""Validation of parameters with unknown properties, for methods that only read.

The clients' schemas grow with every release. If a reading method ignores a property, its answer is
at most less specific. If a writing method did, a requested change would be lost silently, so
writing methods reject unknown properties.
"""

from __future__ import annotations

import logging
from typing import Any

from pydantic import BaseModel, ValidationError

logger = logging.getLogger(__name__)

_LOGGED = 512
"""Limit of logged properties over all methods, because clients choose their names."""
_LONGEST_NAME = 64


class UnknownProperties:
    """Validates parameters and logs each ignored property once."""

    def __init__(self, most: int = _LOGGED) -> None:
        self._logged: set[tuple[str, str]] = set()
        self._most = most

    def lenient(self, method: str, model: type[BaseModel], params: object) -> BaseModel:
        """Validate `params`, ignoring properties that `model` lacks, at any depth.

        Raises ValidationError for all other errors.
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
            # Cut each step first: a name may have millions of characters.
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
