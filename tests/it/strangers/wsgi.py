"""The echo contract of mod.rs as a WSGI application, for gunicorn."""

import os


def log(environ, size):
    line = "%s %s %d %s\n" % (
        environ["REQUEST_METHOD"], environ["RAW_URI"], size, environ.get("REMOTE_PORT", "0"))
    descriptor = os.open(os.environ["LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, line.encode("latin-1"))
    os.close(descriptor)


def echoed(environ, body):
    names = {key[5:].lower().replace("_", "-"): value for key, value in environ.items()
             if key.startswith("HTTP_")}
    for key in ("CONTENT_LENGTH", "CONTENT_TYPE"):
        if environ.get(key):
            names[key.lower().replace("_", "-")] = environ[key]
    lines = "".join(sorted("%s: %s\n" % pair for pair in names.items()))
    head = "%s %s\n%s\n" % (environ["REQUEST_METHOD"], environ["RAW_URI"], lines)
    return head.encode("latin-1") + body


def app(environ, start):
    body = environ["wsgi.input"].read()
    log(environ, len(body))
    path = environ["RAW_URI"].split("?")[0]
    headers = [("x-origin", "gunicorn"), ("x-twice", "one"), ("x-twice", "two")]
    _, _, rest = path.partition("/")
    kind, _, number = rest.partition("/")
    if kind == "status":
        if number == "304":
            headers.append(("etag", '"v1"'))
        content = b"" if number in ("204", "304") else b"status %s\n" % number.encode()
        if content:
            headers.append(("content-length", str(len(content))))
        start("%s Status" % number, headers)
        return [content] if content else []
    if path == "/chunked":
        start("200 OK", headers)
        return iter([b"piece 0\n", b"piece 1\n", b"piece 2\n"])
    content = b"d" * int(number) if kind == "down" else echoed(environ, body)
    start("200 OK", headers + [("content-length", str(len(content)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [content]
