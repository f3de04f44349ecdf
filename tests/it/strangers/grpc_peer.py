"""grpcio's server and client without generated code: raw bytes in, raw bytes out.

`server` listens on PORT, `server CERT KEY` over TLS. `client ADDRESS CASE...` runs the cases one after the
other and prints one JSON object of what each came to; with TRUSTED in its environment it comes over TLS
and trusts whom that file names. Neither knows whether a proxy is between them.
"""

import json
import os
import signal
import sys
import threading
import time
from concurrent import futures

import grpc

SERVICE = "switchback.test.Strangers"
TINY = 20_000
cancelled = threading.Semaphore(0)


# --- server ---

def unary(request, context):
    sent = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-initial", sent.get("x-sent", "none")),))
    context.set_trailing_metadata((("x-final", "late"), ("x-bytes-bin", sent.get("x-bytes-bin", b""))))
    return request


def fail(request, context):
    code, _, details = request.decode().partition(" ")
    context.set_trailing_metadata((("x-why", "because"), ("grpc-status-details-bin", b"\x00\x01\xff")))
    context.abort(getattr(grpc.StatusCode, code), details)


def remaining(request, context):
    left = context.time_remaining()
    return b"none" if left is None or left > 1e6 else b"%d" % round(left)


def last_words(request, context):
    """How many calls were seen to be cancelled, waiting a little for the next."""
    return b"seen" if cancelled.acquire(timeout=10) else b"not seen"


def server_stream(request, context):
    count, size = map(int, request.split())
    for number in range(count):
        yield number.to_bytes(4, "big") + b"." * size


def broken_stream(request, context):
    for number in range(3):
        yield b"%d" % number
    context.set_trailing_metadata((("x-why", "halfway"),))
    context.abort(grpc.StatusCode.DATA_LOSS, "lost after three")


def endless(request, context):
    context.add_callback(cancelled.release)
    yield b"first"
    while context.is_active():
        time.sleep(0.02)


def die(request, context):
    yield b"first"
    yield b"second"
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)
    yield b"never"


def client_stream(requests, context):
    count = total = 0
    slow = dict(context.invocation_metadata()).get("x-slow")
    for request in requests:
        if slow and count % 200 == 0:
            time.sleep(0.005)
        count += 1
        total += len(request)
    return b"%d %d" % (count, total)


def bidi(requests, context):
    for request in requests:
        yield request


def serve():
    kinds = {
        grpc.unary_unary_rpc_method_handler: (unary, fail, remaining, last_words),
        grpc.unary_stream_rpc_method_handler: (server_stream, broken_stream, endless, die),
        grpc.stream_unary_rpc_method_handler: (client_stream,),
        grpc.stream_stream_rpc_method_handler: (bidi,),
    }
    handlers = {function.__name__: kind(function) for kind, all_of in kinds.items() for function in all_of}
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    address = "127.0.0.1:" + os.environ["PORT"]
    if sys.argv[2:]:
        cert, key = (open(name, "rb").read() for name in sys.argv[2:4])
        server.add_secure_port(address, grpc.ssl_server_credentials([(key, cert)]))
    else:
        server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


# --- client ---

class Cases:
    def __init__(self, address):
        # A port of its own for each process, no proxy of the environment, no quiet second attempt.
        options = [("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0)]
        if "TRUSTED" in os.environ:
            with open(os.environ["TRUSTED"], "rb") as roots:
                trusted = grpc.ssl_channel_credentials(roots.read())
            self.channel = grpc.secure_channel(address, trusted, options=options)
        else:
            self.channel = grpc.insecure_channel(address, options=options)

    def to(self, kind, method):
        return getattr(self.channel, kind)("/%s/%s" % (SERVICE, method))

    def unary(self):
        sent = (("x-sent", "kept as it is"), ("x-bytes-bin", b"\x00\xfe\xff"))
        answer, call = self.to("unary_unary", "unary").with_call(b"hello \x00\xff", metadata=sent, timeout=20)
        return done(call, answer == b"hello \x00\xff", initial=dict(call.initial_metadata()).get("x-initial"))

    def unary_empty(self):
        answer, call = self.to("unary_unary", "unary").with_call(b"", timeout=20)
        return done(call, answer == b"")

    def unary_large(self):
        large = os.urandom(3 << 20)
        answer, call = self.to("unary_unary", "unary").with_call(large, timeout=20)
        return done(call, answer == large)

    def unary_many(self):
        call = self.to("unary_unary", "unary")
        running = [call.future(b"%d" % number, timeout=20) for number in range(300)]
        return {"right": all(one.result() == b"%d" % number for number, one in enumerate(running))}

    def wait_for_server(self):
        answer, call = self.to("unary_unary", "unary").with_call(b"", timeout=20, wait_for_ready=True)
        return done(call, answer == b"")

    def status_of_each_code(self):
        return {code.name: failure(lambda: self.to("unary_unary", "fail")(
            b"%s d\xc3\xa9tails: 100%% %s" % (code.name.encode(), code.name.encode()), timeout=20))
            for code in grpc.StatusCode if code is not grpc.StatusCode.OK}

    def unknown_method(self):
        return failure(lambda: self.to("unary_unary", "missing")(b"", timeout=20))

    def timeout_reaches_the_server(self):
        answer = self.to("unary_unary", "remaining")(b"", timeout=100)
        return {"about": 98 <= int(answer) <= 100}

    def deadline(self):
        # The words are the client's own, and it has two for the same thing.
        return {"code": failure(lambda: list(self.to("unary_stream", "endless")(b"", timeout=0.5)))["code"]}

    def deadline_seen(self):
        return {"server": self.to("unary_unary", "last_words")(b"", timeout=20).decode()}

    def cancel(self):
        call = self.to("unary_stream", "endless")(b"", timeout=20)
        first = next(call)
        call.cancel()
        outcome = {"code": failure(lambda: list(call))["code"], "first": first.decode()}
        outcome["server"] = self.to("unary_unary", "last_words")(b"", timeout=20).decode()
        return outcome

    def server_stream(self):
        call = self.to("unary_stream", "server_stream")(b"500 1000", timeout=20)
        return done(call, in_order(call, 500))

    def no_message(self):
        call = self.to("unary_stream", "server_stream")(b"0 0", timeout=20)
        return done(call, list(call) == [])

    def client_stream(self):
        answer, call = self.to("stream_unary", "client_stream").with_call(
            (b"x" * number for number in range(300)), timeout=20)
        return done(call, answer == b"300 44850")

    def bidi(self):
        """Each message is answered before the next is sent."""
        turn, count = threading.Semaphore(1), 0

        def ask():
            for number in range(100):
                turn.acquire()
                yield b"%d" % number
        call = self.to("stream_stream", "bidi")(ask(), timeout=20)
        for number, answer in enumerate(call):
            count += answer == b"%d" % number
            turn.release()
        return done(call, count == 100)

    def broken_stream(self):
        got = []
        outcome = failure(lambda: got.extend(self.to("unary_stream", "broken_stream")(b"", timeout=20)))
        return outcome

    def tiny_down_to_a_slow_reader(self):
        call = self.to("unary_stream", "server_stream")(b"%d 1" % TINY, timeout=60)
        return done(call, in_order(call, TINY, pause=0.005))

    def tiny_up_to_a_slow_server(self):
        answer, call = self.to("stream_unary", "client_stream").with_call(
            (b"x" for _ in range(TINY)), metadata=(("x-slow", "1"),), timeout=60)
        return done(call, answer == b"%d %d" % (TINY, TINY))

    def tiny_both_ways(self):
        call = self.to("stream_stream", "bidi")((b"%d" % number for number in range(TINY)), timeout=60)
        right = sum(answer == b"%d" % number for number, answer in enumerate(call))
        return done(call, right == TINY)

    def killed_in_a_stream(self):
        got = []
        call = self.to("unary_stream", "die")(b"", timeout=20)

        def read():
            for message in call:
                got.append(message)
        outcome = failure(read)
        return {"code": outcome["code"], "messages": len(got)}

    def nobody_there(self):
        return {"code": failure(lambda: self.to("unary_unary", "unary")(b"", timeout=20))["code"]}


def in_order(call, count, pause=0):
    number = 0
    for message in call:
        if int.from_bytes(message[:4], "big") != number:
            return False
        number += 1
        if pause and number % 200 == 0:
            time.sleep(pause)
    return number == count


def trailers(call):
    return sorted((key, repr(value)) for key, value in call.trailing_metadata() or ()
                  if key.startswith("x-") or key.startswith("grpc-status-details"))


def done(call, right, **more):
    return {"code": call.code().name, "details": call.details() or "", "trailers": trailers(call),
            "right": right, **more}


def failure(work):
    try:
        work()
    except grpc.RpcError as error:
        return {"code": error.code().name, "details": error.details() or "", "trailers": trailers(error)}
    return {"code": "OK"}


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve()
    cases = Cases(sys.argv[2])
    print(json.dumps({name: getattr(cases, name)() for name in sys.argv[3:]}))
    sys.stdout.flush()
    # Channels of a killed server take long to fold; nothing is left to say.
    os._exit(0)
