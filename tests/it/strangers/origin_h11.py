"""The echo contract of mod.rs on h11, which refuses what RFC 9112 does not allow."""

import os
import socket
import sys
import threading

import h11

LOG = os.open(os.environ["LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def receive(connection, sock):
    while True:
        event = connection.next_event()
        if event is not h11.NEED_DATA:
            return event
        if connection.they_are_waiting_for_100_continue:
            sock.sendall(connection.send(h11.InformationalResponse(status_code=100, headers=[])))
        connection.receive_data(sock.recv(65536))


def echoed(request, target, body):
    lines = b"".join(sorted(b"%s: %s\n" % pair for pair in request.headers))
    return b"%s %s\n%s\n%s" % (request.method, target, lines, body)


def answer(request, body):
    target = request.target
    path = target.split(b"?")[0]
    headers = [("x-origin", "h11"), ("x-twice", "one"), ("x-twice", "two")]
    kind, _, number = path[1:].partition(b"/")
    if kind == b"status":
        if number in (b"204", b"304"):
            return int(number), headers + ([("etag", '"v1"')] if number == b"304" else []), []
        pieces = [b"status %s\n" % number]
        return int(number), headers + [("content-length", str(len(pieces[0])))], pieces
    if path == b"/chunked":
        return 200, headers, [b"piece 0\n", b"piece 1\n", b"piece 2\n"]
    content = b"d" * int(number) if kind == b"down" else echoed(request, target, body)
    return 200, headers + [("content-length", str(len(content)))], [content]


def serve(sock, peer):
    connection = h11.Connection(h11.SERVER)
    while True:
        request = receive(connection, sock)
        if not isinstance(request, h11.Request):
            return
        body = bytearray()
        while True:
            event = receive(connection, sock)
            if isinstance(event, h11.EndOfMessage):
                break
            body += event.data
        os.write(LOG, b"%s %s %d %d\n" % (request.method, request.target, len(body), peer[1]))
        status, headers, pieces = answer(request, bytes(body))
        sock.sendall(connection.send(h11.Response(status_code=status, headers=headers)))
        for piece in pieces if request.method != b"HEAD" else []:
            sock.sendall(connection.send(h11.Data(data=piece)))
        sock.sendall(connection.send(h11.EndOfMessage()))
        if connection.our_state is h11.MUST_CLOSE:
            return
        connection.start_next_cycle()


def guarded(sock, peer):
    with sock:
        try:
            serve(sock, peer)
        except OSError:
            pass
        except h11.RemoteProtocolError as error:
            print("refused:", error, file=sys.stderr, flush=True)
            os.write(LOG, b"REFUSED %s\n" % str(error).encode())


listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])), backlog=128)
while True:
    accepted, address = listener.accept()
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=guarded, args=(accepted, address), daemon=True).start()
