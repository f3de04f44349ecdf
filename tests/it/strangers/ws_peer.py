"""websockets' server and client.

`server` echoes on PORT, `server CERT KEY` over TLS; the path asks for something else. `client URL CASE...` prints one JSON
object of what each case came to. `hold URL` echoes once per line on its input, on one connection.
"""

import asyncio
import json
import os
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode

seen = []


# --- server ---

async def handle(connection):
    path, _, argument = connection.request.path[1:].partition("/")
    if path == "close":
        return await connection.close(int(argument), "r\u00e9ason")
    if path == "abort":
        await connection.send("last words")
        return connection.transport.abort()
    if path == "seen":
        return await connection.send(json.dumps(seen))
    if path == "headers":
        names = ("cookie", "origin", "sec-websocket-protocol", "sec-websocket-extensions", "x-own")
        return await connection.send(json.dumps({name: connection.request.headers.get(name) for name in names}))
    if path == "fragments":
        return await connection.send(part for part in ("one ", "two ", "three"))
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass
    seen.append([argument, connection.close_code, connection.close_reason])


def refuse(connection, request):
    if request.path == "/refuse":
        return connection.respond(403, "not for you\n")


def choose(connection, offered):
    return "chat" if "chat" in offered else None


async def run_server():
    tls = None
    if sys.argv[2:]:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(sys.argv[2], sys.argv[3])
    async with serve(handle, "127.0.0.1", int(os.environ["PORT"]), max_size=None,
                     select_subprotocol=choose, process_request=refuse, ping_interval=None, ssl=tls):
        await asyncio.Future()


# --- client ---

def opened(url, **options):
    return connect(url, max_size=None, proxy=None, ping_interval=None, open_timeout=20, **options)


async def texts(url):
    async with opened(url + "/echo") as connection:
        answers = []
        for text in ("", "hello", "na\u00efve \U0001f600", "x" * 125, "x" * 126, "x" * 65535, "x" * 65536):
            await connection.send(text)
            answers.append(await connection.recv() == text)
        return answers


async def binaries(url):
    async with opened(url + "/echo") as connection:
        answers = []
        for size in (0, 1, 1000, 1 << 20, 1 << 20):
            sent = os.urandom(size)
            await connection.send(sent)
            answers.append(await connection.recv() == sent)
        return answers


async def uncompressed(url):
    async with opened(url + "/echo", compression=None) as connection:
        sent = bytes(range(256)) * 4096
        await connection.send(sent)
        return [await connection.recv() == sent, connection.response.headers.get("sec-websocket-extensions")]


async def many_at_once(url):
    """Written without waiting, so that frames share segments."""
    async with opened(url + "/echo") as connection:
        async def write():
            for number in range(2000):
                await connection.send(str(number))
        writing = asyncio.create_task(write())
        right = [await connection.recv() == str(number) for number in range(2000)]
        await writing
        return all(right)


async def fragments(url):
    async with opened(url + "/echo") as connection:
        await connection.send(["one ", "two ", "three"])
        whole = await connection.recv()
    async with opened(url + "/fragments") as connection:
        return [whole, [part async for part in connection.recv_streaming()]]


async def pings(url):
    async with opened(url + "/echo") as connection:
        for payload in (b"", b"x" * 125):
            await asyncio.wait_for(await connection.ping(payload), 20)
        await connection.send("after")
        return await connection.recv()


async def handshake(url):
    headers = {"Cookie": "a=1; b=2", "X-Own": "kept"}
    async with opened(url + "/headers", subprotocols=["other", "chat"], origin="http://shop.test",
                      additional_headers=headers) as connection:
        answer = connection.response.headers
        return [connection.subprotocol, answer.get("sec-websocket-extensions"), json.loads(await connection.recv())]


async def refused(url):
    try:
        async with opened(url + "/refuse"):
            return "accepted"
    except InvalidStatus as error:
        return [error.response.status_code, error.response.body.decode()]


async def ended(connection):
    try:
        while True:
            await connection.recv()
    except ConnectionClosed:
        return [connection.close_code, connection.close_reason]


async def closed_by_server(url):
    outcomes = []
    for code in (CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.INTERNAL_ERROR, 3001, 4999):
        async with opened("%s/close/%d" % (url, code)) as connection:
            outcomes.append(await ended(connection))
    return outcomes


async def closed_by_client(url):
    for code in (1000, 1001, 3001, 4000):
        async with opened("%s/echo/%d" % (url, code)) as connection:
            await connection.close(code, "bye %d" % code)
    # No closing handshake at all.
    connection = await opened(url + "/echo/gone")
    connection.transport.abort()
    for _ in range(200):
        async with opened(url + "/seen") as connection:
            known = json.loads(await connection.recv())
        mine = sorted(entry for entry in known if entry[0])
        if len(mine) >= 5:
            return mine
        await asyncio.sleep(0.05)
    return mine


async def aborted_by_server(url):
    async with opened(url + "/abort") as connection:
        words = await connection.recv()
        return [words, (await ended(connection))[0]]


async def hold(url):
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with opened(url + "/echo") as connection:
        print("open", flush=True)
        while line := await reader.readline():
            await connection.send(line.decode().strip())
            print(await asyncio.wait_for(connection.recv(), 20), flush=True)


async def run_client(url, names):
    return {name: await globals()[name](url) for name in names}


if __name__ == "__main__":
    if sys.argv[1] == "server":
        asyncio.run(run_server())
    elif sys.argv[1] == "hold":
        asyncio.run(hold(sys.argv[2]))
    else:
        print(json.dumps(asyncio.run(run_client(sys.argv[2], sys.argv[3:]))))
