"""TLS in front of the tests' plain servers: from the first byte for Redis, after asking for Postgres."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

#: What a Postgres client sends to ask for TLS: the length 8 and the code 80877103 (protocol 3, "SSLRequest").
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)


@contextlib.contextmanager
def tls_gateway(
    context: ssl.SSLContext, open_upstream: Callable[[], socket.socket], *, asks_first: bool
) -> Iterator[int]:
    """Serve TLS on a free port of localhost and pass everything on, until the block ends.

    Args:
        context: the server's certificate.
        open_upstream: makes a connection to the plain server.
        asks_first: the client asks for TLS in the clear first, as Postgres clients do.
    """
    listener = socket.create_server(("localhost", 0))

    def answer(client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            if asks_first:
                if client.recv(8, socket.MSG_WAITALL) != _SSL_REQUEST:
                    return
                client.sendall(b"S")
            with context.wrap_socket(client, server_side=True) as inner, open_upstream() as upstream:
                _join(inner, upstream)

    def listen() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=answer, args=(client,), daemon=True).start()

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _join(first: socket.socket, second: socket.socket) -> None:
    back = threading.Thread(target=_pump, args=(second, first), daemon=True)
    back.start()
    _pump(first, second)
    back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
