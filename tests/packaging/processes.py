"""What the tests of packages start: a gateway of a settings file, and a Prometheus that scrapes it.

SLIDEGATE names the gateway, SLIDEGATE_PROMETHEUS the folder of Prometheus' programs; without them they are those that `just` leaves.
"""

import contextlib
import http.client
import json
import os
import pathlib
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request

from redis_server import eventually, free_port

ROOT = pathlib.Path(__file__).parent.parent.parent
DEPLOY = ROOT / "host/deploy"
GATEWAY = pathlib.Path(os.environ.get("SLIDEGATE", ROOT / "target/release/slidegate")).resolve()
PROMETHEUS = pathlib.Path(os.environ.get("SLIDEGATE_PROMETHEUS", ROOT / "target/prometheus")).resolve()


def said(*command, **options):
    """What a command says on both streams, which must end well."""
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if ended.returncode:
        raise AssertionError(f"{' '.join(map(str, command))} ended with {ended.returncode}:\n{ended.stdout}")
    return ended.stdout


def fetch(url, headers=None):
    """Status and text."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=20) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Server:
    """A process that is up as soon as a page of it answers 200."""

    def __init__(self, command, page, stdout=None, **options):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdout=stdout or self.log, stderr=self.log, **options)
        try:
            eventually(lambda: self.answers(page), f"{page} answers")
        except BaseException:
            self.stop()
            raise

    def answers(self, page):
        if self.process.poll() is not None:
            raise AssertionError(f"it has ended: {self.logged()}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            return fetch(page)[0] == 200
        return False

    def logged(self):
        self.log.seek(0)
        return self.log.read()

    def stop(self):
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.log):
            if stream:
                stream.close()


class Gateway(Server):
    """A gateway with settings that name neither `listen` nor `admin`."""

    def __init__(self, settings, folder, name="gateway.yaml", **options):
        self.file = pathlib.Path(folder) / name
        self.file.write_text(settings)
        self.start(**options)

    @classmethod
    def of(cls, file):
        """One of a file that is there."""
        gateway = cls.__new__(cls)
        gateway.file = pathlib.Path(file)
        gateway.start()
        return gateway

    def start(self, **options):
        self.url, self.admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
        command = [GATEWAY, "serve", self.file, "--listen", self.url, "--admin", self.admin, "--workers", "1"]
        super().__init__(command, f"http://{self.admin}/readyz", **options)

    def status(self, path="/", **headers):
        return fetch(f"http://{self.url}{path}", headers)[0]


class Prometheus(Server):
    """A Prometheus with this configuration, a text."""

    def __init__(self, configuration, folder):
        file = pathlib.Path(folder) / "prometheus.yaml"
        file.write_text(configuration)
        self.address = f"127.0.0.1:{free_port()}"
        command = [PROMETHEUS / "prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={self.address}"]
        super().__init__(command, f"http://{self.address}/-/ready")

    def ask(self, path, **parameters):
        query = urllib.parse.urlencode(parameters)
        status, text = fetch(f"http://{self.address}/api/v1/{path}?{query}")
        answer = json.loads(text)
        if status != 200:
            raise AssertionError(f"{parameters}: {answer.get('error')}")
        return answer["data"]

    def query(self, expression):
        """Each series' labels and its value now."""
        return [(each["metric"], float(each["value"][1])) for each in self.ask("query", query=expression)["result"]]

    def firing(self):
        return {alert["labels"]["alertname"] for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"}
