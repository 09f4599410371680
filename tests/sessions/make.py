"""Records and cookies of sessions, made by the libraries that applications use: `just sessions`.

Starts a Redis, lets each program beside this file make sessions with it and read them again, and writes one line for
each into `records`, with what stands in Redis as it stands there. What is in a line: README.md.
"""

import base64
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
LIBRARIES = pathlib.Path(sys.argv[1]).resolve()
sys.path.insert(0, str(LIBRARIES / "python"))

import redis  # noqa: E402

PYTHON = [sys.executable]
PROGRAMS = {
    "express": ["node", HERE / "express.mjs"],
    "flask-session": PYTHON + [HERE / "flask_session_app.py"],
    "django": PYTHON + [HERE / "django_app.py"],
    "signed": PYTHON + [HERE / "signed_apps.py"],
    "php": ["php", "-n", "-d", "extension_dir=" + "{php}", "-d", "extension=igbinary.so", "-d", "extension=redis.so", HERE / "sessions.php"],
    "rack": ["ruby", HERE / "rack.rb"],
    "spring": ["java", "-cp", "/usr/share/java/*", HERE / "Spring.java"],
}


def encoded(text):
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def contents():
    all_of_them = json.loads((HERE / "contents.json").read_text())
    all_of_them["long"]["long"] = "long" * 1030
    return all_of_them


def in_redis(client, identifier):
    """Of the key that has this in its name: the name and what it holds."""
    keys = [key for key in client.keys() if identifier.encode() in key and client.type(key) != b"zset"]
    assert len(keys) == 1, (identifier, keys)
    if client.type(keys[0]) == b"hash":
        fields = sorted(client.hgetall(keys[0]).items())
        return {"key": encoded(keys[0]), "hash": [[encoded(name), encoded(value)] for name, value in fields]}
    return {"key": encoded(keys[0]), "string": encoded(client.get(keys[0]))}


def make(name, command, port, client):
    client.flushall()
    extensions = subprocess.run(["php", "-r", "echo ini_get('extension_dir');"], capture_output=True, text=True).stdout if name == "php" else ""
    environment = {**os.environ, "SESSIONS_REDIS_PORT": str(port), "SESSIONS_LIBRARIES": str(LIBRARIES)}
    environment["PYTHONPATH"] = str(LIBRARIES / "python")
    command = [str(part).replace("{php}", extensions) for part in command]
    done = subprocess.run(command, input=json.dumps(contents()), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    lines = []
    for line in done.stdout.splitlines():
        record = json.loads(line)
        record["cookie"] = encoded(record["cookie"])
        for field, value in record.pop("hset", {}).items():
            client.hset("spring:session:sessions:" + record["id"], field, base64.b64decode(value))
        if "id" in record:
            record.update(in_redis(client, record.pop("id")))
        record.setdefault("now_ms", int(time.time() * 1000))
        lines.append(json.dumps(record, sort_keys=True, ensure_ascii=True))
    (HERE / "records" / f"{name}.jsonl").write_text("".join(line + "\n" for line in lines))
    print(f"{name}: {len(lines)}")


def main():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            client = redis.Redis(port=port)
            while True:
                try:
                    client.ping()
                    break
                except redis.exceptions.ConnectionError:
                    time.sleep(0.05)
            (HERE / "records").mkdir(exist_ok=True)
            for name, command in PROGRAMS.items():
                if not sys.argv[2:] or name in sys.argv[2:]:
                    make(name, command, port, client)
        finally:
            server.terminate()
            server.wait()


main()
