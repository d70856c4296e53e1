"""A server that receives traces (OTLP over HTTP) and stores them. A single file, so that a pod can run it."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PORT = 4318


class Collector:
    """A server that listens once created and receives traces while `server` serves. GET returns the spans as JSON."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/v1/traces":
                    collector.bodies.append(body)
                self._answer(b"")

            def do_GET(self) -> None:
                self._answer(json.dumps(collector.described()).encode())

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
                """Log nothing: the access log is unused."""

        self.server = ThreadingHTTPServer((host, port), Handler)
        self.url = f"http://{host}:{self.server.server_address[1]}"

    def spans(self) -> list[Span]:
        """Return all spans so far, in the order in which they ended."""
        return [span for span, _ in self._kept()]

    def resource(self) -> dict[str, Any]:
        """Return the resource attributes of the first span."""
        return self._kept()[0][1]

    def described(self) -> list[dict[str, Any]]:
        """Return all spans so far: names, ids in hexadecimal, attributes, and resource attributes."""
        return [
            {
                "name": span.name,
                "trace_id": span.trace_id.hex(),
                "span_id": span.span_id.hex(),
                "parent_id": span.parent_span_id.hex(),
                "attributes": attributes(span.attributes),
                "resource": resource,
            }
            for span, resource in self._kept()
        ]

    def _kept(self) -> list[tuple[Span, dict[str, Any]]]:
        return [
            (span, attributes(source.resource.attributes))
            for body in list(self.bodies)
            for source in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in source.scope_spans
            for span in scope.spans
        ]


def attributes(pairs: Any) -> dict[str, Any]:
    """Return OTLP's list of keys and values as a dictionary."""
    found: dict[str, Any] = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind)
        found[pair.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return found


if __name__ == "__main__":
    Collector("0.0.0.0", PORT).server.serve_forever()  # noqa: S104  it is for a pod
