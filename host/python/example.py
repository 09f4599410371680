"""An application with a limit of three requests in ten seconds for each API key.

    python3 -m uvicorn example:app

The component is `slidegate.wasm`, or what SLIDEGATE_COMPONENT names; Redis is at REDIS_URL, or, without it, at 127.0.0.1:6379.
"""

import os

from slidegate import Slidegate

CONFIG = {
    "rule_name": "embedded",
    "rule_items": [{"limit_by_per_header": "x-api-key", "limit_keys": [{"key": "*", "limit": 3, "window": "10s"}]}],
    "show_limit_quota_header": True,
    "redis": {"service_name": "limits", "timeout": 500},
}


async def shop(scope, receive, send):
    """Any ASGI application: one of FastAPI, Starlette, Django or Quart, say."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"orders\n"})


app = Slidegate(
    shop,
    component=os.environ.get("SLIDEGATE_COMPONENT", "slidegate.wasm"),
    config=CONFIG,
    redis={"limits": os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")},
)
