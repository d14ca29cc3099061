"""Why clients are rejected, as errors of the control protocol."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .....domain.access.devices import PairingReason, PairingRequired, ProofFault, ProofRefused
from .....domain.errors import GatewayError, LockedOut, NotLocal
from .....domain.settings import AuthMode, AuthSettings
from ..protocol import (
    NEWEST_PROTOCOL,
    NOT_PAIRED,
    OLDEST_PROTOCOL,
    ClientInfo,
    ConnectAuth,
    ConnectParams,
    ConnectRejection,
    error_of,
)

CONTROL_UI = frozenset({"opensoul-control-ui", "openclaw-control-ui"})

_TRY_AGAIN_LATER = 1013
_CONFIGURE = "update_auth_configuration"

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


def rejection_of(error: GatewayError, protocol: int) -> ConnectRejection:
    """The rejection of a client for an error of the domain."""
    match error:
        case LockedOut():
            return _unauthorized(
                "too many failed authentication attempts (retry later)",
                "AUTH_RATE_LIMITED",
                "rate_limited",
                "wait_then_retry",
                retry_after_ms=math.ceil((error.retry_after or 0.0) * 1_000),
            )
        case NotLocal():
            details = _auth_details("AUTH_REQUIRED", "auth_mode_none_is_local_only", _CONFIGURE)
            return ConnectRejection(error.message, details=details)
        case ProofRefused():
            details = {"code": _PROOF_CODES[error.fault], "reason": error.fault.value}
            return ConnectRejection(error.message, details=details)
        case PairingRequired():
            return _pairing_required(error)
    # No fault of the client's credentials: no room, or nowhere to keep them.
    shape = error_of(error, protocol=protocol)
    return ConnectRejection(
        shape.message,
        code=shape.code,
        details=shape.details,
        close_code=_TRY_AGAIN_LATER,
        retryable=True if shape.retryable is None else shape.retryable,
        retry_after_ms=shape.retry_after_ms,
    )


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


def device_required(client: ClientInfo) -> ConnectRejection:
    """The rejection of a client that has neither a device nor a secret."""
    if is_control_ui(client):
        text = "control ui requires HTTPS or localhost (secure context)"
        return ConnectRejection(text, details={"code": "CONTROL_UI_DEVICE_IDENTITY_REQUIRED"})
    return ConnectRejection(
        "device identity required", code=NOT_PAIRED, details={"code": "DEVICE_IDENTITY_REQUIRED"}
    )


def unauthorized(
    params: ConnectParams, secret: str | None, settings: AuthSettings
) -> ConnectRejection:
    """The rejection of a client that no credential authenticates. `secret`: the token or password
    of `params` that could have been the Gateway's."""
    auth = params.auth or ConnectAuth()
    if secret is None and auth.device_token:
        text = "device token mismatch (rotate or reissue the device's token)"
        return _unauthorized(text, "AUTH_DEVICE_TOKEN_MISMATCH", "device_token_mismatch")
    if secret is None and auth.bootstrap_token:
        text = "bootstrap token invalid (this Gateway gives none out)"
        return _unauthorized(text, "AUTH_BOOTSTRAP_TOKEN_INVALID", "bootstrap_token_invalid")
    kind = settings.mode.value
    name, hint = f"AUTH_{kind.upper()}", _hint(params.client, settings.mode)
    if settings.secret is None or not settings.secret.reveal():
        text = f"gateway {kind} not configured on gateway (set gateway.auth.{kind})"
        return _unauthorized(text, f"{name}_NOT_CONFIGURED", f"{kind}_missing_config")
    if secret is None:
        text = f"gateway {kind} missing ({hint})"
        return _unauthorized(text, f"{name}_MISSING", f"{kind}_missing", _CONFIGURE)
    has_only_token = params.device is not None and auth.token and not auth.device_token
    retry = settings.mode is AuthMode.TOKEN and bool(has_only_token)
    step = "retry_with_device_token" if retry else "update_auth_credentials"
    text = f"gateway {kind} mismatch ({hint})"
    return _unauthorized(text, f"{name}_MISMATCH", f"{kind}_mismatch", step, retry=retry)


def _pairing_required(error: PairingRequired) -> ConnectRejection:
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


def _unauthorized(
    text: str,
    code: str,
    reason: str,
    step: str = "review_auth_configuration",
    *,
    retry: bool = False,
    retry_after_ms: int | None = None,
) -> ConnectRejection:
    return ConnectRejection(
        f"unauthorized: {text}",
        details=_auth_details(code, reason, step, retry=retry),
        retryable=None if retry_after_ms is None else True,
        retry_after_ms=retry_after_ms,
    )


def _auth_details(code: str, reason: str, step: str, *, retry: bool = False) -> dict[str, object]:
    return {
        "code": code,
        "authReason": reason,
        "canRetryWithDeviceToken": retry,
        "recommendedNextStep": step,
    }


def _hint(client: ClientInfo, mode: AuthMode) -> str:
    """Where a person sets the secret, in words that clients look for."""
    if client.mode == "cli":
        return f"set gateway.remote.{mode} to match gateway.auth.{mode}"
    if is_web_page(client) and mode is AuthMode.TOKEN:
        return "open the dashboard URL and paste the token in Control UI settings"
    if is_web_page(client):
        return "enter the password in Control UI settings"
    return f"provide gateway auth {mode}"
