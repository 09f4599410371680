"""The example host for what it means: real HTTP by uvicorn, a real Redis, the component as it is built.

SLIDEGATE_COMPONENT names the component; without it, it is the one that `just build` leaves.
"""

import asyncio
import contextlib
import http.client
import json
import logging
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from redis_server import Redis, eventually, free_port
from slidegate import ConfigError, Slidegate
from slidegate.asgi import changed
from slidegate.filter import record
from slidegate.redis_calls import pool, roundtrip
from wasmtime.component import Variant

HERE = pathlib.Path(__file__).parent
COMPONENT = os.environ.get("SLIDEGATE_COMPONENT", str(HERE.parent.parent / "dist" / "slidegate.wasm"))

# Long enough that no test outlasts it.
WINDOW = "1h"

# A filter starts in this, and has no room for that.
MEMORY_BYTES, TOO_LONG = 2 << 20, "a" * (1 << 20)


async def echo(scope, receive, send):
    """Answers with the request's headers; a body of any length is read before."""
    assert scope["type"] == "http"
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/fails":
        raise RuntimeError("an application may fail")
    body = json.dumps([[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]]).encode()
    headers = [(b"content-type", b"application/json"), (b"x-ratelimit-limit", b"the application's own")]
    if scope["path"] == "/login":
        headers.append((b"set-cookie", b"id_token=of alice; Path=/"))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Server:
    """An application behind the filter, served by uvicorn in a thread of its own."""

    def __init__(self, config, redis=None, **options):
        self.slidegate = Slidegate(echo, COMPONENT, config, redis, **options)
        self.port = free_port()
        self.uvicorn = uvicorn.Server(uvicorn.Config(self.slidegate, port=self.port, log_level="critical", lifespan="off", h11_max_incomplete_event_size=2 << 20))
        self.thread = threading.Thread(target=self.uvicorn.run, daemon=True)
        self.thread.start()
        eventually(lambda: self.uvicorn.started, "uvicorn listens")

    def get(self, headers=None, path="/orders?page=1"):
        return get(self.port, headers, path)

    def stop(self):
        self.uvicorn.should_exit = True
        self.thread.join()

    def forgets_all(self):
        eventually(lambda: not self.slidegate.filter.streams, "no request is left over")

    def counted(self, decision):
        """Asked while no request is on its way, as the loop's own thread calls the filter else."""
        changes = self.slidegate.filter.take_metrics()
        return sum(change for name, labels, change in changes if name == "slidegate_decisions_total" and labels["decision"] == decision)


def get(port, headers=None, path="/orders?page=1"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers=headers or {"x-api-key": "alice"})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def rule(limit, window=WINDOW, **more):
    item = {"limit_by_per_header": "x-api-key", "limit_keys": [{"key": "*", "limit": limit, "window": window}]}
    return {"rule_name": "test", "rule_items": [item], "show_limit_quota_header": True, **more}


def shared(limit, **more):
    return rule(limit, redis={"service_name": "limits", "timeout": 1000}, **more)


class HostTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.redis = Redis()
        cls.addClassCleanup(cls.redis.stop)

    def setUp(self):
        self.redis.client().flushall()

    def serve(self, config, redis=None, **options):
        server = Server(config, redis, **options)
        self.addCleanup(server.stop)
        return server

    def serve_shared(self, limit, **more):
        return self.serve(shared(limit, **more), {"limits": self.redis.url})

    def statuses(self, server, requests, headers=None):
        return [server.get(headers)[0] for _ in range(requests)]

    # === Limits ===

    def test_a_limit_in_memory_holds(self):
        server = self.serve(rule(3))
        self.assertEqual(self.statuses(server, 5), [200, 200, 200, 429, 429])
        self.assertEqual(self.statuses(server, 1, {"x-api-key": "bob"}), [200])
        self.assertEqual(server.counted("refused"), 2)

    def test_a_limit_in_redis_holds_with_32_at_once(self):
        server = self.serve_shared(40)
        with ThreadPoolExecutor(32) as clients:
            answers = list(clients.map(lambda _: server.get()[0], range(200)))
        self.assertEqual((answers.count(200), answers.count(429)), (40, 160))
        server.forgets_all()
        self.assertEqual(server.counted("admitted"), 40)

    def test_many_keys_at_once_have_a_limit_each(self):
        server = self.serve_shared(2)
        keys = [f"key {number % 40}" for number in range(160)]
        with ThreadPoolExecutor(32) as clients:
            answers = list(clients.map(lambda key: server.get({"x-api-key": key})[0], keys))
        self.assertEqual((answers.count(200), answers.count(429)), (80, 80))

    def test_processes_share_a_limit(self):
        ports = [free_port(), free_port()]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "SLIDEGATE_COMPONENT": COMPONENT, "REDIS_URL": self.redis.url}
        for port in ports:
            words = [sys.executable, "-m", "uvicorn", "example:app", "--port", str(port), "--log-level", "critical"]
            process = subprocess.Popen(words, cwd=HERE, env=environment)
            self.addCleanup(process.wait)
            self.addCleanup(process.terminate)

        def is_answered(port):
            try:
                return get(port, {"host": "probe.example"})[0] == 200
            except OSError:
                return False

        for port in ports:
            eventually(lambda: is_answered(port), "the example serves")
        answers = [get(ports[number % 2])[0] for number in range(4)]
        self.assertEqual(answers, [200, 200, 200, 429])

    # === What is told ===

    def test_quota_stands_on_passing_requests_in_place_of_the_applications(self):
        server = self.serve_shared(2)
        status, headers, _ = server.get()
        self.assertEqual(status, 200)
        self.assertEqual(headers.get_all("x-ratelimit-limit"), ["2"])
        self.assertEqual(headers["x-ratelimit-remaining"], "1")
        self.assertEqual(headers["content-type"], "application/json")

    def test_a_refusal_says_when_to_come_back(self):
        server = self.serve_shared(1, headers=["x-ratelimit", "retry-after"], rejected_code=429, rejected_msg="later")
        server.get()
        status, headers, body = server.get()
        self.assertEqual((status, body, headers["content-length"], headers["content-type"]), (429, b"later", "5", "text/plain"))
        self.assertTrue(3500 < int(headers["retry-after"]) <= 3600, headers["retry-after"])

    def test_who_comes_back_then_passes(self):
        server = self.serve(rule(1, "1s", headers=["x-ratelimit", "retry-after"], redis={"service_name": "limits"}), {"limits": self.redis.url})
        self.assertEqual(self.statuses(server, 2), [200, 429])
        time.sleep(int(server.get()[1]["retry-after"]))
        self.assertEqual(self.statuses(server, 1), [200])

    # === Requests ===

    def test_what_is_not_limited_passes_as_it_is(self):
        server = self.serve(rule(1))
        status, headers, body = server.get({"x-other": "caf\u00e9".encode("latin-1")})
        self.assertEqual((status, headers["x-ratelimit-limit"]), (200, "the application's own"))
        self.assertIn(["x-other", "caf\u00e9"], json.loads(body))

    def test_cookies_parameters_and_addresses_are_seen(self):
        def limited(**by):
            return {"rule_name": "test", "rule_items": [{**by, "limit_keys": [{"key": "*", "limit": 1, "window": WINDOW}]}]}

        server = self.serve(limited(limit_by_per_cookie="user"))
        self.assertEqual(self.statuses(server, 2, {"cookie": "a=b; user=1"}), [200, 429])
        self.assertEqual(self.statuses(server, 1, {"cookie": "a=b; user=2"}), [200])
        server = self.serve(limited(limit_by_per_param="page"))
        answers = [server.get(path=path)[0] for path in ["/?page=1", "/?page=2", "/other?x&page=1"]]
        self.assertEqual(answers, [200, 200, 429])
        by_address = {"limit_by_per_ip": "from-remote-addr", "limit_keys": [{"key": "127.0.0.0/8", "limit": 1, "window": WINDOW}]}
        server = self.serve({"rule_name": "test", "rule_items": [by_address]})
        self.assertEqual(self.statuses(server, 2), [200, 429])

    def test_both_sides_of_a_request_are_changed(self):
        """By a filter that looks at responses, and waits for Redis there."""
        vault = {"cookies": ["id_token"], "secrets": ["nobody else knows this one"], "redis": {"service_name": "limits"}}
        server = self.serve({"cookie_vault": vault}, {"limits": self.redis.url})
        _, headers, _ = server.get(path="/login")
        cookie = headers["set-cookie"].removesuffix("; Path=/")
        self.assertNotIn("alice", cookie)
        _, _, body = server.get({"cookie": cookie})
        self.assertIn(["cookie", "id_token=of alice"], json.loads(body))
        _, _, body = server.get({"cookie": "id_token=made up"})
        self.assertNotIn("id_token", body.decode())

    def test_an_application_that_fails_is_counted_all_the_same(self):
        server = self.serve(rule(2))
        answers = [server.get(path="/fails")[0] for _ in range(3)]
        self.assertEqual(answers, [500, 500, 429])
        server.forgets_all()

    def test_a_websocket_is_a_request(self):
        slidegate = Slidegate(accept, COMPONENT, rule(1))
        scope = {"type": "websocket", "raw_path": b"/", "query_string": b"", "scheme": "ws", "headers": [(b"x-api-key", b"alice")]}

        async def opened():
            sent = []

            async def send(message):
                sent.append(message)

            await slidegate(scope, None, send)
            return sent

        [accepted], [closed] = asyncio.run(opened()), asyncio.run(opened())
        self.assertEqual((accepted["type"], closed["type"]), ("websocket.accept", "websocket.close"))
        self.assertIn((b"x-ratelimit-limit", b"1"), accepted["headers"])

    # === Configurations ===

    def test_each_mistake_is_named(self):
        with self.assertRaises(ConfigError) as caught:
            Slidegate(echo, COMPONENT, {**rule(-1), "rule_nam": "x"})
        self.assertIn("rule_items[0].limit_keys[0].limit: ", str(caught.exception))
        self.assertIn("rule_nam: ", str(caught.exception))

    def test_what_cannot_be_shown_is_refused_and_not_let_go_free(self):
        by_route = {**rule(1), "_match_route_": ["orders"]}
        by_tokens = {"rule_name": "tokens", "global_threshold": {"token_per_minute": 100}}
        for config in [{"_rules_": [by_route]}, by_tokens]:
            with self.assertRaisesRegex(ConfigError, "does not show"):
                Slidegate(echo, COMPONENT, config)

    # === Redis away ===

    def test_a_redis_that_is_away_is_the_failure_modes(self):
        for mode, expected in [("open", [200, 200, 200]), ("closed", [503, 503, 503]), ("local", [200, 429, 429])]:
            with self.subTest(mode):
                nowhere = {"limits": f"redis://127.0.0.1:{free_port()}"}
                server = self.serve(shared(1, failure_mode=mode), nowhere)
                self.assertEqual(self.statuses(server, 3), expected)

    def test_a_redis_that_comes_back_counts_again(self):
        redis = Redis()
        self.addCleanup(redis.stop)
        server = self.serve(shared(1000, failure_mode="closed"), {"limits": redis.url})
        self.assertEqual(server.get()[0], 200)
        redis.stop()
        self.assertEqual(server.get()[0], 503)
        redis.start()
        eventually(lambda: server.get()[0] == 200, "Redis is asked again")

    def test_a_redis_that_does_not_answer_costs_its_timeout_and_no_more(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
            config = rule(1, redis={"service_name": "limits", "timeout": 100}, failure_mode="closed")
            server = self.serve(config, {"limits": url})
            with self.assertLogs("slidegate", logging.WARNING) as logs:
                self.assertEqual(self.statuses(server, 1), [503])
            self.assertIn("fails (timeout)", "\n".join(logs.output))

    def test_what_is_no_reply_is_a_redis_that_fails(self):
        for bytes_ in [b":many\r\n", b"HTTP/1.1 400\r\n", b"*1\r\n*1\r\n:1\r\n", b"*" * 70_000]:
            with self.subTest(bytes_[:20]), answering(bytes_) as url:
                server = self.serve(shared(1, failure_mode="closed"), {"limits": url})
                self.assertEqual(self.statuses(server, 1), [503])
                self.assertEqual(server.slidegate.filter.calls, set())

    def test_a_wrong_password_is_called_so(self):
        redis = Redis("--requirepass", "secret")
        self.addCleanup(redis.stop)
        right = self.serve(shared(1), {"limits": f"redis://:secret@127.0.0.1:{redis.port}"})
        self.assertEqual(self.statuses(right, 2), [200, 429])
        wrong = self.serve(shared(1, failure_mode="closed"), {"limits": f"redis://:wrong@127.0.0.1:{redis.port}"})
        with self.assertLogs("slidegate", logging.WARNING) as logs:
            self.assertEqual(self.statuses(wrong, 1), [503])
        self.assertIn("fails (auth)", "\n".join(logs.output))

    def test_a_script_that_redis_forgot_is_sent_again_once(self):
        server, client = self.serve_shared(3), self.redis.client()
        self.assertEqual(self.statuses(server, 1), [200])
        client.script_flush()
        client.config_resetstat()
        # The last is refused by what the filter knows.
        self.assertEqual(self.statuses(server, 3), [200, 200, 429])
        calls = {name: told["calls"] for name, told in client.info("commandstats").items()}
        self.assertEqual((calls["cmdstat_eval"], calls["cmdstat_evalsha"]), (1, 2))

    # === Traps ===

    def test_a_filter_that_traps_is_replaced(self):
        """By a value that does not fit into its memory, which it has for itself."""
        server = self.serve(shared(3), {"limits": self.redis.url}, memory_bytes=MEMORY_BYTES)
        self.assertEqual(self.statuses(server, 1), [200])
        before = server.slidegate.filter.store
        with self.assertLogs("slidegate", logging.ERROR) as logs:
            # What cannot be decided passes by the configuration.
            self.assertEqual(server.get({"x-api-key": TOO_LONG})[0], 200)
        self.assertIn("the filter failed, and is replaced", "\n".join(logs.output))
        self.assertEqual(self.statuses(server, 3), [200, 200, 429])
        self.assertIsNot(server.slidegate.filter.store, before)

    def test_whoever_waits_in_a_filter_that_traps_is_told(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
            config = rule(1, redis={"service_name": "limits", "timeout": 20_000}, failure_mode="closed")
            server = self.serve(config, {"limits": url}, memory_bytes=MEMORY_BYTES)
            with ThreadPoolExecutor(4) as clients, self.assertLogs("slidegate", logging.ERROR):
                waiting = [clients.submit(server.get, {"x-api-key": f"key {number}"}) for number in range(3)]
                eventually(lambda: len(server.slidegate.filter.calls) == 3, "they wait for Redis")
                self.assertEqual(server.get({"x-api-key": TOO_LONG})[0], 503)
                self.assertEqual([answer.result()[0] for answer in waiting], [503, 503, 503])
            server.forgets_all()


@contextlib.contextmanager
def answering(bytes_, received=None):
    """Something that answers each connection with these bytes, and closes it. What came of it is added to `received`."""

    def talk():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                piece = connection.recv(4096)
                if received is not None:
                    received.append(piece)
                connection.sendall(bytes_)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


async def accept(scope, receive, send):
    await send({"type": "websocket.accept"})


class ChangesTest(unittest.TestCase):
    """Header fields after changes, in their order."""

    def test_changes_are_made_in_their_order(self):
        def edit(tag, name, value):
            return Variant(tag, record(name=name, value=value))

        edits = [edit("append", "a", b"2"), edit("set", "b", b"3"), Variant("remove", "c"), edit("append", "c", b"4")]
        headers = [(b"A", b"1"), (b"b", b"1"), (b"b", b"2"), (b"c", b"1")]
        self.assertEqual(changed(headers, edits), [(b"a", b"1"), (b"a", b"2"), (b"b", b"3"), (b"c", b"4")])
        forbidden = [edit("set", "a", b"1\r\nx: y"), edit("append", "a b", b"1"), edit("set", "", b"1"), edit("append", "d", b"\0")]
        self.assertEqual(changed(headers[:1], forbidden), [(b"a", b"1")])


class ReplyTest(unittest.TestCase):
    """Commands and replies, in the contract's words."""

    def ask(self, url, *commands):
        async def asked():
            service = record(service_name="limits", port=6379, username="", password="", database=0)
            connections = pool(service, {"limits": url})
            try:
                return [await roundtrip(connections, command.encode().split()) for command in commands]
            finally:
                await connections.disconnect()

        return asyncio.run(asked())

    def test_replies_are_told_as_they_are(self):
        server = Redis()
        self.addCleanup(server.stop)
        replies = self.ask(server.url, "SET a 1", "GET a", "GET b", "INCR a", "MGET a b", "SET a 2 NX", "EVAL return{1,{2}} 0")
        self.assertEqual(
            [reply if isinstance(reply, str) else (reply.tag, reply.payload) for reply in replies],
            [("single", "OK"), ("single", b"1"), ("single", None), ("single", 2), ("many", [b"2", None]), ("single", None), "protocol"],
        )

    def test_errors_have_their_code(self):
        server = Redis()
        self.addCleanup(server.stop)
        script = "EVALSHA ffffffffffffffffffffffffffffffffffffffff 0"
        commands = ["LPUSH list 1", "GET list", script, "NOSUCH", "CONFIG SET min-replicas-to-write 3", "SET a 1"]
        errors = [reply.payload for reply in self.ask(server.url, *commands) if reply.tag == "error"]
        self.assertEqual([error.split()[0] for error in errors], ["WRONGTYPE", "NOSCRIPT", "ERR", "NOREPLICAS"])
        server.client().config_set("min-replicas-to-write", 0)
        server.client().replicaof("127.0.0.1", free_port())
        [read_only] = self.ask(server.url, "SET a 1")
        self.assertEqual(read_only.payload.split()[0], "READONLY")
        server.client().replicaof("NO", "ONE")
        server.client().config_set("requirepass", "secret")
        [locked] = self.ask(server.url, "GET a")
        self.assertEqual(locked.payload.split()[0], "NOAUTH")

    def test_a_command_whose_connection_is_lost_is_not_sent_again(self):
        received = []
        with answering(b"", received) as url:
            self.assertEqual(self.ask(url, "INCR a"), ["disconnected"])
        self.assertEqual(sum(b"INCR" in piece for piece in received), 1)

    def test_bytes_that_are_no_reply_and_nobody_there(self):
        with answering(b"HTTP/1.1 400\r\n") as url:
            self.assertEqual(self.ask(url, "GET a"), ["protocol"])
        self.assertEqual(self.ask(f"redis://127.0.0.1:{free_port()}", "GET a"), ["connect"])


if __name__ == "__main__":
    unittest.main()
