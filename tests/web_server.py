"""A real https server on 127.0.0.1 that answers for `NAME`, with a certificate of its own authority."""

from __future__ import annotations

import ipaddress
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["NAME", "WebServer", "web_server"]

NAME = "models.example"


class WebServer:
    """`pages` are by path: body, or (status, headers, body). `requests` are the headers of each request, with
    its path as "path"; `connections` counts those that were made."""

    def __init__(self, directory: Path) -> None:
        self.pages: dict[str, bytes | tuple[int, dict[str, str], bytes]] = {}
        self.requests: list[dict[str, str]] = []
        self.names: list[str | None] = []
        self.connections = 0
        self.certificate = directory / "certificate.pem"
        self._key = directory / "key.pem"
        _make_certificate(self.certificate, self._key)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port = self._server.server_address[1]
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(self.certificate, self._key)
        self._tls.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def origin(self) -> str:
        return f"https://{NAME}:{self.port}"

    @property
    def client_tls(self) -> ssl.SSLContext:
        """What trusts this server, and nobody else."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def setup(self) -> None:
                served.connections += 1
                self.request = served._tls.wrap_socket(self.request, server_side=True)
                super().setup()

            def finish(self) -> None:
                with suppress(OSError):
                    super().finish()
                self.request.close()

            def do_GET(self) -> None:
                served.requests.append({**{k.lower(): v for k, v in self.headers.items()}, "path": self.path})
                if self.path == "/trickle":
                    return self._trickle()
                page = served.pages.get(self.path, (404, {}, b"nothing here"))
                status, headers, body = page if isinstance(page, tuple) else (200, {}, page)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    if value:
                        self.send_header(name, value)
                self.end_headers()
                with suppress(OSError):
                    self.wfile.write(body)
                self.close_connection = True
                return None

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def _trickle(self) -> None:
                """A header that never ends, a byte at a time."""
                self.close_connection = True
                with suppress(OSError):
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
                    for _ in range(100):
                        self.wfile.write(b"x")
                        time.sleep(0.05)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@contextmanager
def web_server(directory: Path) -> Iterator[WebServer]:
    server = WebServer(directory)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _make_certificate(certificate: Path, key_file: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName(
        [x509.DNSName(NAME), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(*pem))
