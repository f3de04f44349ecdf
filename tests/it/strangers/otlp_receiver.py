"""An OTLP/HTTP collector of the official protobuf classes: one line of JSON per span it was sent."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

KINDS = {2: "server", 3: "client"}
REFUSALS = [int(os.environ.get("REFUSALS", "0"))]


def plain(value):
    return getattr(value, value.WhichOneof("value"))


def spans(request):
    for resource in request.resource_spans:
        service = {one.key: plain(one.value) for one in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield {
                    "service": service.get("service.name"),
                    "scope": scope.scope.name,
                    "trace": span.trace_id.hex(),
                    "span": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "kind": KINDS.get(span.kind, span.kind),
                    "start": span.start_time_unix_nano,
                    "end": span.end_time_unix_nano,
                    "failed": span.status.code == 2,
                    "links": [link.span_id.hex() for link in span.links],
                    "attributes": {one.key: plain(one.value) for one in span.attributes},
                }


class Collector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        good = self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
        status = 200 if good else 400
        if good and REFUSALS[0] > 0:
            REFUSALS[0] -= 1
            status = 503
        if status == 200:
            request = ExportTraceServiceRequest.FromString(body)
            with open(os.environ["LOG"], "a") as log:
                log.writelines(json.dumps(span) + "\n" for span in spans(request))
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(status)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Collector).serve_forever()
