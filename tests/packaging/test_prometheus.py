"""The board of Grafana and the alerts, by a real Prometheus that scrapes real gateways: every query tells something, every alert that can be caused here is."""

import contextlib
import http.client
import http.server
import json
import pathlib
import re
import subprocess
import tempfile
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from processes import DEPLOY, PROMETHEUS, Gateway, Prometheus, fetch, said
from redis_server import Redis, eventually

ALERTS = DEPLOY / "prometheus/alerts.yaml"
# What has to be by minutes in earnest is by seconds here.
QUICK = [(r"for: \d+m", "for: 1s"), (r"\[\d+m\]", "[6s]"), ("> 0.1$", "> 0.05")]

SETTINGS = """
routes:
  - {{name: shop, upstream: "{upstream}"}}
  - {{name: dead, path_prefix: /dead, upstream: "http://127.0.0.1:1"}}
redis: {redis}
limits: {{requests_per_address: 8}}
filters:
  - cookie_vault: {{cookies: [cart], secrets: [what this gateway makes ids with]}}
  - session: {{format: own, cookie: sid, secrets: [what this gateway signs with], fields: {{user: x-user}}, user: user}}
  - cache: {{default_ttl: 1m}}
  - rule_name: orders
    rule_items:
      - {{name: by key, limit_by_per_header: x-key, limit_keys: [{{key: "*", query_per_minute: 5}}]}}
  - rule_name: tokens
    global_threshold: {{token_per_minute: 100000000}}
"""


OTHER = """
upstream: {upstream}
redis: {redis}
limits: {{connections_per_address: 8}}
filter: {{rule_name: wide, global_threshold: {{query_per_second: 100000}}}}
"""


class Answering(http.server.ThreadingHTTPServer):
    """Answers with what this gives for a path: a text and its type."""

    daemon_threads = True

    def __init__(self, give):
        super().__init__(("127.0.0.1", 0), Answer)
        self.give = give
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        text, kind = self.server.give(self.path)
        body = text.encode()
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def model(path):
    """What an upstream answers, to /slow after a second."""
    if path.startswith("/slow"):
        time.sleep(1)
    return '{"usage": {"total_tokens": 7}}', "application/json"


class Load:
    """Requests on end, in threads of their own. Whoever cannot be reached, refuses or leaves does not end them."""

    def __init__(self, *works):
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(work,), daemon=True) for work in works]
        for thread in self.threads:
            thread.start()

    def run(self, work):
        while not self.is_over.wait(0.05):
            with contextlib.suppress(OSError, http.client.HTTPException):
                work()

    def stop(self):
        self.is_over.set()
        for thread in self.threads:
            thread.join()


def expressions(board):
    """The queries of a board's panels, with every job, instance and rule chosen."""
    for panel in json.loads((DEPLOY / "grafana" / board).read_text())["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "6s")
            yield panel["title"], re.sub(r"\$(job|instance|rule)\b", ".*", expression)


def variables(board):
    """The queries that fill a board's variables."""
    for variable in json.loads((DEPLOY / "grafana" / board).read_text())["templating"]["list"]:
        if variable["type"] == "query":
            yield re.sub(r"\$job\b", ".*", variable["query"]["query"])


class Rules(unittest.TestCase):
    def test_the_alerts_have_no_fault_and_fire_when_they_should(self):
        promtool = PROMETHEUS / "promtool"
        told = said(promtool, "check", "rules", "--lint-fatal", "prometheus/alerts.yaml", cwd=DEPLOY)
        self.assertIn(told.strip().replace("\n", "\n    "), (DEPLOY / "README.md").read_text(), "as it is shown")
        self.assertIn("SUCCESS", said(promtool, "check", "config", DEPLOY / "prometheus/scrape.yaml"))
        cases = DEPLOY.parent.parent / "tests/packaging/alerts.test.yaml"
        said(promtool, "test", "rules", cases)
        alerts = set(re.findall(r"- alert: (\w+)", ALERTS.read_text()))
        self.assertEqual(alerts, set(re.findall(r'alertname="(\w+)"', cases.read_text())), "each has its case")


class Seen(unittest.TestCase):
    """One scene for all: gateways under load whose Redis goes away, and what Prometheus makes of them."""

    def test_boards_and_alerts(self):
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            upstream, redis = Answering(model), Redis()
            stack.callback(upstream.stop)
            stack.callback(redis.stop)
            settings = SETTINGS.format(upstream=upstream.url, redis=redis.url)
            gateway = Gateway(settings, folder)
            stack.callback(gateway.stop)
            # One that ends, and one whose output nobody reads.
            other = Gateway(OTHER.format(upstream=upstream.url, redis=redis.url), folder, "other.yaml")
            stack.callback(other.stop)
            unread = Gateway("upstream: http://127.0.0.1:1\n", folder, "unread.yaml", stdout=subprocess.PIPE)
            stack.callback(unread.stop)
            rules = ALERTS.read_text()
            for pattern, quick in QUICK:
                rules = re.sub(pattern, quick, rules, flags=re.MULTILINE)
            pathlib.Path(folder, "alerts.yaml").write_text(rules)
            scrape = (DEPLOY / "prometheus/scrape.yaml").read_text().replace("15s", "1s")
            prometheus = Prometheus(scrape.replace('"127.0.0.1:9090"', f'"{gateway.admin}", "{other.admin}", "{unread.admin}"'), folder)
            stack.callback(prometheus.stop)

            def crowd(gateway):
                """More at once than an address may have, of pages that are not kept yet."""

                def one(number):
                    with contextlib.suppress(OSError, http.client.HTTPException):
                        gateway.status(f"/slow/{time.monotonic()}/{number}")

                with ThreadPoolExecutor(12) as pool:
                    list(pool.map(one, range(12)))

            def flood():
                """Enough lines of a log to fill every buffer."""
                with contextlib.closing(http.client.HTTPConnection(unread.url, timeout=20)) as connection:
                    for _ in range(500):
                        connection.request("GET", "/" + "x" * 4_000)
                        connection.getresponse().read()

            load = Load(
                lambda: gateway.status(f"/{time.monotonic()}", **{"x-key": "a"}),
                lambda: gateway.status("/dead"),
                lambda: gateway.status("/", cookie="sid=unknown; cart=unknown"),
                lambda: other.status("/"),
                flood,
                lambda: crowd(gateway),
                lambda: crowd(other),
            )
            stack.callback(load.stop)
            self.queries_tell_something(prometheus, "gateway.json")
            self.higress_board_tells_something(gateway)
            self.fires(prometheus, {"SlidegateUpstreamErrors", "SlidegateManyRefused", "SlidegateOverloaded", "SlidegateConnectionsRefused", "SlidegateLogDropped"})
            self.assertFalse(prometheus.firing() & {"SlidegateDown", "SlidegateRedisDown", "SlidegateBreakerOpen", "SlidegateReloadFailed"})

            slow = Load(lambda: redis.client().execute_command("CLIENT", "PAUSE", "300", "WRITE") and time.sleep(0.4))
            self.fires(prometheus, {"SlidegateSlowDecisions"})
            slow.stop()
            gateway.file.write_text("upstream: 5\n")
            redis.stop()
            self.fires(prometheus, {"SlidegateRedisDown", "SlidegateBreakerOpen", "SlidegateDegraded", "SlidegateReloadFailed"})
            other.process.terminate()
            self.fires(prometheus, {"SlidegateDown"})

            # And all is well again.
            redis.start()
            gateway.file.write_text(settings)
            gone = {"SlidegateRedisDown", "SlidegateBreakerOpen", "SlidegateDegraded", "SlidegateReloadFailed"}
            eventually(lambda: not prometheus.firing() & gone, "they fire no longer")

    def fires(self, prometheus, alerts):
        # One after the other: what comes in waves may pause while another begins.
        missing = set(alerts)

        def all_have():
            missing.difference_update(prometheus.firing())
            return not missing

        with contextlib.suppress(AssertionError):
            eventually(all_have, "they fire")
        self.assertEqual(missing, set(), "these do not fire")

    def queries_tell_something(self, prometheus, board):
        queries = list(expressions(board))
        self.assertGreater(len(queries), 20)
        waiting = dict.fromkeys(queries)

        def all_told():
            for query in list(waiting):
                if prometheus.query(query[1]):
                    del waiting[query]
            return not waiting

        with contextlib.suppress(AssertionError):
            eventually(all_told, "queries tell something")
        self.assertFalse(list(waiting), "these queries of the board told nothing")
        for variable in variables(board):
            metric, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable).groups()
            self.assertTrue(all(labels.get(label) for labels, _ in prometheus.query(metric)), variable)

    def higress_board_tells_something(self, gateway):
        """Of the gateway's own numbers of its filter, spelt as the plugin names its statistics and Envoy shows them."""

        def page():
            return fetch(f"http://{gateway.admin}/metrics")[1].splitlines()

        def spelt():
            return "\n".join(filter(None, map(as_envoy_shows, page()))) + "\n"

        self.assertIn("rule_orders_item_by_key_decision_refused_metric_slidegate_item_decisions_total{} ", spelt())
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            envoy = Answering(lambda _: (spelt(), "text/plain; version=0.0.4"))
            stack.callback(envoy.stop)
            configuration = (DEPLOY / "prometheus/higress.yaml").read_text()
            configuration = configuration.replace("higress-gateway.higress-system:15020", f"127.0.0.1:{envoy.server_port}")
            prometheus = Prometheus("global: {scrape_interval: 1s}\n" + configuration, folder)
            stack.callback(prometheus.stop)
            self.queries_tell_something(prometheus, "higress.json")
            for line in page():
                if (counted := COUNTER.fullmatch(line)) and as_envoy_shows(line):
                    name = counted[1].replace("_seconds", "_microseconds")
                    labels = ",".join(f'{label}="{value if label == "le" else plain(value)}"' for label, value in LABEL.findall(counted[2]))
                    self.assertEqual(len(prometheus.query(f"{name}{{{labels}}}")), 1, line)


COUNTER = re.compile(r"(slidegate_\w+?)\{(.*)\} (\S+)")
LABEL = re.compile(r'(\w+)="([^"]*)"')
# The filter's labels, in the order that the plugin has them in a name.
ORDER = ["rule", "service", "session", "vault", "cache", "item", "decision", "mode", "by", "cause", "outcome"]
OF_THE_GATEWAY = {"route", "stream", "reason", "result", "side", "code", "version"}


def plain(value):
    return re.sub("[^A-Za-z0-9]", "_", value)


def as_envoy_shows(line):
    """A line of the gateway's page as Higress' would have it; none for what the gateway adds to the filter's."""
    counted = COUNTER.fullmatch(line)
    if not counted or counted[1] == "slidegate_redis_up":
        return None
    labels = dict(LABEL.findall(counted[2]))
    bound = labels.pop("le", None)
    if not labels or OF_THE_GATEWAY & labels.keys():
        return None
    told = "_".join(f"{name}_{plain(labels[name])}" for name in sorted(labels, key=ORDER.index))
    name = counted[1].replace("_seconds", "_microseconds")
    bounds = f'le="{bound}"' if bound else ""
    return f"{told}_metric_{name}{{{bounds}}} {counted[3]}"


if __name__ == "__main__":
    unittest.main()
