"""The component for HTTP services, under a stock `wasmtime serve`: real HTTP, a real Redis, a real upstream.

SLIDEGATE_WASMTIME names the runtime, SLIDEGATE_MIDDLEWARE the component; without them they are those that `just` leaves.
"""

import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from redis_server import Redis, eventually, free_port
from upstream import Upstream

ROOT = pathlib.Path(__file__).parent.parent.parent
WASMTIME = os.environ.get("SLIDEGATE_WASMTIME", str(ROOT / "target/wasmtime/wasmtime"))
COMPONENT = os.environ.get("SLIDEGATE_MIDDLEWARE", str(ROOT / "dist/slidegate-middleware.wasm"))

CONNECTIONS = 32


class Server:
    """The component in a process of the runtime, kept as README says."""

    def __init__(self, upstream, filter):
        self.port = free_port()
        self.log = tempfile.TemporaryFile("w+")
        words = [WASMTIME, "serve", "--addr", f"127.0.0.1:{self.port}", "-S", "cli,inherit-network,allow-ip-name-lookup"]
        words += ["--max-instance-reuse-count", "1000000000", "--max-instance-concurrent-reuse-count", "1000"]
        words += ["--idle-instance-timeout", "60s"]
        variables = {"SLIDEGATE_UPSTREAM": upstream, "SLIDEGATE_FILTER": filter if isinstance(filter, str | None) else json.dumps(filter)}
        for name, value in variables.items():
            words += [] if value is None else ["--env", f"{name}={value}"]
        self.process = subprocess.Popen([*words, COMPONENT], stdout=self.log, stderr=subprocess.STDOUT)
        eventually(self.is_up, "the runtime listens")

    def is_up(self):
        assert self.process.poll() is None, self.logged()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def connect(self):
        return contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20))

    def ask(self, path="/", headers=None, method="GET", body=None, **options):
        """Status, headers by their names in lower case, and body."""
        with self.connect() as connection:
            return ask(connection, path, headers, method, body, **options)

    def statuses(self, count, headers=None, path="/"):
        return [self.ask(path, headers)[0] for _ in range(count)]

    def logged(self):
        self.log.seek(0)
        return self.log.read()

    def stop(self):
        self.process.kill()
        self.process.wait()


def ask(connection, path="/", headers=None, method="GET", body=None, **options):
    connection.request(method, path, body, headers or {}, **options)
    response = connection.getresponse()
    content = response.read()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, content


class TestCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.upstream, cls.redis = Upstream(), Redis()

    @classmethod
    def tearDownClass(cls):
        cls.upstream.stop()
        cls.redis.stop()

    def setUp(self):
        self.client().flushall()

    def client(self, **options):
        client = self.redis.client(**options)
        self.addCleanup(client.close)
        return client

    def redis_at(self, **options):
        return {"service_name": "127.0.0.1", "service_port": self.redis.port, **options}

    def limiter(self, limit=3, redis=None, by=None, **fields):
        """Requests for each key in an hour: longer than any test."""
        by = by or {"limit_by_per_header": "x-api-key"}
        items = [{**by, "limit_keys": [{"key": "*", "query_per_hour": limit}]}]
        return {"rule_name": "shop", "rule_items": items, "headers": ["x-ratelimit", "retry-after"], "redis": redis or self.redis_at(), **fields}

    def serve(self, filter, **upstream):
        server = Server(upstream.get("upstream", self.upstream.url), filter)

        def stop():
            server.stop()
            log = server.logged()
            server.log.close()
            self.assertNotRegex(log, "(?i)trap|panick|unreachable")

        self.addCleanup(stop)
        return server


class Limits(TestCase):
    def test_limits_hold_at_many_connections(self):
        server = self.serve(self.limiter(100))
        started = threading.Barrier(CONNECTIONS)

        def ask_often(_):
            with server.connect() as connection:
                started.wait()
                return [ask(connection, headers={"x-api-key": "all"})[0] for _ in range(10)]

        with ThreadPoolExecutor(CONNECTIONS) as threads:
            statuses = [status for asked in threads.map(ask_often, range(CONNECTIONS)) for status in asked]
        self.assertEqual((statuses.count(200), statuses.count(429)), (100, CONNECTIONS * 10 - 100))

    def test_a_refusal_says_when_and_an_admission_how_much_is_left(self):
        server = self.serve(self.limiter(2))
        for remaining in ["1", "0"]:
            status, headers, body = server.ask("/orders?page=1", {"x-api-key": "a"})
            self.assertEqual((status, body), (200, b"0 bytes\n"))
            # In place of the upstream's own.
            self.assertEqual((headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]), ("2", remaining))
        seen = len(self.upstream.seen)
        status, headers, body = server.ask("/", {"x-api-key": "a"})
        self.assertEqual((status, body, headers["content-type"]), (429, b"Too many requests", "text/plain"))
        self.assertTrue(3_500 < int(headers["retry-after"]) <= 3_600, headers)
        self.assertEqual(len(self.upstream.seen), seen, "the upstream hears nothing of it")
        self.assertEqual(server.statuses(3, {"x-api-key": "b"}), [200, 200, 429])
        self.assertEqual(server.statuses(3), [200] * 3, "no rule is about requests without a key")

    def test_a_client_of_grpc_is_refused_in_its_terms(self):
        server = self.serve(self.limiter(1))
        headers = {"x-api-key": "a", "content-type": "application/grpc"}
        self.assertEqual(server.statuses(1, headers), [200])
        status, headers, body = server.ask("/", headers)
        self.assertEqual((status, headers["grpc-status"], body), (200, "8", b""))

    def test_instances_are_kept_and_so_are_their_connections(self):
        server = self.serve(self.limiter())
        server.ask("/", {"x-api-key": "first"})
        before = self.client().info("stats")["total_connections_received"]
        for number in range(200):
            self.assertEqual(server.ask("/", {"x-api-key": f"{number}"})[0], 200)
        connections = self.client().info("stats")["total_connections_received"] - before
        self.assertLess(connections, 50)

    def test_what_a_client_says_of_who_it_is_does_not_pass(self):
        session = {"format": "json", "header": "x-session", "key_prefix": "session:", "fields": {"user": "x-user"}, "redis": self.redis_at()}
        per_user = self.limiter(2, by={"limit_by_per_session": "user"})
        server = self.serve({"filters": [{"session": session}, per_user]})
        self.client().set("session:abc", json.dumps({"user": "alice"}))
        self.assertEqual(server.ask("/", {"x-session": "abc", "x-user": "root"})[0], 200)
        self.assertEqual(self.upstream.last()[2]["x-user"], "alice")
        self.assertEqual(server.statuses(2, {"x-session": "abc"}), [200, 429])
        self.assertEqual(server.ask("/", {"x-user": "root"})[0], 200)
        self.assertNotIn("x-user", self.upstream.last()[2])

    def test_an_upstream_has_a_name(self):
        rules = [self.limiter(1, _match_service_=["127.0.0.1"]), self.limiter(1, _match_service_=["other"])]
        server = self.serve({"_rules_": rules[:1]})
        self.assertEqual(server.statuses(2, {"x-api-key": "a"}), [200, 429])
        server = self.serve({"_rules_": rules[1:]})
        self.assertEqual(server.statuses(2, {"x-api-key": "a"}), [200, 200])

    def test_where_the_host_is_not_told_nobody_is_free(self):
        server = self.serve(self.limiter(1, by={"limit_by_per_header": ":authority"}))
        status, _, body = server.ask("/")
        self.assertEqual(status, 400)
        self.assertIn(b"does not tell", body)
        whole = f"http://shop.example:{server.port}/"
        self.assertEqual(server.statuses(2, path=whole), [200, 429])


class Outages(TestCase):
    def setUp(self):
        super().setUp()
        self.own = Redis()
        self.addCleanup(self.own.stop)
        self.own_at = {"service_name": "127.0.0.1", "service_port": self.own.port, "timeout": 300}

    def test_without_redis_the_failure_mode_decides(self):
        open_, closed = (self.serve(self.limiter(1, redis=self.own_at, failure_mode=mode)) for mode in ["open", "closed"])
        self.assertEqual(open_.statuses(2, {"x-api-key": "a"}), [200, 429])
        self.own.stop()
        self.assertEqual(open_.statuses(10, {"x-api-key": "b"}), [200] * 10)
        self.assertEqual(closed.statuses(10, {"x-api-key": "b"}), [503] * 10)
        self.own.start()
        eventually(lambda: closed.ask("/", {"x-api-key": "c"})[0] != 503, "Redis is used again")
        eventually(lambda: open_.ask("/", {"x-api-key": "d"})[0] == 429, "and limits hold again")
        self.assertRegex(open_.logged(), "Redis 127.0.0.1:[0-9]+ fails \\(connect\\)")
        self.assertIn("answers again", open_.logged())

    def test_a_redis_that_is_silent_is_given_up(self):
        server = self.serve(self.limiter(1, redis=self.own_at, failure_mode="closed"))
        self.assertEqual(server.statuses(2, {"x-api-key": "a"}), [200, 429])
        self.own.process.send_signal(signal.SIGSTOP)
        try:
            self.assertEqual(server.statuses(10, {"x-api-key": "b"}), [503] * 10)
        finally:
            self.own.process.send_signal(signal.SIGCONT)
        eventually(lambda: server.ask("/", {"x-api-key": "c"})[0] != 503, "Redis is used again")

    def test_what_is_no_redis_is_told_apart(self):
        at = {"service_name": "127.0.0.1", "service_port": self.upstream.server_port}
        server = self.serve(self.limiter(redis=at, failure_mode="closed", coalesce=False))
        self.assertEqual(server.statuses(10, {"x-api-key": "a"}), [503] * 10)
        self.assertIn("(bad_reply)", server.logged())

    def test_a_password_and_a_database(self):
        guarded = Redis("--requirepass", "a good word")
        self.addCleanup(guarded.stop)
        at = {"service_name": "127.0.0.1", "service_port": guarded.port, "database": 3}
        wrong = self.serve(self.limiter(redis={**at, "password": "a bad word"}, failure_mode="closed"))
        self.assertEqual(wrong.statuses(10, {"x-api-key": "a"}), [503] * 10)
        self.assertIn("(auth)", wrong.logged())
        self.assertNotIn("a bad word", wrong.logged())
        right = self.serve(self.limiter(1, redis={**at, "password": "a good word"}))
        self.assertEqual(right.statuses(2, {"x-api-key": "a"}), [200, 429])
        with contextlib.closing(guarded.client(password="a good word", db=3)) as client:
            self.assertEqual(client.dbsize(), 1)


class Bodies(TestCase):
    def test_bodies_go_through_whole(self):
        server = self.serve(self.limiter(1_000))
        body = os.urandom(3_000_000)
        for headers in [{}, {"x-api-key": "a"}]:
            self.assertEqual(server.ask("/", headers, "POST", body)[2], b"3000000 bytes\n")
            self.assertEqual(self.upstream.last()[3], body)
            pieces = (body[at : at + 70_000] for at in range(0, len(body), 70_000))
            self.assertEqual(server.ask("/", headers, "PUT", pieces, encode_chunked=True)[2], b"3000000 bytes\n")
            self.assertEqual(self.upstream.last()[3], body)
            self.assertEqual(server.ask("/download", headers)[2], bytes(3_000_000))
            self.assertEqual(server.ask("/pieces", headers)[2], b"".join(b"%d\n" % piece for piece in range(1_000)))
            status, headers_seen, nothing = server.ask("/", headers, "HEAD")
            self.assertEqual((status, headers_seen["content-length"], nothing), (200, "8", b""))

    def test_whatever_comes_the_upstream_gets_it_as_it_was(self):
        server = self.serve(self.limiter())
        headers = {"x-odd": "caf\xe9 ~!", "cookie": "a=1; b=2", "accept-encoding": "gzip"}
        self.assertEqual(server.ask("/a%20b/../c?d=e&f=%00", headers, "OPTIONS")[0], 200)
        method, path, seen, _ = self.upstream.last()
        self.assertEqual((method, path), ("OPTIONS", "/a%20b/../c?d=e&f=%00"))
        self.assertEqual({name: seen[name] for name in headers}, headers)
        self.assertEqual(seen["host"], self.upstream.url.removeprefix("http://"))

    def test_an_upstream_that_is_gone_or_breaks_off(self):
        gone = self.serve(self.limiter(5), upstream=f"http://127.0.0.1:{free_port()}")
        status, headers, _ = gone.ask("/", {"x-api-key": "a"})
        self.assertEqual((status, headers["x-ratelimit-remaining"]), (502, "4"))
        server = self.serve(self.limiter(5))
        for headers in [{}, {"x-api-key": "a"}]:
            with self.assertRaises(http.client.IncompleteRead):
                server.ask("/cut", headers)

    def test_long_headers_are_no_way_round(self):
        server = self.serve(self.limiter(1))
        with contextlib.suppress(OSError, http.client.HTTPException):
            status = server.ask("/", {"x-api-key": "a", "x-long": "x" * 100_000})[0]
            self.assertIn(status, [200, 400, 413, 431])
        statuses = server.statuses(3, {"x-api-key": "b" * 10_000, "x-long": "x" * 4_000})
        self.assertEqual(statuses, [200, 429, 429])


class Tokens(TestCase):
    def tokens(self, limit, **fields):
        items = [{"limit_by_per_header": "x-api-key", "limit_keys": [{"key": "*", "token_per_hour": limit}]}]
        return {"rule_name": "model", "rule_items": items, "redis": self.redis_at(), **fields}

    def complete(self, server, **fields):
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields})
        headers = {"x-api-key": "a", "content-type": "application/json", "accept-encoding": "gzip"}
        return server.ask("/v1/chat/completions", headers, "POST", body)

    def test_usage_of_an_answer_is_counted(self):
        # Nothing is charged but what answers tell.
        server = self.serve(self.tokens(50, accounting="after"))
        status, _, body = self.complete(server)
        self.assertEqual((status, json.loads(body)["usage"]["total_tokens"]), (200, 30))
        self.assertEqual(self.upstream.last()[2]["accept-encoding"], "identity")
        eventually(lambda: self.complete(server)[0] == 429, "its tokens and those of the next are counted")

    def test_usage_of_a_streamed_answer_is_asked_for_and_counted(self):
        server = self.serve(self.tokens(50, accounting="after", request_usage=True))
        status, _, body = self.complete(server, stream=True)
        self.assertEqual(status, 200)
        self.assertTrue(body.endswith(b"data: [DONE]\n\n") and b'"hello "' in body, body)
        self.assertNotIn(b"total_tokens", body, "the client has not asked for it")
        _, _, headers, sent = self.upstream.last()
        self.assertEqual(json.loads(sent)["stream_options"], {"include_usage": True})
        self.assertEqual(headers["content-length"], str(len(sent)))
        eventually(lambda: self.complete(server, stream=True)[0] == 429, "its tokens and those of the next are counted")

    def test_a_stream_that_takes_more_than_there_is_ends_behind_an_event(self):
        server = self.serve(self.tokens(600, on_exhausted="cut"))
        status, _, body = self.complete(server, stream=True, words=20_000)
        self.assertEqual(status, 200)
        self.assertTrue(body.endswith(b"\n\n"), body[-100:])
        self.assertLess(body.count(b"data: "), 5_000)
        eventually(lambda: self.complete(server)[0] == 429, "nothing is left")


class Leaving(TestCase):
    def test_clients_that_leave_take_nobody_along(self):
        """In the middle of a body, one way or the other, with what is held of it and what is shown."""
        items = [{"limit_by_per_header": "x-api-key", "limit_keys": [{"key": "*", "token_per_hour": 1_000_000}]}]
        tokens = {"rule_name": "model", "rule_items": items, "request_usage": True, "on_exhausted": "cut", "redis": self.redis_at()}
        server = self.serve({"filters": [self.limiter(1_000), tokens]})
        asked = json.dumps({"stream": True, "words": 20_000}).encode()

        def leave(number):
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx-api-key: {number}\r\ncontent-type: application/json\r\n"
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
                client.sendall(f"{head}content-length: {len(asked)}\r\n\r\n".encode() + asked[: None if number % 2 else -5])
                if number % 2:
                    client.recv(1_000)

        with ThreadPoolExecutor(CONNECTIONS) as threads:
            list(threads.map(leave, range(100)))
        for _ in range(10):
            self.assertEqual(server.ask("/", {"x-api-key": "stays"})[0], 200)
        status, _, body = server.ask("/v1/chat/completions", {"content-type": "application/json"}, "POST", json.dumps({"stream": True}))
        self.assertEqual((status, body.endswith(b"data: [DONE]\n\n")), (200, True))


class Mistakes(TestCase):
    def refused(self, filter, **upstream):
        server = self.serve(filter, **upstream)
        status, headers, body = server.ask("/")
        self.assertEqual((status, headers["content-type"]), (500, "text/plain"))
        for line in body.decode().splitlines():
            self.assertIn(line, server.logged())
        return body.decode()

    def test_a_mistake_is_told_with_its_line(self):
        text = json.dumps(self.limiter(), indent=1).replace("query_per_hour", "query_per_our")
        line = next(number for number, line in enumerate(text.splitlines(), 1) if "query_per_our" in line)
        told = self.refused(text)
        self.assertTrue(told.startswith(f"SLIDEGATE_FILTER: line {line}: rule_items[0].limit_keys[0].query_per_our: "), told)
        self.assertIn("did you mean `query_per_hour`?", told)

    def test_what_is_missing_or_no_json_is_told(self):
        self.assertEqual(len(self.refused(None, upstream=None).splitlines()), 2)
        self.assertIn("is not JSON", self.refused("rule_name: shop"))
        self.assertIn("SLIDEGATE_UPSTREAM: expected `http://host:port`", self.refused(self.limiter(), upstream="orders"))

    def test_what_is_not_told_here_is_refused(self):
        self.upstream.seen.clear()
        by_address = {"limit_by_per_ip": "from-remote-addr", "limit_keys": [{"key": "0.0.0.0/0", "query_per_hour": 1}]}
        text = json.dumps(self.limiter() | {"rule_items": [by_address]}, indent=1)
        line = next(number for number, line in enumerate(text.splitlines(), 1) if "limit_by_per_ip" in line)
        self.assertIn(f"line {line}: rule_items[0].limit_by_per_ip: looks at the peer's address", self.refused(text))
        self.assertIn("_rules_[0]._match_route_: looks at the route", self.refused({"_rules_": [self.limiter(_match_route_=["a"])]}))
        local = {"rule_name": "shop", "global_threshold": {"query_per_hour": 1}}
        self.assertIn("redis: is missing", self.refused(local))
        self.assertEqual(self.upstream.seen, [], "nobody passes meanwhile")


if __name__ == "__main__":
    unittest.main()
