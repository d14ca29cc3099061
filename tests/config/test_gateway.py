"""Where the Gateway listens, whom it lets in, and in which order sources win."""

from __future__ import annotations

import socket
from ipaddress import ip_network
from pathlib import Path

import pytest

from opensoul.adapters.config import Overrides
from opensoul.adapters.config.read.context import TAILNET, find_tailnet_address
from opensoul.domain.models.calls import Secret
from opensoul.domain.settings import (
    AuthMode,
    ChatEndpointSettings,
    LaneSettings,
    LockoutSettings,
    TlsSettings,
)

from .place import EVERYWHERE, GENERATED, Place

LOOPBACK = ("127.0.0.1", "::1")


def test_the_defaults_are_loopback_the_known_port_and_a_generated_token(place: Place) -> None:
    found = place.load("{}").settings
    assert (found.listen.hosts, found.listen.port, found.listen.tls) == (LOOPBACK, 18789, None)
    assert (found.auth.mode, found.auth.secret) == (AuthMode.TOKEN, Secret(GENERATED))
    assert place.tokens_made == [place.state]
    assert found.auth.lockout == LockoutSettings()
    assert found.chat == ChatEndpointSettings()
    assert found.lanes == LaneSettings()
    assert (found.shutdown_linger, found.shutdown_grace) == (10, 20)


def test_http2_is_off_unless_it_is_switched_on(place: Place) -> None:
    assert place.load("{}").settings.listen.http2 is False
    assert place.load("{ gateway: { http2: true } }").settings.listen.http2 is True


def test_option_then_variables_then_file_give_the_port(place: Place) -> None:
    place.write("{ gateway: { port: 4 } }")
    assert place.load().settings.listen.port == 4
    place.env["OPENCLAW_GATEWAY_PORT"] = "3"
    assert place.load().settings.listen.port == 3
    place.env["OPENSOUL_GATEWAY_PORT"] = " 2 "
    assert place.load().settings.listen.port == 2
    place.overrides = Overrides(port=0)
    assert place.load().settings.listen.port == 0


@pytest.mark.parametrize("text", ["x", "-1", "65536", "1.5", "1" * 5000, "٣"])
def test_a_bad_port_in_a_variable_is_an_error_that_names_it(place: Place, text: str) -> None:
    place.env["OPENSOUL_GATEWAY_PORT"] = text
    place.env["OPENCLAW_GATEWAY_PORT"] = "5"
    issue = place.issue("{}")
    assert str(issue).startswith("- environment OPENSOUL_GATEWAY_PORT: must be a port number")


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_bad_port_option_is_an_error_that_names_it(place: Place, port: int) -> None:
    place.overrides = Overrides(port=port)
    assert str(place.issue("{}")) == "- command line --port: must be 0 (any free port) to 65535"


@pytest.mark.parametrize(
    ("bind", "hosts"), [("loopback", LOOPBACK), ("auto", LOOPBACK), ("lan", EVERYWHERE)]
)
def test_bind_decides_the_addresses(place: Place, bind: str, hosts: tuple[str, ...]) -> None:
    assert place.load(f"{{ gateway: {{ bind: '{bind}' }} }}").settings.listen.hosts == hosts
    place.overrides = Overrides(bind=bind)
    assert place.load("{ gateway: { bind: 'lan' } }").settings.listen.hosts == hosts


def test_an_unknown_bind_option_is_an_error(place: Place) -> None:
    place.overrides = Overrides(bind="everywhere")
    assert place.issue("{}").message == "must be one of auto, lan, loopback, custom, tailnet"


@pytest.mark.parametrize("host", ["192.168.1.5", "::", "fe80::1", "127.0.0.1"])
def test_a_custom_bind_is_exactly_that_address(place: Place, host: str) -> None:
    text = f"{{ gateway: {{ bind: 'custom', customBindHost: ' {host} ' }} }}"
    assert place.load(text).settings.listen.hosts == (host,)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("", "is required for bind `custom`: an IP address"),
        (", customBindHost: 'myhost'", "must be an IP address"),
        (", customBindHost: 5", "must be a string, not a number"),
    ],
)
def test_a_custom_bind_needs_an_address(place: Place, rest: str, message: str) -> None:
    issue = place.issue(f"{{ gateway: {{ bind: 'custom'{rest} }} }}")
    assert (issue.path, issue.message) == ("gateway.customBindHost", message)


def test_a_custom_address_without_custom_bind_is_noted(place: Place) -> None:
    notes = place.load("{ gateway: { customBindHost: '10.0.0.1' } }").settings.notes
    assert any("gateway.customBindHost has no effect unless" in note for note in notes)


def test_tailnet_listens_on_the_machines_address_there(place: Place) -> None:
    place.tailnet = "100.64.1.2"
    hosts = place.load("{ gateway: { bind: 'tailnet' } }").settings.listen.hosts
    assert hosts == ("100.64.1.2",)


def test_tailnet_without_such_an_address_is_an_error_and_no_wider_bind(place: Place) -> None:
    assert place.issue("{ gateway: { bind: 'tailnet' } }").path == "gateway.bind"
    place.overrides = Overrides(bind="tailnet")
    assert place.issue("{}").path == "--bind"


def test_the_tailnet_address_is_looked_up_without_sending_anything() -> None:
    address = find_tailnet_address()
    assert address is None or socket.inet_aton(address)
    assert ip_network("100.64.0.0/10") == TAILNET


def test_an_unreachable_network_has_no_tailnet_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", unreachable)
    assert find_tailnet_address() is None


def test_proxies_are_addresses_and_networks(place: Place) -> None:
    found = place.load(
        """{ gateway: { trustedProxies:
             ["127.0.0.1", " 10.0.0.0/8 ", "::1", "fd00::/8", "::ffff:1.2.3.4",
              "::ffff:10.1.0.0/112"]
           } }"""
    ).settings.trusted_proxies
    expected = ["127.0.0.1/32", "10.0.0.0/8", "::1/128", "fd00::/8", "1.2.3.4/32", "10.1.0.0/16"]
    assert list(map(str, found)) == expected


@pytest.mark.parametrize("text", ["*", *EVERYWHERE, "0.0.0.0/0", "::", "::/0", "::ffff:0:0/96"])
def test_a_proxy_that_trusts_everybody_is_refused(place: Place, text: str) -> None:
    issue = place.issue(f"{{ gateway: {{ trustedProxies: ['127.0.0.1', '{text}'] }} }}")
    assert issue.path == "gateway.trustedProxies.1"
    assert "would trust every address" in issue.message


@pytest.mark.parametrize("text", ["proxy.local", "10.0.0.1/8", "10.0.0.0/33", ""])
def test_a_proxy_that_is_no_network_is_refused(place: Place, text: str) -> None:
    issue = place.issue(f"{{ gateway: {{ trustedProxies: ['{text}'] }} }}")
    assert "must be an IP address, or a network" in issue.message


def test_tls_takes_files_relative_to_the_configuration(place: Place, tmp_path: Path) -> None:
    cert, key = place.write("c", "tls/cert.pem"), place.write("k", "key.pem")
    authority = tmp_path / "ca.pem"
    authority.write_text("a")
    text = """{ gateway: { tls: { enabled: true, certPath: "tls/cert.pem", keyPath: "./key.pem",
                caPath: "~/ca.pem" } } }"""
    assert place.load(text).settings.listen.tls == TlsSettings(str(cert), str(key), str(authority))
    assert place.load(text.replace("true", "false")).settings.listen.tls is None


def test_tls_without_files_is_an_error_for_each(place: Place) -> None:
    messages = place.messages(
        "{ gateway: { tls: { enabled: true, keyPath: 'gone.pem', caPath: '\\0' } } }"
    )
    assert messages == {
        "gateway.tls.certPath": "is required if TLS is enabled; certificates are not generated",
        "gateway.tls.keyPath": f"there is no file {place.state / 'gone.pem'}",
        "gateway.tls.caPath": "must be a path",
    }


def test_a_file_without_tls_client_authorities_is_complete(place: Place) -> None:
    place.write("c", "cert.pem")
    tls = "{ enabled: true, certPath: 'cert.pem', keyPath: 'cert.pem' }"
    found = place.load(f"{{ gateway: {{ tls: {tls} }} }}").settings.listen.tls
    assert found is not None
    assert found.ca_path is None


def secret(place: Place, text: str = "{}") -> tuple[str, str | None]:
    auth = place.load(text).settings.auth
    return auth.mode.value, auth.secret.reveal() if auth.secret else None


def test_the_file_wins_over_the_environment_for_secrets(place: Place) -> None:
    place.env |= {"OPENSOUL_GATEWAY_TOKEN": "env", "OPENCLAW_GATEWAY_TOKEN": "claw"}
    assert secret(place, "{ gateway: { auth: { token: 'file' } } }") == ("token", "file")
    assert secret(place) == ("token", "env")
    del place.env["OPENSOUL_GATEWAY_TOKEN"]
    assert secret(place) == ("token", "claw")
    assert place.tokens_made == []
    place.overrides = Overrides(token=Secret("option"))
    assert secret(place, "{ gateway: { auth: { token: 'file' } } }") == ("token", "option")


def test_a_known_password_makes_the_mode_password(place: Place) -> None:
    place.env["OPENSOUL_GATEWAY_TOKEN"] = "token"
    file = "{ gateway: { auth: { password: 'file', token: 'x' } } }"
    assert secret(place, file) == ("password", "file")
    place.env["OPENSOUL_GATEWAY_PASSWORD"] = "env"
    assert secret(place) == ("password", "env")
    assert secret(place, "{ gateway: { auth: { mode: 'token' } } }") == ("token", "token")


def test_a_token_given_with_the_command_is_used_whatever_else_is_there(place: Place) -> None:
    place.env["OPENSOUL_GATEWAY_PASSWORD"] = "env"
    place.overrides = Overrides(token=Secret("option"))
    assert secret(place) == ("token", "option")
    place.overrides = Overrides(token=Secret("option"), password=Secret("pass"))
    assert secret(place) == ("password", "pass")
    place.overrides = Overrides(auth_mode="token", password=Secret("pass"))
    assert secret(place) == ("token", GENERATED)


def test_mode_password_needs_a_password(place: Place) -> None:
    issue = place.issue("{ gateway: { auth: { mode: 'password', token: 'x' } } }")
    assert issue.path == "gateway.auth.password"
    assert "OPENSOUL_GATEWAY_PASSWORD" in issue.message


@pytest.mark.parametrize("text", ["", "  ", "a\\n", " a", "a\\u0000b"])
def test_a_secret_that_no_client_could_send_is_an_error(place: Place, text: str) -> None:
    for key in ("token", "password"):
        issue = place.issue(f"{{ gateway: {{ auth: {{ {key}: '{text}' }} }} }}")
        assert issue.path == f"gateway.auth.{key}"
        assert issue.message.startswith("must not")
    assert place.tokens_made == []


def test_secrets_may_be_in_any_language(place: Place) -> None:
    assert secret(place, "{ gateway: { auth: { token: 'пароль 密码' } } }") == (
        "token",
        "пароль 密码",
    )


@pytest.mark.parametrize("kind", ["TOKEN", "PASSWORD"])
def test_an_empty_secret_variable_is_an_error(place: Place, kind: str) -> None:
    place.env[f"OPENSOUL_GATEWAY_{kind}"] = ""
    issue = place.issue("{}")
    assert str(issue) == f"- environment OPENSOUL_GATEWAY_{kind}: must not be empty"


def test_an_empty_secret_option_is_an_error(place: Place) -> None:
    place.overrides = Overrides(token=Secret(""))
    assert str(place.issue("{}")) == "- command line --token: must not be empty"


def test_an_unknown_auth_option_is_an_error(place: Place) -> None:
    place.overrides = Overrides(auth_mode="open")
    assert str(place.issue("{}")) == "- command line --auth: must be one of token, password, none"


def test_a_state_directory_that_cannot_keep_a_token_is_an_error(place: Place) -> None:
    place.refusal = PermissionError(13, "Permission denied")
    issue = place.issue("{}")
    assert issue.path == "gateway.auth.token"
    assert f"none can be generated in {place.state}: Permission denied" in issue.message


def test_no_authentication_is_for_loopback_only(place: Place) -> None:
    none = "mode: 'none'"
    assert secret(place, f"{{ gateway: {{ auth: {{ {none} }} }} }}") == ("none", None)
    local = f"{{ gateway: {{ auth: {{ {none} }}, bind: 'custom', customBindHost: '127.0.0.2' }} }}"
    assert secret(place, local) == ("none", None)
    issue = place.issue(f"{{ gateway: {{\n auth: {{\n {none} }}, bind: 'lan' }} }}")
    assert (issue.path, issue.line) == ("gateway.auth.mode", 3)
    assert EVERYWHERE[0] in issue.message


def test_no_authentication_by_option_is_for_loopback_only_too(place: Place) -> None:
    place.overrides = Overrides(auth_mode="none")
    assert secret(place) == ("none", None)
    place.overrides = Overrides(auth_mode="none", bind="lan")
    assert place.issue("{}").path == "--auth"


def test_a_generated_token_is_enough_beyond_loopback(place: Place) -> None:
    found = place.load("{ gateway: { bind: 'lan' } }").settings
    assert found.auth.secret == Secret(GENERATED)


def test_limits_are_turned_into_seconds(place: Place) -> None:
    found = place.load(
        """{ gateway: {
             auth: { rateLimit: { maxAttempts: 2, windowMs: 1500, lockoutMs: 500,
                                  maxAddresses: 3 } },
             shutdown: { lingerSeconds: 0.25, graceSeconds: 0.5 },
             http: { endpoints: { chatCompletions: { enabled: true, maxBodyBytes: 9,
               bodyTimeoutMs: 1500, keepaliveMs: 250, writeTimeoutMs: 2000 } } } } }"""
    ).settings
    assert found.auth.lockout == LockoutSettings(2, 1.5, 0.5, 3)
    assert found.chat == ChatEndpointSettings(True, 9, 1.5, 0.25, 2.0)
    assert (found.shutdown_linger, found.shutdown_grace) == (0.25, 0.5)


@pytest.mark.parametrize("seconds", ["-1", "601", "Infinity"])
def test_clients_get_ten_minutes_to_leave_at_most(place: Place, seconds: str) -> None:
    issue = place.issue(f"{{ gateway: {{ shutdown: {{ lingerSeconds: {seconds} }} }} }}")
    assert issue.path == "gateway.shutdown.lingerSeconds"
