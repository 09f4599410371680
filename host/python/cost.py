"""What the filter adds to a request, in microseconds, of requests one after the other without HTTP around them: the median, and the processor time of this
process.
"""

import asyncio
import os
import pathlib
import statistics
import sys
import time

import redis.asyncio
from redis_server import Redis
from slidegate import Slidegate

COMPONENT = os.environ.get("SLIDEGATE_COMPONENT", str(pathlib.Path(__file__).parents[2] / "dist" / "slidegate.wasm"))
REQUESTS = 2000
SCOPE = {
    "type": "http",
    "method": "GET",
    "scheme": "http",
    "raw_path": b"/orders",
    "query_string": b"page=1",
    "client": ("192.0.2.7", 40000),
    "headers": [(b"host", b"shop.example"), (b"user-agent", b"cost"), (b"accept", b"*/*"), (b"x-api-key", b"alice")],
}


def rule(header, limit, **more):
    item = {"limit_by_per_header": header, "limit_keys": [{"key": "*", "limit": limit, "window": "1h"}]}
    return {"rule_name": "cost", "rule_items": [item], "show_limit_quota_header": True, **more}


async def shop(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"orders"})


async def nobody(message):
    pass


async def print_cost(name, once):
    taken = []
    processor = time.process_time_ns()
    for _ in range(REQUESTS):
        begin = time.perf_counter_ns()
        await once()
        taken.append(time.perf_counter_ns() - begin)
    processor = time.process_time_ns() - processor
    print(f"| {name} | {statistics.median(taken) / 1000:.1f} | {processor / REQUESTS / 1000:.1f} |")


async def main():
    server = Redis()
    try:
        urls = {"limits": server.url}
        shared = {"redis": {"service_name": "limits", "timeout": 1000}}
        configurations = {
            "no rule is about the request": rule("x-other", 1),
            "a limit in memory": rule("x-api-key", 1_000_000),
            "a limit in Redis": rule("x-api-key", 1_000_000, **shared),
            "a refusal that is known": rule("x-api-key", 1, **shared),
        }
        begin = time.perf_counter()
        Slidegate(shop, COMPONENT, configurations["a limit in memory"])
        compiled = time.perf_counter()
        Slidegate(shop, COMPONENT, configurations["a limit in memory"])
        started = time.perf_counter()
        print(f"compile {compiled - begin:.2f} s, start {(started - compiled) * 1000:.1f} ms, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}")
        await print_cost("the application alone", lambda: shop(SCOPE, None, nobody))
        for name, config in configurations.items():
            server.client().flushall()
            app = Slidegate(shop, COMPONENT, config, urls)
            await print_cost(name, lambda: app(SCOPE, None, nobody))
        client = redis.asyncio.Redis.from_url(server.url)
        await print_cost("a PING by `redis.asyncio`", client.ping)
        await client.aclose()
    finally:
        server.stop()


asyncio.run(main())
