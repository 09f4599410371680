"""An upstream for tests: what came to it, and answers of several kinds."""

import http.server
import json
import threading

USAGE = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Each write is a packet else, and waits for the one before to be acknowledged.
    wbufsize = -1

    def do_GET(self):
        body = self.read()
        self.server.seen.append((self.command, self.path, [(name.lower(), value) for name, value in self.headers.items()], body))
        match self.path.split("?")[0]:
            case "/v1/chat/completions" if (asked := json.loads(body)).get("stream"):
                self.stream(self.events(asked.get("words", 2)))
            case "/v1/chat/completions":
                self.answer(json.dumps({"choices": [{"message": {"content": "hello"}}], "usage": USAGE}).encode(), "application/json")
            case "/download":
                self.answer(bytes(3_000_000))
            case "/pieces":
                self.stream(b"%d\n" % piece for piece in range(1_000))
            case "/cut":
                self.send_response(200)
                self.send_header("content-length", "1000")
                self.end_headers()
                self.wfile.write(b"half of it")
                self.close_connection = True
            case _:
                self.answer(b"%d bytes\n" % len(body))

    do_POST = do_PUT = do_HEAD = do_OPTIONS = do_GET

    def read(self):
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, body, kind="text/plain"):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-ratelimit-limit", "the upstream's own")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def stream(self, pieces):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    @staticmethod
    def events(words):
        for _ in range(words):
            yield b"data: %s\n\n" % json.dumps({"choices": [{"delta": {"content": "hello "}}], "usage": None}).encode()
        yield b"data: %s\n\n" % json.dumps({"choices": [], "usage": USAGE}).encode()
        yield b"data: [DONE]\n\n"

    def log_message(self, *arguments):
        pass


class Upstream(http.server.ThreadingHTTPServer):
    """Serves in threads of this process."""

    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """Whoever asked has left: that is what some tests are about."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def last(self):
        """Method, path, headers and body of the last request."""
        method, path, headers, body = self.seen[-1]
        return method, path, dict(headers), body

    def stop(self):
        self.shutdown()
        self.server_close()
