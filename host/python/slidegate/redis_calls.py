"""One command to Redis and its reply, in the contract's words. No command is sent twice."""

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, RedisError, ResponseError
from wasmtime.component import Variant

CONNECTIONS_MAX = 64

# Redis answers it by a simple string, as no other command that filters send. Its client does not tell such a string from other bytes.
ANSWERED_BY_STATUS = b"SET"


def pool(service, urls):
    """Connections to a service of the configuration; a URL for its name, if there is one, wins over what the configuration says."""
    name = getattr(service, "service-name")
    url = urls.get(f"{name}:{service.port}") or urls.get(name) or f"redis://{name}:{service.port}"
    return BlockingConnectionPool.from_url(
        url,
        username=service.username or None,
        password=service.password or None,
        db=service.database,
        protocol=2,
        max_connections=CONNECTIONS_MAX,
        # A call as a whole has its time; and a command that may have run is not sent again.
        timeout=None,
        socket_timeout=None,
        socket_connect_timeout=None,
        retry=Retry(NoBackoff(), 0),
        driver_info=None,
    )


async def roundtrip(pool, words):
    """A `reply`, or a `call-error` if there is none."""
    try:
        connection = await pool.get_connection()
    except RedisError as error:
        return error_reply(error) or "connect"
    try:
        await connection.send_command(*words, check_health=False)
        return reply(words[0], await connection.read_response(disable_decoding=True))
    except InvalidResponse:
        return "protocol"
    except RedisError as error:
        return error_reply(error) or "disconnected"
    finally:
        await pool.release(connection)


def error_reply(error):
    """An error of Redis as it wrote it. Its client takes the code off some, and filters go by it: NOSCRIPT means to send the script."""
    if error.status_code:
        return Variant("error", f"{error.status_code} {error}")
    return Variant("error", str(error)) if isinstance(error, ResponseError) else None


def reply(command, answer):
    if isinstance(answer, list):
        is_flat = not any(isinstance(value, (list, Exception)) for value in answer)
        return Variant("many", answer) if is_flat else "protocol"
    is_status = command.upper() == ANSWERED_BY_STATUS and answer is not None
    return Variant("single", answer.decode() if is_status else answer)
