"""Instructions of one proxied request: `python3 benches/request.py target/release/switchback`.

The real binary runs under callgrind with one worker, for two numbers of requests; the difference is free of
what starting costs. Clients and origins are here, where nobody counts. Everything of the default
configuration is on: split 95/5, sticky key, counts, request id, forwarded headers, timeouts. It must never
count a run in which a request failed.
"""

import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

FEW, MANY = 2_000, 6_000
CONNECTIONS = 64
BODY = b"x" * 1024
START_SECONDS, RUN_SECONDS = 60, 120
ANSWER = b"".join([
    b"HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\nContent-Type: text/plain\r\n",
    b"Content-Length: %d\r\nCache-Control: no-cache\r\n\r\n" % len(BODY),
    BODY,
])


def origin():
    """An origin that answers every head alike; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)

    def serve(conn):
        while piece := conn.recv(1 << 16):
            conn.sendall(ANSWER * piece.count(b"\r\n\r\n"))

    def accept():
        while True:
            conn, _ = listener.accept()
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=serve, args=(conn,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def head(number):
    return (
        f"GET /api/items/{number % 256}?q=1 HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: load/1.0\r\n"
        f"Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nX-User-Id: u{number % 997}\r\n\r\n"
    ).encode()


def load(port, total):
    """Sends `total` requests, each connection one at a time."""
    ready, sent, done, until = selectors.DefaultSelector(), 0, 0, time.monotonic() + RUN_SECONDS
    for _ in range(CONNECTIONS):
        conn = socket.create_connection(("127.0.0.1", port), timeout=10)
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ready.register(conn, selectors.EVENT_READ, bytearray())
        conn.sendall(head(sent))
        sent += 1
    while done < total:
        if time.monotonic() > until:
            sys.exit(f"{done} of {total} requests were answered in time")
        for key, _ in ready.select(1):
            piece = key.fileobj.recv(1 << 16)
            key.data.extend(piece)
            if not piece or not key.data.startswith(b"HTTP/1.1 200"[: len(key.data)]):
                sys.exit(f"a request failed: {bytes(key.data[:60])}")
            if not key.data.endswith(BODY):
                continue
            key.data.clear()
            done += 1
            if sent < total:
                key.fileobj.sendall(head(sent))
                sent += 1
    for key in list(ready.get_map().values()):
        key.fileobj.close()


def counted(binary, folder, ports, total):
    """Instructions of a run with so many requests."""
    web, out = free_port(), folder / f"callgrind.{total}"
    config = folder / "request.yaml"
    config.write_text(
        f"workers: 1\nstateDir: {folder}/state\nadmin: {{ address: 'unix:{folder}/admin' }}\n"
        f"listeners: [{{ name: web, address: '127.0.0.1:{web}' }}]\n"
        f"upstreams: {{ stable: 'http://127.0.0.1:{ports[0]}', canary: 'http://127.0.0.1:{ports[1]}' }}\n"
        "routes: [{ name: all, split: { stable: 95, canary: 5 }, sticky: { by: [{ header: x-user-id }] } }]\n"
    )
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", binary, "run", "-c", config]
    with open(folder / "log", "wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as proxy:
        try:
            until = time.monotonic() + START_SECONDS
            while True:
                try:
                    socket.create_connection(("127.0.0.1", web), timeout=1).close()
                    break
                except OSError:
                    if time.monotonic() > until or proxy.poll() is not None:
                        sys.exit(f"the proxy did not start:\n{(folder / 'log').read_text()}")
                    time.sleep(0.1)
            load(web, total)
        finally:
            proxy.terminate()
            proxy.wait(START_SECONDS)
    lines = [line.split() for line in out.read_text(errors="replace").splitlines()]
    return next(int(line[1]) for line in lines if line[:1] == ["totals:"])


def main():
    binary = sys.argv[1] if len(sys.argv) > 1 else "target/release/switchback"
    ports = [origin(), origin()]
    with tempfile.TemporaryDirectory() as folder:
        few, many = (counted(binary, Path(folder), ports, total) for total in (FEW, MANY))
    print(f"{(many - few) / (MANY - FEW):,.0f} instructions per request")


main()
