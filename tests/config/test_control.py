"""Which pages and names the control plane is reached by."""

from __future__ import annotations

import pytest

from opensoul.domain.settings import ControlSettings

from .place import Place


def test_nothing_is_allowed_unless_it_is_listed(place: Place) -> None:
    assert place.load("{}").settings.control == ControlSettings()


def test_origins_and_hosts_are_kept_in_lower_case(place: Place) -> None:
    found = place.load(
        """{ gateway: { allowedHosts: ["Box.Lan", "panel.example."], controlUi: {
          allowedOrigins: ["https://Panel.example", "http://[::1]:5173", "app://x"] } } }"""
    ).settings
    assert found.control == ControlSettings(
        ("https://panel.example", "http://[::1]:5173", "app://x"), ("box.lan", "panel.example")
    )
    assert not any("controlUi" in note for note in found.notes)


@pytest.mark.parametrize(
    "origin", ["*", "https://*", "panel.example", "https://panel.example/", "https://a b", "x://"]
)
def test_what_is_no_origin_is_an_error(place: Place, origin: str) -> None:
    issue = place.issue(f'{{ gateway: {{ controlUi: {{ allowedOrigins: ["{origin}"] }} }} }}')
    assert issue.path == "gateway.controlUi.allowedOrigins.0"
    assert "must be an origin" in issue.message


@pytest.mark.parametrize("host", ["*", "https://box", "box:80", "a b", "-box", "[::1]"])
def test_what_is_no_host_name_is_an_error(place: Place, host: str) -> None:
    issue = place.issue(f'{{ gateway: {{ allowedHosts: ["{host}"] }} }}')
    assert issue.path == "gateway.allowedHosts.0"
    assert "must be a host name" in issue.message


def test_origins_of_pages_for_http_are_kept_in_lower_case(place: Place) -> None:
    written = '{ gateway: { http: { cors: { origins: ["https://App.example", "*"] } } } }'
    assert place.load(written).settings.cors_origins == ("https://app.example", "*")
    assert place.load("{}").settings.cors_origins == ()


@pytest.mark.parametrize("origin", ["https://*", "*.example", "https://app.example/", "null"])
def test_cors_takes_no_patterns(place: Place, origin: str) -> None:
    issue = place.issue(f'{{ gateway: {{ http: {{ cors: {{ origins: ["{origin}"] }} }} }} }}')
    assert issue.path == "gateway.http.cors.origins.0"
    assert "must be an origin" in issue.message


def test_without_authentication_cors_does_not_admit_every_page(place: Place) -> None:
    issue = place.issue(
        '{ gateway: { auth: { mode: "none" }, http: { cors: { origins: ["https://a.b", "*"] } } } }'
    )
    assert issue.path == "gateway.http.cors.origins.1"
    assert "list the origins that may" in issue.message
