"""Which URLs of callers are looked at: https on a few ports, in one spelling.

Programs disagree about odd URLs, and what one checks is then not what the other asks for. So a URL is taken
apart here, once, with less allowed than RFC 3986 does, and only its parts are used afterwards.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, cast

__all__ = ["Origin", "Policy", "Target", "UrlNotAllowed"]

_LONGEST = 2048
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<target>[/?][^#]*)?(?P<fragment>#.*)?"
)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(?P<port>[1-9][0-9]{0,4}))?")
# RFC 1123. A last label that begins with a digit would be a number to inet_aton and to browsers.
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?")
_DEFAULT_PORTS = {"https": 443, "http": 80}


class UrlNotAllowed(ValueError):
    """The URL is not one that we ask for. The text says why, and names no address of ours."""


@dataclass(frozen=True)
class Origin:
    """Scheme, host (lower case; of IPv6 without brackets) and port."""

    scheme: Literal["http", "https"]
    host: str
    port: int


@dataclass(frozen=True)
class Target:
    """What a URL asks for. `trusted`: the operator has named its origin."""

    origin: Origin
    path: str
    trusted: bool

    @property
    def host_header(self) -> str:
        host = f"[{self.origin.host}]" if ":" in self.origin.host else self.origin.host
        usual = self.origin.port == _DEFAULT_PORTS[self.origin.scheme]
        return host if usual else f"{host}:{self.origin.port}"


@dataclass(frozen=True)
class Policy:
    """`ports` are those of public hosts. `trusted` origins were named by the operator: they may be http, on
    any port and in a private network."""

    ports: Collection[int] = (443,)
    trusted: Collection[Origin] = field(default_factory=frozenset)

    @classmethod
    def of(cls, ports: str, trusted: str) -> Policy:
        """From settings: lists with commas. ValueError naming the part that is wrong."""
        return cls(
            ports=frozenset(_port_of(part) for part in _parts(ports)),
            trusted=frozenset(_origin_of(part) for part in _parts(trusted)),
        )

    def target(self, url: str) -> Target:
        """What `url` asks for; UrlNotAllowed. The host's addresses are not looked at here."""
        origin, path = _split(url)
        if origin in self.trusted:
            return Target(origin, path, trusted=True)
        if origin.scheme != "https":
            raise UrlNotAllowed("only https:// is allowed")
        if origin.port not in self.ports:
            raise UrlNotAllowed(f"port {origin.port} is not allowed")
        return Target(origin, path, trusted=False)


def _split(url: str) -> tuple[Origin, str]:
    if len(url) > _LONGEST or not url.isascii() or any(ord(each) <= 32 or ord(each) == 127 for each in url):
        raise UrlNotAllowed(f"a URL is at most {_LONGEST} printable ASCII characters without spaces")
    match = _URL.fullmatch(url)
    if match is None or "\\" in url:
        raise UrlNotAllowed("this is no absolute URL")
    scheme = match["scheme"].lower()
    if scheme not in _DEFAULT_PORTS:
        raise UrlNotAllowed("only https:// is allowed")
    if "@" in match["authority"]:
        raise UrlNotAllowed("a user name or password in a URL is not sent")
    if match["fragment"]:
        raise UrlNotAllowed("a fragment (#...) is not sent")
    authority = _AUTHORITY.fullmatch(match["authority"])
    if authority is None:
        raise UrlNotAllowed("its host or port is not spelt as one")
    port = int(authority["port"] or _DEFAULT_PORTS[scheme])
    if port > 65_535:
        raise UrlNotAllowed("there is no such port")
    path = match["target"] or "/"
    scheme_ = cast("Literal['http', 'https']", scheme)
    return Origin(scheme_, _host(authority["host"]), port), path if path.startswith("/") else f"/{path}"


def _host(text: str) -> str:
    """A name in lower case, or an IP address in its one usual spelling; UrlNotAllowed."""
    host = text.lower()
    if host.startswith("["):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise UrlNotAllowed("its host is no IPv6 address") from None
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        pass
    if len(host) > 253 or not _NAME.fullmatch(host):
        raise UrlNotAllowed("its host is neither a name nor an address in the usual spelling")
    return host


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _port_of(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,4}", text) or int(text) > 65_535:
        raise ValueError(f"{text!r} is no port")
    return int(text)


def _origin_of(text: str) -> Origin:
    try:
        origin, path = _split(text)
    except UrlNotAllowed as error:
        raise ValueError(f"{text!r} is no origin like https://models.example: {error}") from None
    if path != "/" or text.endswith("/"):
        raise ValueError(f"{text!r} is more than an origin like https://models.example")
    return origin
