"""Slidegate's filter in front of an ASGI application: an example of a host, to be copied and changed.

    app = Slidegate(app, "slidegate.wasm", {"rule_name": "api", ...}, redis={"redis.static": "redis://127.0.0.1:6379"})

The component is the one that the gateway runs. `filter` knows the contract, `redis_calls` Redis, and `asgi` the applications.
"""

from .asgi import Slidegate
from .filter import ConfigError

__all__ = ["ConfigError", "Slidegate"]
