"""TLS in front of a Temporal server, with an authority of its own, as a self-hosted one or Temporal Cloud has it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import socketserver
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path


class Authority:
    """Makes certificates."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        ours = self._signed(self._name, self._key, x509.BasicConstraints(ca=True, path_length=0))
        self.certificate = folder / f"{name}.pem"
        self.certificate.write_bytes(ours.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> Pair:
        """For a server on 127.0.0.1, or for a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        loopback = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        made = self._signed(subject, key, loopback)
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        pair.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pair

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(minutes=5))
        builder = builder.not_valid_after(now + datetime.timedelta(hours=1))
        return builder.add_extension(extension, critical=False).sign(self._key, hashes.SHA256())


@dataclass
class Front:
    """What came through, and under which client certificates."""

    address: str = ""
    sent: bytearray = field(default_factory=bytearray)
    clients: set[str] = field(default_factory=set)

    def saw_api_key(self, key: str) -> bool:
        """Whether a request carried it; such keys are of HPACK's five-bit letters, and `Bearer ` fills whole bytes."""
        codes = {letter: number for number, letter in enumerate("012aceiost")}
        bits = "".join(f"{codes[letter]:05b}" for letter in key)
        return int(bits, 2).to_bytes(len(bits) // 8, "big") in self.sent


@contextlib.contextmanager
def tls_front(target: str, server: Pair, clients: Authority) -> Iterator[Front]:
    """Ends TLS on a port of its own, asks every client for a certificate, and passes on to the target."""
    front, ready, loop = Front(), threading.Event(), asyncio.new_event_loop()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(clients.certificate))
    context.load_cert_chain(server.certificate, server.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        subject = dict(pair[0] for pair in writer.get_extra_info("peercert")["subject"])
        front.clients.add(subject["commonName"])
        host, _, port = target.rpartition(":")
        there = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pass_on(reader, there[1], front.sent), pass_on(there[0], writer, bytearray()))

    async def run() -> None:
        listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        front.address = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        ready.set()
        with contextlib.suppress(asyncio.CancelledError):
            await listening.serve_forever()

    task = loop.create_task(run())
    thread = threading.Thread(target=lambda: loop.run_until_complete(task))
    thread.start()
    try:
        assert ready.wait(10)
        yield front
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        for left in asyncio.all_tasks(loop):
            left.cancel()
        loop.run_until_complete(asyncio.sleep(0.1))
        loop.close()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray) -> None:
    """Copy until either end closes."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            seen += data
            writer.write(data)
            await writer.drain()
    writer.close()


class Refusal(socketserver.StreamRequestHandler):
    """Enough of HTTP/2 to answer every gRPC call with UNAUTHENTICATED, as a server does that refuses an API key."""

    SETTINGS, ACKNOWLEDGED = bytes(3) + b"\x04\x00" + bytes(4), bytes(3) + b"\x04\x01" + bytes(4)
    HEADERS = {b"content-type": b"application/grpc", b"grpc-status": b"16", b"grpc-message": b"Request unauthorized."}

    def handle(self) -> None:
        self.rfile.read(24)  # the preface
        self.wfile.write(self.SETTINGS)
        while len(head := self.rfile.read(9)) == 9:
            body, kind, flags = self.rfile.read(int.from_bytes(head[:3])), head[3], head[4]
            if kind == 4 and not flags:
                self.wfile.write(self.ACKNOWLEDGED)
            elif kind == 6 and not flags:
                self.wfile.write(head[:4] + b"\x01" + head[5:] + body)
            elif kind == 1:
                block = b"\x88" + b"".join(  # 200, then literals
                    bytes([0, len(name)]) + name + bytes([len(value)]) + value for name, value in self.HEADERS.items()
                )
                self.wfile.write(len(block).to_bytes(3) + b"\x01\x05" + head[5:] + block)


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """A server, without TLS, that lets nobody in; its address."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refusal) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
