"""Requests of an ASGI application, as the filter sees them, and its answers."""

import asyncio
import re
from urllib.parse import quote

from wasmtime.component import Variant

from .filter import Filter, FilterFailed, record

# What HTTP allows; other changes are left out.
FIELD_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
FORBIDDEN_IN_VALUES = re.compile(rb"[\0\r\n]")

BEGINNINGS = {"http.response.start", "websocket.accept"}


def changed(headers, edits):
    """Header fields after changes of the filter."""
    headers = [(bytes(name).lower(), bytes(value)) for name, value in headers]
    for edit in edits:
        name = (edit.payload if edit.tag == "remove" else edit.payload.name).encode()
        if edit.tag == "remove":
            headers = [field for field in headers if field[0] != name]
        elif FIELD_NAME.fullmatch(name) and not FORBIDDEN_IN_VALUES.search(edit.payload.value):
            kept = headers if edit.tag == "append" else [field for field in headers if field[0] != name]
            headers = [*kept, (name, edit.payload.value)]
    return headers


class Stream:
    """A request that the filter may know."""

    def __init__(self, id, scope):
        self.id = id
        self.method = scope.get("method", "GET").encode()
        path = scope.get("raw_path") or quote(scope["path"]).encode()
        self.path = path + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        self.scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
        self.headers = changed(scope["headers"], [])
        self.client = scope.get("client")
        self.response_headers = []
        self.request_edits, self.response_edits, self.wants = [], [], {}
        self.waiting = self.answer = None

    def values(self, name):
        return [value for field, value in self.headers if field == name.encode()]

    def header(self, name):
        values = self.values(name)
        if name == "cookie" and values:
            return b"; ".join(values)
        return values[0] if values else None

    def response_header(self, name):
        return next((value for field, value in self.response_headers if field == name.encode()), None)

    @property
    def has_body(self):
        return self.header("transfer-encoding") is not None or self.header("content-length") not in (None, b"0")

    @property
    def source_address(self):
        if self.client is None:
            return None
        host, port = self.client
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def wait(self):
        self.waiting = asyncio.get_running_loop().create_future()
        await self.waiting

    def settle(self, passed=None, answer=None):
        """It goes on, with changes or without, or is answered."""
        if self.answer is None:
            self.answer = answer
        if passed:
            self.request_edits += vars(passed)["request-edits"]
            self.response_edits += vars(passed)["response-edits"]
        self.wants = vars(passed.wants) if passed else {}
        waiting, self.waiting = self.waiting, None
        if waiting and not waiting.done():
            waiting.set_result(None)

    def fail(self, error):
        """The filter does not know it any more."""
        self.wants = {}
        waiting, self.waiting = self.waiting, None
        if waiting and not waiting.done():
            waiting.set_exception(error)


class Slidegate:
    """An application, with the filter in front of it.

    `component` is the path of `slidegate.wasm`, `config` the document that a Higress WasmPlugin would carry, and `redis` has URLs for its names of services.
    """

    def __init__(self, app, component, config, redis=None, memory_bytes=256 << 20):
        self.app = app
        self.filter = Filter(component, config, redis or {}, memory_bytes)

    async def __call__(self, scope, receive, send):
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        stream = Stream(next(self.filter.ids), scope)
        self.filter.streams[stream.id] = stream
        ending = "client"
        try:
            if answer := await self.filter.ask(stream, "on-request"):
                await self.respond(stream, scope, receive, send, answer)
                return
            scope = {**scope, "headers": changed(scope["headers"], stream.request_edits)}
            try:
                await self.app(scope, receive, self.sending(stream, scope, receive, send))
                ending = "whole"
            except Exception:
                ending = "upstream"
                raise
        finally:
            self.end(stream, ending)

    def sending(self, stream, scope, receive, send):
        """The application's `send`, which shows the filter the head of its response, and makes its changes."""
        is_replaced = False

        async def sent(message):
            nonlocal is_replaced
            if message["type"] in BEGINNINGS:
                headers = changed(message.get("headers", ()), stream.response_edits)
                if stream.wants.get("response-headers"):
                    stream.response_headers, stream.response_edits = headers, []
                    head = record(status=message.get("status", 101), origin="upstream", end=stream.method == b"HEAD")
                    if answer := await self.filter.ask(stream, "on-response-headers", head):
                        is_replaced = True
                        await self.respond(stream, scope, receive, send, answer)
                    headers = changed(headers, stream.response_edits)
                message = {**message, "headers": headers}
            if not is_replaced:
                await send(message)

        return sent

    async def respond(self, stream, scope, receive, send, answer):
        if scope["type"] == "websocket":
            # A server answers 403 to this.
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = changed([], [*(Variant("append", field) for field in answer.headers), *stream.response_edits])
        # What was kept, and has an age, is as its upstream said it, be it without a type.
        if answer.body and not any(name in (b"content-type", b"age") for name, _ in headers):
            headers.append((b"content-type", b"text/plain"))
        headers.append((b"content-length", str(len(answer.body)).encode()))
        status = answer.status if 200 <= answer.status <= 599 else 500
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    def end(self, stream, ending):
        try:
            if stream.waiting or stream.wants.get("done"):
                self.filter.call("on-done", stream.id, ending)
        except FilterFailed:
            pass  # It has been logged, and this stream is over.
        del self.filter.streams[stream.id]
