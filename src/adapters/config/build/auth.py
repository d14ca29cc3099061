"""Builds the authentication settings: mode, secret and lockout."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

from ....domain.api_keys import ApiKey
from ....domain.models import Secret
from ....domain.settings import AuthMode, AuthSettings, ListenSettings, LockoutSettings
from ..errors import TRUSTED_PROXY, listing
from ..read import Building
from ..schema.fields import usable_secret
from ..schema.gateway import Mode
from .gateway import is_loopback

_Kind = Literal["token", "password"]
_NOBODY_KNOWS = Secret("")
"""A placeholder in settings with errors, which are never used."""


def build_auth(
    building: Building, listen: ListenSettings, keys: tuple[ApiKey, ...]
) -> AuthSettings:
    """Mode, secret, lockout and `keys`. The secret: from the command line, the configuration, the
    environment, or generated.

    Call it last: a token is generated only for a configuration without errors.
    """
    limit = building.config.gateway.auth.rate_limit
    lockout = LockoutSettings(
        max_attempts=limit.max_attempts,
        window=limit.window_ms / 1000,
        duration=limit.lockout_ms / 1000,
        max_addresses=limit.max_addresses,
    )
    mode = _mode(building)
    if mode is AuthMode.NONE:
        _check_open_access(building, listen)
        return AuthSettings(mode, None, lockout, keys)
    known = _secret(building, "password" if mode is AuthMode.PASSWORD else "token")
    if known is None:
        known = _missing_password(building) if mode is AuthMode.PASSWORD else _generated(building)
    return AuthSettings(mode, known, lockout, keys)


def _mode(building: Building) -> AuthMode:
    overrides = building.inputs.overrides
    written = building.config.gateway.auth.mode
    if overrides.auth_mode is not None:
        if overrides.auth_mode in get_args(Mode):
            return AuthMode(overrides.auth_mode)
        message = f"must be one of {listing(get_args(Mode))}"
        if overrides.auth_mode == "trusted-proxy":
            message = TRUSTED_PROXY
        building.problems.option("--auth", message)
    if written is not None:
        return AuthMode(written)
    # A token on the command line wins over a password in the file or the environment.
    if overrides.token is not None and overrides.password is None:
        return AuthMode.TOKEN
    return AuthMode.TOKEN if _secret(building, "password") is None else AuthMode.PASSWORD


def _secret(building: Building, kind: _Kind) -> Secret | None:
    """The secret of that kind from the first source that has one; None if none has."""
    auth, overrides = building.config.gateway.auth, building.inputs.overrides
    option = overrides.token if kind == "token" else overrides.password
    if option is not None:
        return _usable(option.reveal(), partial(building.problems.option, f"--{kind}"))
    written = auth.token if kind == "token" else auth.password
    if written is not None:
        return Secret(written)
    for product in ("OPENSOUL", "OPENCLAW"):
        name = f"{product}_GATEWAY_{kind.upper()}"
        if name in building.env:
            return _usable(building.env[name], partial(building.problems.variable, name))
    return None


def _usable(text: str, report: Callable[[str], None]) -> Secret:
    try:
        return Secret(usable_secret(text))
    except ValueError as error:
        report(str(error))
        return _NOBODY_KNOWS


def _missing_password(building: Building) -> Secret:
    if not building.broken("gateway", "auth", "password"):
        message = "is required in mode `password`; set it or OPENSOUL_GATEWAY_PASSWORD"
        building.report(message, "gateway", "auth", "password")
    return _NOBODY_KNOWS


def _generated(building: Building) -> Secret:
    if building.problems.any():
        return _NOBODY_KNOWS
    state_dir = building.locations.state_dir
    try:
        return Secret(building.inputs.generated_token(state_dir))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        message = f"is not set, and none can be generated in {state_dir}: {reason}"
        building.report(message, "gateway", "auth", "token")
        return _NOBODY_KNOWS


def _check_open_access(building: Building, listen: ListenSettings) -> None:
    if all(map(is_loopback, listen.hosts)):
        return
    message = (
        f"mode `none` is allowed on loopback only, but the Gateway would listen on "
        f"{listing(listen.hosts)}; set a token or a password, or bind to loopback"
    )
    if building.inputs.overrides.auth_mode is not None:
        building.problems.option("--auth", message)
    else:
        building.report(message, "gateway", "auth", "mode")
