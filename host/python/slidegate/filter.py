"""One instance of the component, and what it asks of its host."""

import asyncio
import functools
import itertools
import json
import logging
import os
import time

from wasmtime import Engine, Store
from wasmtime.component import Component, Linker, Record

from .redis_calls import pool, roundtrip

CONTRACT = "slidegate:filter/{}@0.2.0"
EXPORTS = ["configure", "metrics", "on-done", "on-redis-replies", "on-request", "on-response-headers", "on-wake", "take-metrics"]

# Parts of a request that this host does not show. Without this a rule about a route, say, would meet no request, and limit nobody.
LACKING = {"request-body", "response-body", "route-name", "service-name"}

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}

# How many commands are on their way at most; one more is as good as one to a Redis that is away.
CALLS_MAX = 10_000

logger = logging.getLogger("slidegate")


class ConfigError(ValueError):
    """What is wrong with a configuration, a line for each mistake."""


class FilterFailed(Exception):
    """The filter trapped, or cannot be started."""


def record(**fields):
    """A record of the contract. Its names have hyphens."""
    made = Record()
    vars(made).update((name.replace("_", "-"), value) for name, value in fields.items())
    return made


@functools.cache
def compiled(path):
    """Compiling takes half a second; filters of one process share what comes of it."""
    engine = Engine()
    return engine, Component.from_file(engine, path)


def now():
    return record(monotonic=time.monotonic_ns(), wall=time.time_ns())


class Filter:
    """An instance that is kept, and replaced when it fails. It belongs to one event loop."""

    def __init__(self, component, config, redis, memory_bytes):
        self.engine, self.component = compiled(component)
        self.config = json.dumps(config).encode()
        self.memory_bytes = memory_bytes
        self.streams, self.ids = {}, itertools.count(1)
        self.calls, self.replies, self.wake, self.timer = set(), [], None, None
        self.linker = Linker(self.engine)
        with self.linker.root() as root:
            for interface, functions in self.imports().items():
                with root.add_instance(CONTRACT.format(interface)) as instance:
                    for name, function in functions.items():
                        instance.add_func(name, function)
        self.start()
        self.services = [(pool(service, redis), vars(service)["timeout-ms"] / 1000) for service in self.configuration.redis]

    def start(self):
        store = Store(self.engine)
        store.set_limits(memory_size=self.memory_bytes)
        instance = self.linker.instantiate(store, self.component)
        interface = instance.get_export_index(store, CONTRACT.format("filter"))
        exports = {name: instance.get_func(store, instance.get_export_index(store, name, interface)) for name in EXPORTS}
        configuration = exports["configure"](store, self.config, now())
        if isinstance(configuration, list):
            raise ConfigError("\n".join(f"{mistake.path}: {mistake.message}" for mistake in configuration))
        if lacking := LACKING & configuration.uses.parts:
            raise ConfigError(f"this host does not show {', '.join(sorted(lacking))}, which the configuration needs")
        self.store, self.exports, self.configuration = store, exports, configuration

    def imports(self):
        def of_stream(ask, nothing):
            def imported(_store, stream, *arguments):
                known = self.streams.get(stream)
                return ask(known, *arguments) if known else nothing

            return imported

        def fields(headers):
            return [record(name=name.decode("latin-1"), value=value) for name, value in headers]

        return {
            "http": {
                "method": of_stream(lambda stream: stream.method, b""),
                "path": of_stream(lambda stream: stream.path, b""),
                "authority": of_stream(lambda stream: stream.header("host") or b"", b""),
                "scheme": of_stream(lambda stream: stream.scheme, ""),
                "header": of_stream(lambda stream, name: stream.header(name), None),
                "header-values": of_stream(lambda stream, name: stream.values(name), []),
                "headers": of_stream(lambda stream: fields(stream.headers), []),
                "has-body": of_stream(lambda stream: stream.has_body, False),
                "source-address": of_stream(lambda stream: stream.source_address, None),
                "route-name": of_stream(lambda stream: "", ""),
                "service-name": of_stream(lambda stream: "", ""),
                "response-header": of_stream(lambda stream, name: stream.response_header(name), None),
                "response-headers": of_stream(lambda stream: fields(stream.response_headers), []),
                "http-response": of_stream(lambda stream, response: stream.settle(answer=response), None),
                "annotate": of_stream(lambda stream, told: None, None),
            },
            "redis": {"redis-call": self.redis_call},
            "system": {
                "log": lambda _store, level, message: logger.log(LEVELS[level], "%s", message),
                "wake-at": self.wake_at,
                "random-bytes": lambda _store, length: os.urandom(length),
            },
        }

    async def ask(self, stream, hook, *arguments):
        """Calls a hook about a stream, and waits if the filter does. Returns the filter's answer, or None if the stream goes on."""
        try:
            step = self.call(hook, stream.id, *arguments)
            if step.tag == "wait":
                await stream.wait()
            elif step.tag == "pass":
                stream.settle(step.payload)
            elif stream.answer is None:
                raise self.failed("it answers, and gives no answer")
        except FilterFailed:
            if vars(self.configuration)["on-trap"] == "respond":
                return record(status=503, headers=[], body=b"")
        return stream.answer

    def call(self, hook, *arguments):
        try:
            if self.exports is None:
                self.start()
            result = self.exports[hook](self.store, *arguments, now())
        except Exception as error:
            raise self.failed(error) from error
        self.set_timer()
        return result

    def failed(self, error):
        """The instance is gone: nothing of it is used again. Nobody waits for it any more, and what its calls are answered is for nobody."""
        logger.error("the filter failed, and is replaced: %s", error)
        self.exports, self.calls, self.replies, self.wake = None, set(), [], None
        self.set_timer()
        for stream in self.streams.values():
            stream.fail(FilterFailed())
        return FilterFailed()

    def go_on(self, hook, *arguments):
        """Calls a hook that returns the streams that waited and go on."""
        try:
            passings = self.call(hook, *arguments)
        except FilterFailed:
            return  # Whoever waited has been told.
        for passing in passings:
            if passing.stream in self.streams:
                self.streams[passing.stream].settle(vars(passing)["pass"])

    def redis_call(self, _store, service, command):
        if service >= len(self.services):
            return "unknown-service"
        if len(self.calls) >= CALLS_MAX:
            return "connect"
        ends = itertools.accumulate(command.lengths)
        words = [command.bytes[end - length : end] for end, length in zip(ends, command.lengths)]
        call = next(self.ids)
        task = asyncio.get_running_loop().create_task(self.answer(call, words, *self.services[service]))
        self.calls.add(task)
        task.add_done_callback(self.calls.discard)
        return call

    async def answer(self, call, words, pool, seconds):
        calls = self.calls
        try:
            async with asyncio.timeout(seconds):
                reply = await roundtrip(pool, words)
        except TimeoutError:
            reply = "timeout"
        except Exception as error:
            # Every call is answered, whatever its client makes of bytes that are no reply.
            logger.warning("a reply of Redis cannot be read: %r", error)
            reply = "protocol"
        if calls is self.calls:  # Else an instance asked that is gone.
            self.replies.append(record(call=call, reply=reply))
            if len(self.replies) == 1:
                asyncio.get_running_loop().call_soon(self.bring)

    def bring(self):
        """What came at once is brought at once."""
        replies, self.replies = self.replies, []
        if replies:
            self.go_on("on-redis-replies", replies)

    def wake_at(self, _store, at):
        self.wake = at if self.wake is None else min(at, self.wake)

    def set_timer(self):
        if self.timer:
            self.timer.cancel()
        self.timer = None
        if self.wake is not None:
            seconds = max((self.wake - time.monotonic_ns()) / 1e9, 0.001)
            self.timer = asyncio.get_running_loop().call_later(seconds, self.awake)

    def awake(self):
        self.wake = None
        self.go_on("on-wake")

    def take_metrics(self):
        """What has changed since this was called last: names, labels, and by how much counters rose."""
        if self.exports is None:
            return []
        metrics = self.exports["metrics"](self.store)
        changes = self.exports["take-metrics"](self.store)
        return [(metrics[place].name, dict(metrics[place].labels), change) for place, change in changes]
