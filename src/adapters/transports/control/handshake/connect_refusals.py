"""Every reason not to let a client in, as the control protocol tells it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .....domain.access.devices import PairingReason, PairingRequired, ProofFault, ProofRefused
from .....domain.errors import GatewayError, LockedOut, NotLocal
from .....domain.settings import AuthMode, AuthSettings
from ..protocol import (
    NEWEST_PROTOCOL,
    NOT_PAIRED,
    OLDEST_PROTOCOL,
    ClientInfo,
    ConnectParams,
    ConnectRejection,
    error_of,
)

CONTROL_UI = frozenset({"opensoul-control-ui", "openclaw-control-ui"})

_TRY_AGAIN_LATER = 1013

_PROOF_CODES: Mapping[ProofFault, str] = {
    ProofFault.NONCE_MISSING: "DEVICE_AUTH_NONCE_REQUIRED",
    ProofFault.NONCE_MISMATCH: "DEVICE_AUTH_NONCE_MISMATCH",
    ProofFault.SIGNATURE: "DEVICE_AUTH_SIGNATURE_INVALID",
    ProofFault.STALE: "DEVICE_AUTH_SIGNATURE_EXPIRED",
    ProofFault.DEVICE_ID: "DEVICE_AUTH_DEVICE_ID_MISMATCH",
    ProofFault.PUBLIC_KEY: "DEVICE_AUTH_PUBLIC_KEY_INVALID",
}
# Short: with the request's id they have to fit into the reason of a close frame.
_PAIRING_TEXTS: Mapping[PairingReason, str] = {
    PairingReason.NOT_PAIRED: "pairing required: device is not approved yet",
    PairingReason.ROLE: "pairing required: device asks for another role",
    PairingReason.SCOPE: "pairing required: device asks for more scopes",
}


def is_control_ui(client: ClientInfo) -> bool:
    """The web page that controls a Gateway."""
    return client.id in CONTROL_UI


def is_web_page(client: ClientInfo) -> bool:
    """A client that lives in a browser."""
    return is_control_ui(client) or client.id == "webchat-ui" or client.mode == "webchat"


def protocol_mismatch(params: ConnectParams) -> ConnectRejection:
    return ConnectRejection(
        "protocol mismatch",
        details={
            "code": "PROTOCOL_MISMATCH",
            "clientMinProtocol": params.min_protocol,
            "clientMaxProtocol": params.max_protocol,
            "expectedProtocol": NEWEST_PROTOCOL,
            "minimumProbeProtocol": OLDEST_PROTOCOL,
        },
        close_code=1002,
    )


def control_ui_without_device() -> ConnectRejection:
    return ConnectRejection(
        "control ui requires HTTPS or localhost (secure context)",
        details={"code": "CONTROL_UI_DEVICE_IDENTITY_REQUIRED"},
    )


def no_device() -> ConnectRejection:
    return ConnectRejection(
        "device identity required", code=NOT_PAIRED, details={"code": "DEVICE_IDENTITY_REQUIRED"}
    )


def bad_proof(error: ProofRefused) -> ConnectRejection:
    return ConnectRejection(
        error.message, details={"code": _PROOF_CODES[error.fault], "reason": error.fault.value}
    )


def unpaired(error: PairingRequired) -> ConnectRejection:
    message, request_id = _PAIRING_TEXTS[error.reason], error.request_id
    return ConnectRejection(
        message,
        code=NOT_PAIRED,
        details={
            "code": "PAIRING_REQUIRED",
            "reason": error.reason.value,
            "requestId": request_id,
            "remediationHint": f"Approve it on the Gateway: opensoul devices approve {request_id}",
        },
        reason=f"{message} (requestId: {request_id})",
    )


def locked_out(error: LockedOut) -> ConnectRejection:
    return ConnectRejection(
        "unauthorized: too many failed authentication attempts (retry later)",
        details={
            "code": "AUTH_RATE_LIMITED",
            "authReason": "rate_limited",
            "canRetryWithDeviceToken": False,
            "recommendedNextStep": "wait_then_retry",
        },
        retryable=True,
        retry_after_ms=math.ceil((error.retry_after or 0.0) * 1_000),
    )


def not_local(error: NotLocal) -> ConnectRejection:
    return ConnectRejection(
        error.message,
        details={
            "code": "AUTH_REQUIRED",
            "authReason": "auth_mode_none_is_local_only",
            "canRetryWithDeviceToken": False,
            "recommendedNextStep": _CONFIGURE,
        },
    )


def failed(error: GatewayError, protocol: int) -> ConnectRejection:
    """What is no fault of the client's credentials: no room, or nowhere to keep them."""
    told = error_of(error, protocol=protocol)
    return ConnectRejection(
        told.message,
        code=told.code,
        details=told.details,
        close_code=_TRY_AGAIN_LATER,
        retryable=True if told.retryable is None else told.retryable,
        retry_after_ms=told.retry_after_ms,
    )


@dataclass(frozen=True, slots=True)
class Tried:
    """What was brought, and proved nothing."""

    client: ClientInfo
    has_device: bool
    token: bool = False
    secret: bool = False
    """A token or a password that could have been the Gateway's."""
    device_token: bool = False
    bootstrap_token: bool = False


def unauthorized(tried: Tried, settings: AuthSettings) -> ConnectRejection:
    """Nothing that the client brought proves that it may come in."""
    if not tried.secret and tried.device_token:
        text = "device token mismatch (rotate or reissue the device's token)"
        return _unauthorized(text, "AUTH_DEVICE_TOKEN_MISMATCH", "device_token_mismatch")
    if not tried.secret and tried.bootstrap_token:
        text = "bootstrap token invalid (this Gateway gives none out)"
        return _unauthorized(text, "AUTH_BOOTSTRAP_TOKEN_INVALID", "bootstrap_token_invalid")
    kind = settings.mode.value
    name, hint = f"AUTH_{kind.upper()}", _hint(tried.client, settings.mode)
    if settings.secret is None or not settings.secret.reveal():
        text = f"gateway {kind} not configured on gateway (set gateway.auth.{kind})"
        return _unauthorized(text, f"{name}_NOT_CONFIGURED", f"{kind}_missing_config")
    if not tried.secret:
        text = f"gateway {kind} missing ({hint})"
        return _unauthorized(text, f"{name}_MISSING", f"{kind}_missing", _CONFIGURE)
    retry = (
        settings.mode is AuthMode.TOKEN
        and tried.has_device
        and tried.token
        and not tried.device_token
    )
    step = "retry_with_device_token" if retry else "update_auth_credentials"
    text = f"gateway {kind} mismatch ({hint})"
    return _unauthorized(text, f"{name}_MISMATCH", f"{kind}_mismatch", step, retry=retry)


_CONFIGURE = "update_auth_configuration"


def _unauthorized(
    text: str,
    code: str,
    reason: str,
    step: str = "review_auth_configuration",
    *,
    retry: bool = False,
) -> ConnectRejection:
    details = {
        "code": code,
        "authReason": reason,
        "canRetryWithDeviceToken": retry,
        "recommendedNextStep": step,
    }
    return ConnectRejection(f"unauthorized: {text}", details=details)


def _hint(client: ClientInfo, mode: AuthMode) -> str:
    """Where a person sets the secret, in words that clients look for."""
    if client.mode == "cli":
        return f"set gateway.remote.{mode} to match gateway.auth.{mode}"
    if is_web_page(client) and mode is AuthMode.TOKEN:
        return "open the dashboard URL and paste the token in Control UI settings"
    if is_web_page(client):
        return "enter the password in Control UI settings"
    return f"provide gateway auth {mode}"
