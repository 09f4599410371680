"""A Redis for tests and measurements."""

import socket
import subprocess
import tempfile
import time

import redis


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def eventually(is_so, what):
    deadline = time.monotonic() + 20
    while not is_so():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within 20 seconds: {what}")
        time.sleep(0.02)


class Redis:
    """A server of its own, which can be stopped and come back at the same port."""

    def __init__(self, *options):
        self.port, self.options, self.process = free_port(), options, None
        self.start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def client(self, **options):
        return redis.Redis(port=self.port, **options)

    def start(self):
        words = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--loglevel", "warning", *self.options]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir())
        eventually(self.is_up, "Redis is up")

    def is_up(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def stop(self):
        self.process.kill()
        self.process.wait()
