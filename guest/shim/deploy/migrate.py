#!/usr/bin/env python3
"""Turns WasmPlugin resources of the stock `cluster-key-rate-limit` into ones of Slidegate.

    migrate.py --image oci://REGISTRY/REPOSITORY:TAG [FILE] > NEW.yaml

Reads YAML or JSON, also `kubectl get wasmplugin NAME -o yaml`. What behaves differently is told on standard error, with the place
it comes from. The result does what the old resource did: where stock reads something loosely that Slidegate refuses,
the result says what stock made of it. What stock refuses, or Slidegate cannot do, such as the token limits of `ai-token-ratelimit`,
is told; then nothing is written, and the exit code is 1. Expressions are searched for what is known not to work, not compiled:
the plugin does that when it starts. Needs PyYAML.
"""

import argparse
import ipaddress
import json
import re
import sys

import yaml

# Where several are set, stock takes the last in this order.
LIMIT_BY = ["header", "param", "cookie", "per_header", "per_param", "per_cookie", "consumer", "per_consumer", "per_ip"]
CONSUMERS = ("consumer", "per_consumer")
UNITS = ["query_per_second", "query_per_minute", "query_per_hour", "query_per_day"]
POLICY = ["rule_name", "global_threshold", "rule_items", "rejected_code", "rejected_msg", "show_limit_quota_header", "redis"]
REDIS = ["service_name", "service_port", "username", "password", "timeout", "database"]
MATCHES = {"_match_route_": "route", "_match_domain_": "domain", "_match_service_": "service", "_match_route_prefix_": "prefix"}
EXACT_MAX = 2**53
TIMEOUT_MS_MAX = 3_600_000
REGEXP_MAX = 64 << 10
TOKENS = "limits tokens, which Slidegate does not count yet: keep `ai-token-ratelimit` for it (both plugins run side by side)"
GENERAL = [
    "windows slide: no interval as long as a window holds more than its limit, where stock lets up to twice the limit pass around an edge",
    "Redis keys begin with `slidegate:`: counts begin at 0 with this resource, and at stock's own again if you go back; old keys expire",
    "a refused request costs nothing; `X-RateLimit-Reset` tells when this request would be admitted",
]


class StockRefuses(Exception):
    """The old plugin does not start with this configuration either."""


class CannotConvert(Exception):
    """Slidegate has nothing that does the same."""


class Loader(yaml.SafeLoader):
    """Scalars as Kubernetes reads them: no dates, and no numbers to the base of 60 such as `12:30`."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag.rsplit(":", 1)[1] not in ("timestamp", "int", "float")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$"), "-+0123456789"
)
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)([eE][-+]?[0-9]+)?$"), "-+.0123456789"
)


class Dumper(yaml.SafeDumper):
    """Writes what occurs twice twice: not everything that reads resources knows aliases. Quotes every text that some reader of
    YAML takes for a number or a flag, such as `1e3` and `y`."""

    def ignore_aliases(self, data):
        return True


# After PyYAML's own, which decide for what is a number or a flag.
Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\.?[0-9][0-9A-Za-z_.+-]*$"), "-+.0123456789")
Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("[yYnN]$"), "yYnN")

# --- Values, read as stock reads JSON ---


def text(value, path):
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dict, list)):
        raise CannotConvert(f"{path}: expected a text")
    return f"{value:g}" if isinstance(value, float) and value.is_integer() and abs(value) < 1e6 else str(value)


def whole(value):
    """Fractions are cut, words are 0."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"-?[0-9]{1,18}", value) else 0
    if isinstance(value, (bool, int, float)):
        return int(value) if value == value and abs(value) != float("inf") else 0
    return 0


def elements(value):
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def is_token(name):
    return re.fullmatch(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+", name) is not None


# --- A configuration ---


class Configuration:
    """Converts configurations and collects what is to be told of them, each sentence once for a place."""

    def __init__(self):
        self.notes = []

    def note(self, path, sentence):
        if (path, sentence) not in self.notes:
            self.notes.append((path, sentence))

    def document(self, document, path):
        """What the plugin gets as a whole: a configuration, or `_rules_` and perhaps one beside them."""
        if not isinstance(document, dict):
            raise StockRefuses(f"{path}: expected an object")
        rules = elements(document.get("_rules_"))
        result = {"_plugin_id_": document["_plugin_id_"]} if "_plugin_id_" in document else {}
        own = {name: value for name, value in document.items() if name not in ("_rules_", "_plugin_id_")}
        if own or not rules:
            result.update(self.beside_rules(own, path, bool(rules)) or {})
        if rules:
            result["_rules_"] = [self.rule(rule, f"{path}._rules_[{at}]") for at, rule in enumerate(rules)]
        return result

    def beside_rules(self, own, path, has_rules):
        """The configuration for requests that no rule is for. Stock drops it without a word if it is wrong and there are rules."""
        try:
            return self.policy(own, path)
        except StockRefuses as refused:
            if not has_rules:
                raise
            self.note(path, f"left out: stock cannot read it and goes on with the rules alone, silently ({refused})")
            return None

    def rule(self, rule, path):
        if not isinstance(rule, dict):
            raise StockRefuses(f"{path}: expected an object")
        matches = {}
        for field, kind in MATCHES.items():
            names = self.names(rule.get(field), kind, f"{path}.{field}")
            if names:
                matches[field] = names
        if not matches:
            raise StockRefuses(f"{path}: expected at least one `_match_*`, not empty")
        own = {name: value for name, value in rule.items() if name not in MATCHES}
        return {**matches, **self.policy(own, path)}

    def names(self, value, kind, path):
        names = [text(name, path) for name in elements(value)]
        if kind == "domain" and any(name != name.lower() for name in names):
            self.note(path, "upper and lower case are the same to Slidegate, and differ for stock")
        return [name for name in names if name or kind == "domain"]

    def policy(self, config, path):
        if not isinstance(config, dict) or "redis" not in config:
            raise StockRefuses(f"{path}: missing redis in config")
        redis = self.redis(config["redis"], f"{path}.redis")
        if "rule_name" not in config:
            raise StockRefuses(f"{path}: missing rule_name in config")
        result = {"rule_name": self.quoted(config["rule_name"], f"{path}.rule_name")}
        if ("global_threshold" in config) == ("rule_items" in config):
            raise StockRefuses(f"{path}: expected one of `global_threshold` and `rule_items`")
        if "global_threshold" in config:
            result["global_threshold"] = self.limits(config["global_threshold"], f"{path}.global_threshold", [])
        else:
            items = elements(config["rule_items"])
            if not items:
                raise StockRefuses(f"{path}: config rule_items cannot be empty")
            result["rule_items"] = [self.item(item, f"{path}.rule_items[{at}]") for at, item in enumerate(items)]
        self.refusal(config, result, path)
        result["redis"] = redis
        self.unknown(config, POLICY, path)
        return result

    def refusal(self, config, result, path):
        if "rejected_code" in config:
            code = whole(config["rejected_code"])
            if 200 <= code <= 599:
                result["rejected_code"] = code
            else:
                self.note(f"{path}.rejected_code", f"is {code} to stock, which no response can have: now 429")
        if "rejected_msg" in config:
            message = config["rejected_msg"]
            if isinstance(message, (dict, list)):
                message = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
            result["rejected_msg"] = self.quoted(message, f"{path}.rejected_msg")
        if "show_limit_quota_header" in config:
            show = config["show_limit_quota_header"]
            is_word = isinstance(show, str)
            is_number = isinstance(show, (bool, int, float))
            result["show_limit_quota_header"] = show.lower() in ("1", "t", "true") if is_word else is_number and show != 0
            if is_word and show.lower() not in ("1", "t", "true", "0", "f", "false"):
                self.note(f"{path}.show_limit_quota_header", "is false to stock: written as that")

    def item(self, item, path):
        if not isinstance(item, dict):
            raise StockRefuses(f"{path}: expected an object")
        is_set = lambda kind: f"limit_by_{kind}" in item and (kind in CONSUMERS or text(item[f"limit_by_{kind}"], path) != "")
        kinds = [kind for kind in LIMIT_BY if is_set(kind)]
        if not kinds:
            raise StockRefuses(f"{path}: expected one of `limit_by_*`")
        kind, field = kinds[-1], f"limit_by_{kinds[-1]}"
        for other in kinds[:-1]:
            self.note(path, f"has `limit_by_{other}` beside `{field}`: stock looks at the latter only, so the other is left out")
        name = "" if kind in CONSUMERS else self.key_name(kind, text(item[field], path), f"{path}.{field}")
        keys = elements(item.get("limit_keys"))
        if not keys:
            raise StockRefuses(f"{path}: config limit_keys cannot be empty")
        self.unknown(item, ["limit_keys", *(f"limit_by_{kind}" for kind in LIMIT_BY)], path)
        return {field: name, "limit_keys": [self.entry(key, kind, f"{path}.limit_keys[{at}]") for at, key in enumerate(keys)]}

    def key_name(self, kind, name, path):
        header = name if kind in ("header", "per_header") else None
        if kind == "per_ip" and name != "from-remote-addr":
            header = name.removeprefix("from-header-")
            if header == name or not header:
                raise StockRefuses(f"{path}: expected `from-remote-addr` or `from-header-` and the name of a header")
        if header is not None and not is_token(header) and header.lower() not in (":authority", ":method", ":path"):
            raise CannotConvert(f"{path}: no header has such a name")
        if kind in ("cookie", "per_cookie"):
            if re.search(r"[;=\x00-\x1f\x7f-\x9f]", name) or name.strip() != name:
                raise CannotConvert(f"{path}: no cookie has such a name")
            self.note(path, "a cookie's value is read whole; stock cuts it at the first `=` in it, and limits nothing where the name stands alone")
        return name

    def entry(self, entry, kind, path):
        if not isinstance(entry, dict) or text(entry.get("key"), path) == "":
            raise StockRefuses(f"{path}: limit_keys key is required")
        key = self.quoted(entry["key"], f"{path}.key")
        words = text(key, path)
        if kind == "per_ip":
            key = self.network(words, f"{path}.key")
        elif kind.startswith("per_") and words != "*":
            if not words.startswith("regexp:"):
                raise StockRefuses(f"{path}.key: expected `*` or `regexp:` and an expression")
            self.expression(words.removeprefix("regexp:"), f"{path}.key")
        return {"key": key, **self.limits(entry, path, ["key"])}

    def expression(self, expression, path):
        escapes = [match[1] for match in re.finditer(r"\\(.)", expression, re.DOTALL)]
        if "p" in escapes or "P" in escapes:
            raise CannotConvert(f"{path}: Unicode classes such as `\\p{{L}}` are not supported: list the ranges, as in `[a-zà-ÿ]`")
        if re.search(r"\(\?[A-Za-z-]+\)[*+?{]", expression) or re.search(r"\\x\{0*[dD][89a-fA-F]..\}", expression):
            raise CannotConvert(f"{path}: a repeated group of flags, or half a surrogate pair, is not supported in expressions")
        if len(expression.encode()) > REGEXP_MAX:
            raise CannotConvert(f"{path}: expressions may have up to {REGEXP_MAX} bytes")
        self.note(path, "looks at the first 4 KiB of a value; stock at all of it")

    def network(self, key, path):
        address, slash, mask = key.partition("/")
        if slash and mask and not re.fullmatch("[0-9]{1,9}", mask):
            raise StockRefuses(f"{path}: invalid IP[{key}]")
        if key.find(".") > 0:
            octets = address.split(".")
            if len(octets) != 4 or not all(re.fullmatch("[0-9]{0,9}", octet) and int(octet or 0) <= 255 for octet in octets):
                raise StockRefuses(f"{path}: invalid IP[{key}]")
            if slash and (not mask or int(mask) > 32):
                self.note(path, f"`{key}` means every address to stock: written as 0.0.0.0/0, which is hardly what was meant")
                return "0.0.0.0/0"
            return key
        try:
            network = ipaddress.IPv6Network(key.replace("%", " "), strict=False)
        except ValueError:
            raise StockRefuses(f"{path}: invalid IP[{key}]") from None
        if 0 < network.prefixlen <= 32:
            self.note(path, "matches IPv6 addresses only; to stock also IPv4 addresses that begin with the same bits")
        return key

    def limits(self, node, path, beside):
        if not isinstance(node, dict):
            raise StockRefuses(f"{path}: expected an object with one of {', '.join(UNITS)}")
        if any(str(name).startswith("token_per_") for name in node):
            raise CannotConvert(f"{path}: {TOKENS}")
        counts = {}
        for unit in (unit for unit in UNITS if unit in node):
            count = whole(node[unit])
            if count <= 0:
                self.note(f"{path}.{unit}", "is no positive number and left out; stock fails to start when it happens to pick it")
                continue
            if str(count) != str(node[unit]):
                self.note(f"{path}.{unit}", f"is {count} to stock: written as that")
            counts[unit] = min(count, EXACT_MAX)
        if not counts:
            raise StockRefuses(f"{path}: expected one of {', '.join(UNITS)}, a positive number")
        if len(counts) > 1:
            self.note(path, f"has {' and '.join(counts)}: all of them are enforced now; each worker of stock picks one at random")
        self.unknown(node, [*UNITS, *beside], path)
        return counts

    def redis(self, node, path):
        node = node if isinstance(node, dict) else {}
        name = text(node.get("service_name"), f"{path}.service_name")
        if not name:
            raise StockRefuses(f"{path}: redis service name must not be empty")
        if re.search(r"[\s/@\x00-\x1f\x7f-\x9f]", name):
            raise CannotConvert(f"{path}.service_name: is no service's name")
        result = {"service_name": name}
        for field, greatest in (("service_port", 65_535), ("timeout", TIMEOUT_MS_MAX), ("database", 2**31 - 1)):
            number = whole(node.get(field))
            if field == "timeout" and number > greatest:
                self.note(f"{path}.timeout", "is an hour at most")
                number = greatest
            if not 0 <= number <= greatest:
                raise CannotConvert(f"{path}.{field}: expected a number from 0 to {greatest}")
            if field in node and node[field] is not None and str(number) != str(node[field]):
                self.note(f"{path}.{field}", f"written as {number}")
            if number:
                result[field] = number
        for field in ("username", "password"):
            if node.get(field) is not None:
                result[field] = text(node[field], f"{path}.{field}")
        self.unknown(node, REDIS, path)
        return result

    def quoted(self, value, path):
        """A text; numbers stay as they are while they keep their digits on the way."""
        text(value, path)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) > EXACT_MAX:
            self.note(path, "a number so long loses digits on its way to the plugin: now in quotes")
            return text(value, path)
        return "" if value is None else value

    def unknown(self, node, known, path):
        for name in node:
            if name not in known:
                self.note(f"{path}.{name}", "left out: stock does not read it, and Slidegate refuses what it does not know, or would obey it")


# --- The resource ---


def converted(plugin, image, configuration):
    """The resource as ours; what is said of it goes to the configuration's notes."""
    spec, metadata = plugin.get("spec"), plugin.get("metadata")
    if plugin.get("kind") != "WasmPlugin" or not isinstance(spec, dict) or not isinstance(metadata, dict):
        raise CannotConvert("this is no WasmPlugin with `metadata` and `spec`")
    origin = f"{spec.get('url', '')} {metadata.get('name', '')}"
    if "ai-token-ratelimit" in origin:
        raise CannotConvert(f"spec: {TOKENS}")
    if "cluster-key-rate-limit" not in origin:
        raise CannotConvert("spec.url: names neither `cluster-key-rate-limit` nor `ai-token-ratelimit`")
    spec = {**spec, "url": image}
    for field in ("sha256", "verificationKey"):
        if spec.pop(field, None) is not None:
            configuration.note(f"spec.{field}", "left out: it is that of the old image")
    if "imagePullSecret" in spec:
        configuration.note("spec.imagePullSecret", "kept: see that it opens the new image's registry")
    if spec.get("failStrategy") != "FAIL_OPEN":
        configuration.note("spec.failStrategy", "is FAIL_CLOSE, as before: no request passes while the plugin cannot be loaded")
    if spec.get("pluginConfig") is not None:
        for field in ("defaultConfig", "matchRules"):
            if spec.pop(field, None) is not None:
                configuration.note(f"spec.{field}", "left out: the gateway does not look at it beside `pluginConfig`")
        spec["pluginConfig"] = configuration.document(spec["pluginConfig"], "spec.pluginConfig")
    else:
        convert_rules(spec, configuration)
    return {"apiVersion": plugin.get("apiVersion"), "kind": "WasmPlugin", "metadata": bare(metadata), "spec": spec}


def convert_rules(spec, configuration):
    rules = elements(spec.get("matchRules"))
    enabled = [rule for rule in rules if isinstance(rule, dict) and not rule.get("configDisable")]
    if rules:
        spec["matchRules"] = [match_rule(rule, f"spec.matchRules[{at}]", configuration) for at, rule in enumerate(rules)]
    default = spec.get("defaultConfig") or {}
    if spec.get("defaultConfigDisable"):
        if default:
            configuration.note("spec.defaultConfig", "is disabled and left as it was")
        if not enabled:
            configuration.note("spec", "is not deployed, as before: its default is disabled, and no rule is enabled")
    elif default or not enabled:
        kept = configuration.beside_rules(default, "spec.defaultConfig", bool(enabled))
        if kept is None:
            del spec["defaultConfig"]
            spec["defaultConfigDisable"] = True
        else:
            spec["defaultConfig"] = kept


def match_rule(rule, path, configuration):
    if not isinstance(rule, dict):
        raise StockRefuses(f"{path}: expected an object")
    if rule.get("configDisable"):
        configuration.note(path, "is disabled and left as it was")
        return rule
    fields = (("ingress", "route"), ("domain", "domain"), ("service", "service"))
    names = [configuration.names(rule.get(field), kind, f"{path}.{field}") for field, kind in fields]
    if not any(names):
        raise StockRefuses(f"{path}: expected `ingress`, `domain` or `service`")
    return {**rule, "config": configuration.policy(rule.get("config"), f"{path}.config")}


def bare(metadata):
    """Without what the cluster wrote into it."""
    written = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")
    result = {name: value for name, value in metadata.items() if name not in written}
    annotations = dict(result.pop("annotations", None) or {})
    annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
    return {**result, "annotations": annotations} if annotations else result


def resources(stream):
    for document in yaml.load_all(stream, Loader):
        if isinstance(document, dict) and str(document.get("kind", "")).endswith("List"):
            yield from elements(document.get("items"))
        elif document is not None:
            yield document


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", required=True, help="where Slidegate's image was pushed: oci://...")
    parser.add_argument("file", nargs="?", type=argparse.FileType("r", encoding="utf-8"), default=sys.stdin)
    options = parser.parse_args()
    results, failed = [], False
    try:
        plugins = list(resources(options.file))
    except (yaml.YAMLError, ValueError) as error:
        sys.exit(f"this is no YAML: {error}")
    if not plugins:
        sys.exit("there is no resource in it")
    for plugin in plugins:
        plugin = plugin if isinstance(plugin, dict) else {}
        metadata = plugin.get("metadata")
        name = metadata.get("name", "?") if isinstance(metadata, dict) else "?"
        tell = lambda *words: print(f"{name}:", *words, file=sys.stderr)
        configuration = Configuration()
        try:
            results.append(converted(plugin, options.image, configuration))
        except StockRefuses as refused:
            failed = True
            tell(f"REFUSED: {refused}; the old plugin does not start with this either")
        except CannotConvert as impossible:
            failed = True
            tell(f"REFUSED: {impossible}")
        else:
            for sentence in GENERAL:
                tell(sentence)
        for path, sentence in configuration.notes:
            tell(f"{path}: {sentence}")
    if failed:
        sys.exit(1)
    yaml.dump_all(results, sys.stdout, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=200)


if __name__ == "__main__":
    main()
