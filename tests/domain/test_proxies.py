"""Which proxy the environment names for a provider."""

from __future__ import annotations

import pytest

from opensoul.domain.models.proxies import is_this_machine, proxy_from_environment, read_proxy

HTTPS, HTTP = "https://api.example.com/v1", "http://api.example.com:8080/v1"
PROXY, OTHER = "http://proxy:3128", "http://other:3128"


@pytest.mark.parametrize(
    ("url", "env", "proxy"),
    [
        (HTTPS, {}, None),
        (HTTPS, {"HTTPS_PROXY": PROXY}, PROXY),
        (HTTPS, {"https_proxy": PROXY}, PROXY),
        (HTTPS, {"https_proxy": PROXY, "HTTPS_PROXY": OTHER}, PROXY),
        (HTTPS, {"https_proxy": "", "HTTPS_PROXY": PROXY}, PROXY),
        (HTTPS, {"HTTPS_PROXY": " "}, None),
        (HTTPS, {"HTTP_PROXY": PROXY}, None),
        (HTTP, {"HTTP_PROXY": PROXY, "HTTPS_PROXY": OTHER}, PROXY),
        (HTTP, {"ALL_PROXY": PROXY}, PROXY),
        (HTTPS, {"all_proxy": PROXY, "HTTPS_PROXY": OTHER}, OTHER),
        ("", {"ALL_PROXY": PROXY}, None),
        ("ftp://h/", {"ALL_PROXY": PROXY}, None),
        ("http://[::1/", {"ALL_PROXY": PROXY}, None),
    ],
)
def test_the_variable_for_the_scheme_names_the_proxy(
    url: str, env: dict[str, str], proxy: str | None
) -> None:
    assert proxy_from_environment(url, env) == proxy


@pytest.mark.parametrize(
    ("host", "exempt", "is_exempt"),
    [
        ("api.example.com", "*", True),
        ("api.example.com", "example.com", True),
        ("api.example.com", ".example.com", True),
        ("api.example.com", "*.example.com", True),
        ("example.com", ".example.com", True),
        ("API.Example.COM.", "example.com", True),
        ("api.example.com", "other.org, Example.com", True),
        ("api.example.com", "other.org example.com", True),
        ("notexample.com", "example.com", False),
        ("api.example.com", "api", False),
        ("api.example.com", " , .", False),
        ("api.example.com", "example.com:443", True),
        ("api.example.com", "example.com:8443", False),
        ("api.example.com:8443", "example.com:8443", True),
        ("api.example.com", "10.0.0.0/8", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3:443", True),
        ("10.1.2.3", "10.1.2.3:80", False),
        ("10.1.2.3", "1.2.3", False),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("[fd00::1]", "fd00::/8", True),
        ("[fd00::1]", "[fd00::1]", True),
        ("[fd00::1]", "[fd00::1]:443", True),
        ("[fd00::1]", "10.0.0.0/8", False),
    ],
)
def test_hosts_in_no_proxy_are_reached_directly(host: str, exempt: str, is_exempt: bool) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        found = proxy_from_environment(f"https://{host}/v1", {"ALL_PROXY": PROXY, name: exempt})
        assert found == (None if is_exempt else PROXY)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST.",
        "box.localhost",
        "127.0.0.1",
        "127.9.9.9",
        "127.1",
        "0.0.0.0",  # noqa: S104 - nothing is bound to it
        "::1",
        "::",
        "::ffff:127.0.0.1",
    ],
)
def test_this_machine_is_never_behind_a_proxy_of_the_environment(host: str) -> None:
    assert is_this_machine(host)
    shown = f"[{host}]" if ":" in host else host
    assert proxy_from_environment(f"http://{shown}:8080/v1", {"ALL_PROXY": PROXY}) is None


@pytest.mark.parametrize("host", ["localhost.example.com", "128.0.0.1", "10.0.0.1", "host", "::2"])
def test_other_hosts_are_not_this_machine(host: str) -> None:
    assert not is_this_machine(host)


@pytest.mark.parametrize(
    ("text", "scheme", "host"),
    [
        ("http://proxy:3128", "http", "proxy"),
        ("proxy:3128", "http", "proxy"),
        ("https://u:p@proxy", "https", "proxy"),
        ("HTTP://[::1]:8080/", "http", "::1"),
    ],
)
def test_the_url_of_a_proxy_is_read(text: str, scheme: str, host: str) -> None:
    url = read_proxy(text)
    assert (url.scheme, url.hostname) == (scheme, host)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("socks5://secret@proxy:1080", "SOCKS"),
        ("socks5h://proxy", "SOCKS"),
        ("socks://proxy", "SOCKS"),
        ("ftp://secret@proxy", "http://"),
        ("http://", "http://"),
        ("http://proxy:0", "http://"),
        ("http://proxy:secret", "http://"),
        ("http://[secret", "http://"),
        ("http://pro xy", "http://"),
        ("http://proxy\n", "http://"),
    ],
)
def test_an_unusable_proxy_is_refused_without_repeating_it(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as refused:
        read_proxy(text)
    assert "secret" not in str(refused.value)
