"""URLs of callers: which are not asked for, and what is connected to for those that are."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tasks.outbound import Fetcher, FetchFailed, Policy, UrlNotAllowed
from tasks.outbound.addresses import is_never_allowed, is_public
from tests.web_server import NAME, WebServer, web_server

PUBLIC = "93.184.215.14"

NAMES = {
    "example.com": [PUBLIC],
    "localhost": ["127.0.0.1"],
    "localtest.me": ["127.0.0.1"],
    "127.0.0.1.nip.io": ["127.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "intranet": ["10.1.2.3"],
    "mixed.example": [PUBLIC, "10.0.0.1"],
    "mixed-six.example": [PUBLIC, "::1"],
    "xn--nxasmq6b.example": ["192.168.1.1"],
    "scoped.example": ["fe80::1%eth0"],
}


def find(host: str, port: int) -> Sequence[str]:
    """Names from the table; addresses as the system reads them, which is in every spelling there is."""
    if host in NAMES:
        return NAMES[host]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return [str(address[0]) for *_, address in found]


REFUSED = [
    # loopback, in every spelling
    "https://localhost/", "https://LOCALHOST/", "https://localhost./", "https://localtest.me/",
    "https://127.0.0.1/", "https://127.0.0.1./", "https://127.1/", "https://127.0.1/", "https://2130706433/",
    "https://0x7f000001/", "https://0x7f.0x0.0x0.0x1/", "https://0x7f.1/", "https://017700000001/",
    "https://0177.0.0.1/", "https://0177.0.0.01/", "https://127.255.255.254/", "https://127.0.0.1.nip.io/",
    "https://%31%32%37.0.0.1/", "https://\uff11\uff12\uff17.0.0.1/", "https://\u2460\u2461\u2466.0.0.1/",
    "https://[::1]/", "https://[0:0:0:0:0:0:0:1]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/",
    "https://[::127.0.0.1]/", "https://[64:ff9b::7f00:1]/", "https://[64:ff9b::127.0.0.1]/",
    "https://[64:ff9b:1::7f00:1]/", "https://[2002:7f00:1::]/", "https://[2001:0:7f00:1::]/",
    "https://[::1%25lo]/", "https://[::1%lo]/", "https://0/", "https://0.0.0.0/", "https://[::]/",
    # private, link-local, metadata, special
    "https://10.0.0.1/", "https://172.16.0.1/", "https://172.31.255.255/", "https://192.168.0.1/",
    "https://3232235521/", "https://100.64.0.1/", "https://169.254.169.254/latest/meta-data/",
    "https://2852039166/", "https://0xa9fea9fe/", "https://0251.0376.0251.0376/", "https://[fd00:ec2::254]/",
    "https://[::ffff:169.254.169.254]/", "https://[64:ff9b::a9fe:a9fe]/", "https://[2002:a9fe:a9fe::]/",
    "https://metadata.google.internal/", "https://intranet/", "https://100.100.100.200/",
    "https://168.63.129.16/", "https://192.0.0.192/", "https://192.0.0.8/", "https://192.88.99.1/",
    "https://198.18.0.1/", "https://203.0.113.7/", "https://224.0.0.1/", "https://239.1.1.1/",
    "https://240.0.0.1/", "https://255.255.255.255/", "https://[fe80::1]/", "https://[fec0::1]/",
    "https://[fc00::1]/", "https://[ff02::1]/", "https://[2001:db8::1]/", "https://[100::1]/",
    "https://[3fff::1]/", "https://[5f00::1]/",
    # one of several addresses is enough
    "https://mixed.example/", "https://mixed-six.example/", "https://xn--nxasmq6b.example/",
    "https://scoped.example/",
    # other schemes, ports and people
    "http://example.com/", "HTTP://example.com/", "ftp://example.com/", "file:///etc/passwd",
    "file://localhost/etc/passwd", "gopher://example.com/", "data:,x", "javascript:alert(1)", "gs://bucket/x",
    "redis://example.com:6379/", "//example.com/", "example.com", "https:example.com", "https:/example.com",
    "https://example.com:80/", "https://example.com:22/", "https://example.com:6379/",
    "https://example.com:0/", "https://example.com:00443/", "https://example.com:65536/",
    "https://example.com:99999/", "https://example.com:-1/", "https://example.com:+443/",
    "https://example.com:4\u06643/", "https://example.com:/", "https://user@example.com/",
    "https://user:password@example.com/", "https://example.com@127.0.0.1/", "https://127.0.0.1@example.com/",
    "https://:@example.com/", "https://example.com:443@127.0.0.1/",
    # spellings that parsers disagree about
    "https://example.com\\@127.0.0.1/", "https://127.0.0.1\\.example.com/", "https:\\\\127.0.0.1/",
    "https://example.com#@127.0.0.1/", "https://example.com/#fragment", "https://exa mple.com/",
    "https://example.com/\r\nHost: other", "https://example.com/\t", " https://example.com/",
    "https://example.com/ ", "https://exa\u0000mple.com/", "https://\u2139xample.com/",
    "https://example.com\u3002/", "https://ex\u00e4mple.com/", "https://-example.com/", "https://exam_ple.com/",
    "https://example..com/", "https://.example.com/", "https://[127.0.0.1]/", "https://[::1/", "https://::1/",
    "https://[]/", "https://", "https:///", "https://?", "", "https://" + "a" * 64 + ".com/",
    "https://example.com/" + "a" * 2048,
    # nobody knows it
    "https://nowhere.invalid/", "https://1.2.3.4.5/",
]  # fmt: skip


def test_the_table_has_no_url_twice() -> None:
    assert len(set(REFUSED)) == len(REFUSED) >= 46


@pytest.mark.parametrize("url", REFUSED)
def test_is_not_asked_for(url: str) -> None:
    with pytest.raises(UrlNotAllowed) as refused, Fetcher(Policy(), resolve=find).get(url, within_s=2):
        pass
    for address in (addresses for known in NAMES.values() for addresses in known):
        assert address not in str(refused.value)


@pytest.mark.parametrize("url", [
    "https://example.com", "https://example.com/", "HTTPS://EXAMPLE.com/a?b=c&d=%20", "https://example.com?x",
    "https://example.com:443/", f"https://{PUBLIC}/", "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/",
    "https://1e100.example.com/x@y:z",
])  # fmt: skip
def test_an_ordinary_url_is_taken_apart(url: str) -> None:
    target = Policy().target(url)
    assert (target.origin.scheme, target.origin.port, target.trusted) == ("https", 443, False)
    assert target.path.startswith("/")
    assert target.host_header == target.host_header.lower()


@pytest.mark.parametrize("text", [PUBLIC, "8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450::1"])
def test_public_addresses_are(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))
    assert not is_never_allowed(ipaddress.ip_address(text))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebServer]:
    with web_server(tmp_path) as server:
        yield server


class Names:
    """A resolver that says something else each time."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return [self.answers[min(len(self.asked), len(self.answers)) - 1]]


def fetcher(
    server: WebServer, names: Names | None = None, *, trusted: str | None = None, **more: object
) -> Fetcher:
    policy = Policy.of("443", server.origin if trusted is None else trusted)
    more.setdefault("ssl_context", server.client_tls)
    return Fetcher(policy, resolve=names or Names("127.0.0.1"), **more)  # type: ignore[arg-type]


def body(found: Fetcher, url: str, within_s: float = 5) -> bytes:
    with found.get(url, within_s=within_s) as answer:
        return b"".join(answer.chunks)


def test_name_stays_in_sni_and_host_while_the_address_is_pinned(server: WebServer) -> None:
    server.pages["/model?version=2"] = b"weights" * 50_000
    names = Names("127.0.0.1", "10.0.0.1")
    with fetcher(server, names).get(f"{server.origin}/model?version=2", within_s=5) as answer:
        assert answer.size == 350_000
        assert b"".join(answer.chunks) == b"weights" * 50_000
    assert names.asked == [NAME]
    assert server.names == [NAME]
    (asked,) = server.requests
    assert asked["host"] == f"{NAME}:{server.port}"
    assert asked["accept-encoding"] == "identity"
    assert not {"authorization", "cookie"} & set(asked)


def test_a_name_that_changes_its_mind_is_asked_once(server: WebServer) -> None:
    names = Names(PUBLIC, "127.0.0.1")
    policy = Policy(ports=(server.port,))
    found = Fetcher(policy, resolve=names, timeout_s=0.3, ssl_context=server.client_tls)
    with pytest.raises(FetchFailed):
        body(found, f"{server.origin}/")
    assert names.asked == [NAME]
    assert server.connections == 0


def test_an_origin_is_trusted_as_it_was_named_and_in_no_other_way(server: WebServer) -> None:
    found = fetcher(server)
    other_port = server.port + 1
    for url in (
        f"http://{NAME}:{server.port}/",
        f"https://{NAME}:{other_port}/",
        f"https://other.example:{server.port}/",
        f"https://127.0.0.1:{server.port}/",
    ):
        with pytest.raises(UrlNotAllowed):
            body(found, url)
    assert server.connections == 0


@pytest.mark.parametrize("address", [
    "169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254", "::ffff:127.0.0.1", "0.0.0.0",
    "::", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "224.0.0.1", "fe80::1",
])  # fmt: skip
def test_even_a_trusted_name_does_not_lead_to_metadata(server: WebServer, address: str) -> None:
    with pytest.raises(UrlNotAllowed):
        body(fetcher(server, Names(address)), f"{server.origin}/")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(server: WebServer, status: int) -> None:
    server.pages["/"] = (status, {"Location": "http://169.254.169.254/latest/meta-data/"}, b"")
    names = Names("127.0.0.1")
    with pytest.raises(FetchFailed, match=f"answered {status}: redirects are not followed"):
        body(fetcher(server, names), f"{server.origin}/")
    assert (len(names.asked), len(server.requests)) == (1, 1)


@pytest.mark.parametrize(("page", "reason"), [
    ((404, {}, b""), "answered 404"),
    ((206, {}, b"part"), "answered 206"),
    ((500, {}, b"secret of the host"), "answered 500"),
    ((200, {"Content-Encoding": "gzip"}, b"x"), "compressed"),
    ((200, {"Content-Length": ""}, b"x"), "how long"),
    ((200, {"Content-Length": "10"}, b"short"), "broke off"),
])  # fmt: skip
def test_only_a_whole_plain_file_is_taken(
    server: WebServer, page: tuple[int, dict[str, str], bytes], reason: str
) -> None:
    server.pages["/"] = page
    with pytest.raises(FetchFailed, match=reason) as failed:
        body(fetcher(server), f"{server.origin}/")
    assert "secret" not in str(failed.value)


def test_a_certificate_of_nobody_or_for_another_name_is_refused(server: WebServer) -> None:
    with pytest.raises(FetchFailed, match="certificate"):
        body(fetcher(server, ssl_context=None), f"{server.origin}/")
    other = f"https://other.example:{server.port}"
    with pytest.raises(FetchFailed, match="certificate"):
        body(fetcher(server, trusted=other), f"{other}/")
    assert server.requests == []


def test_a_trickle_does_not_keep_us(server: WebServer) -> None:
    started = time.monotonic()
    with pytest.raises(FetchFailed, match="too slow"):
        body(fetcher(server), f"{server.origin}/trickle", within_s=0.5)
    assert time.monotonic() - started < 3


def test_a_silent_host_and_a_silent_resolver_are_given_up(server: WebServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        origin = f"https://{NAME}:{silent.getsockname()[1]}"
        with pytest.raises(FetchFailed, match="silent"):
            body(fetcher(server, trusted=origin, timeout_s=0.3), f"{origin}/")

    def slow(host: str, port: int) -> list[str]:
        time.sleep(1)
        return ["127.0.0.1"]

    with pytest.raises(UrlNotAllowed):
        body(Fetcher(Policy(), resolve=slow, timeout_s=0.1), "https://example.com/")


@pytest.mark.parametrize(
    "origins", ["models.example", "https://models.example/path", "https://u@h", "ftp://h", "https://h/"]
)
def test_an_origin_in_the_settings_is_nothing_more(origins: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        Policy.of("443", origins)


@pytest.mark.parametrize("ports", ["0", "70000", "http", "443;80", "-1"])
def test_ports_in_the_settings_are_numbers(ports: str) -> None:
    with pytest.raises(ValueError, match="port"):
        Policy.of(ports, "")


def test_proxies_of_the_environment_are_not_used(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.pages["/"] = b"weights"
    assert body(fetcher(server), f"{server.origin}/") == b"weights"
