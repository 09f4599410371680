"""What is laid out for Kubernetes: rendered, held to the schemas of its oldest and newest version there are, and its settings served and changed as a cluster does.

SLIDEGATE_KUBECTL names the program; without it, it is that which `just` leaves, or the system's.
"""

import copy
import os
import pathlib
import shutil
import tempfile
import unittest

import helm_python
import kubernetes_validate
import yaml

from processes import DEPLOY, GATEWAY, ROOT, Gateway, said
from redis_server import eventually

LEFT_BY_JUST = ROOT / "target/peers/bin/kubectl"
KUBECTL = os.environ.get("SLIDEGATE_KUBECTL", LEFT_BY_JUST if LEFT_BY_JUST.exists() else "kubectl")
CHART = DEPLOY / "helm/slidegate"
# The chart's `kubeVersion` begins here.
VERSIONS = ["1.25.0", kubernetes_validate.latest_version()]

# Every value that is empty unless somebody sets it.
VALUES = {
    "replicas": 3,
    "image": {"repository": "registry.test/slidegate", "tag": "1.2.3", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "settings": {"listen": ":8080", "admin": ":9090", "upstream": "https://backend.test", "redis": "redis://:${PASSWORD}@redis:6379"},
    "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "redis", "key": "password"}}}],
    "volumes": [{"name": "certificates", "secret": {"secretName": "gateway"}}],
    "volumeMounts": [{"name": "certificates", "mountPath": "/certificates", "readOnly": True}],
    "service": {"type": "LoadBalancer", "port": 8000, "annotations": {"a.test/b": "c"}},
    "podAnnotations": {"a.test/b": "c"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "gateway", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}},
}


def by_kind(texts):
    objects = [each for text in texts for each in yaml.safe_load_all(text) if each]
    kinds = {each["kind"]: each for each in objects}
    assert len(kinds) == len(objects), "one of a kind"
    return kinds


def kustomized(folder=DEPLOY / "kustomize"):
    return by_kind([said(KUBECTL, "kustomize", folder)])


def rendered(values=None, name="slidegate"):
    chart = helm_python.Chart.load(CHART)
    return by_kind(text for path, text in chart.render(values, name=name, namespace="default").items() if not path.endswith((".tpl", ".txt")))


class Manifests(unittest.TestCase):
    def hold(self, kinds):
        """To the schemas of Kubernetes, in which no unknown field is; and to what its parts have to say of each other."""
        self.assertEqual(kinds.keys(), {"ConfigMap", "Deployment", "PodDisruptionBudget", "Service"})
        for version in VERSIONS:
            for each in kinds.values():
                kubernetes_validate.validate(each, version, strict=True)
        deployment = kinds["Deployment"]["spec"]
        labels = deployment["template"]["metadata"]["labels"].items()
        for chosen in [deployment["selector"]["matchLabels"], kinds["Service"]["spec"]["selector"], kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]]:
            self.assertTrue(chosen and chosen.items() <= labels, chosen)
        volumes = deployment["template"]["spec"]["volumes"]
        self.assertEqual(volumes[0]["configMap"]["name"], kinds["ConfigMap"]["metadata"]["name"])

    def checked(self, kinds):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "gateway.yaml")
            file.write_text(kinds["ConfigMap"]["data"]["gateway.yaml"])
            return said(GATEWAY, "check", "--strict", file, env={**os.environ, "PASSWORD": "hush"})

    def test_the_base_of_kustomize_is_valid_and_so_are_its_settings(self):
        kinds = kustomized()
        self.hold(kinds)
        self.assertIn("0.0.0.0:9090", self.checked(kinds))

    def test_an_overlay_changes_image_and_settings(self):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(DEPLOY / "kustomize", f"{folder}/base")
            overlay = pathlib.Path(folder, "overlay")
            overlay.mkdir()
            readme = (DEPLOY / "README.md").read_text()
            (overlay / "kustomization.yaml").write_text(readme.split("```yaml\n# kustomization.yaml\n")[1].split("```")[0])
            (overlay / "gateway.yaml").write_text("listen: :8080\nadmin: :9090\nupstream: http://shop\n")
            kinds = kustomized(overlay)
        self.hold(kinds)
        self.assertIn("http://shop", self.checked(kinds))
        self.assertEqual(kinds["Deployment"]["spec"]["template"]["spec"]["containers"][0]["image"], "registry.example/slidegate:0.1.0")

    def test_the_chart_is_valid_with_all_values_and_with_none(self):
        self.assertEqual(helm_python.lint(CHART, strict=True)["errors"], [])
        for values in (None, VALUES):
            kinds = rendered(values, "shop")
            self.hold(kinds)
            self.checked(kinds)
        container = kinds["Deployment"]["spec"]["template"]["spec"]["containers"][0]
        self.assertEqual(container["image"], "registry.test/slidegate:1.2.3")
        self.assertEqual(container["env"], VALUES["env"])

    def test_the_chart_is_what_the_base_is(self):
        def bare(kinds):
            """Without what a chart adds, and with settings as they are understood."""
            kinds = copy.deepcopy(kinds)
            for kind, each in kinds.items():
                each.pop("metadata")
                if kind == "Deployment":
                    each["spec"]["template"]["metadata"].pop("labels")
                    pod = each["spec"]["template"]["spec"]
                    pod["topologySpreadConstraints"][0].pop("labelSelector")
                    pod["containers"][0].pop("imagePullPolicy", None)
                if kind == "ConfigMap":
                    each["data"] = yaml.safe_load(each["data"]["gateway.yaml"])
                else:
                    each["spec"].pop("selector")
            kinds["Service"]["spec"].pop("type", None)
            return kinds

        self.assertEqual(bare(rendered()), bare(kustomized()))

    def test_the_chart_has_the_version_of_the_crates(self):
        version = said("cargo", "metadata", "--no-deps", "--locked", "--format-version", "1", cwd=ROOT)
        version = next(each["version"] for each in yaml.safe_load(version)["packages"] if each["name"] == "slidegate")
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
        self.assertEqual((chart["version"], chart["appVersion"]), (version, version))
        image = kustomized()["Deployment"]["spec"]["template"]["spec"]["containers"][0]["image"]
        self.assertEqual(image, f"slidegate:{version}")


class Volume:
    """A folder as kubelet keeps that of a ConfigMap: files are links through `..data`, a link that is exchanged as a whole."""

    def __init__(self, folder):
        self.folder, self.version = pathlib.Path(folder), 0

    def write(self, text):
        before, self.version = self.folder / f"..{self.version}", self.version + 1
        now = self.folder / f"..{self.version}"
        now.mkdir()
        (now / "gateway.yaml").write_text(text)
        (self.folder / "..data_tmp").symlink_to(now.name)
        (self.folder / "..data_tmp").rename(self.folder / "..data")
        if before.exists():
            shutil.rmtree(before)
        else:
            (self.folder / "gateway.yaml").symlink_to("..data/gateway.yaml")


class Reload(unittest.TestCase):
    def test_a_changed_configmap_is_taken_up(self):
        settings = "upstream: http://127.0.0.1:1\nfilter: {{rule_name: all, global_threshold: {{query_per_day: {}}}, rejected_code: {}}}\n"
        with tempfile.TemporaryDirectory() as folder:
            volume = Volume(folder)
            volume.write(settings.format(1, 420))
            gateway = Gateway.of(f"{folder}/gateway.yaml")
            try:
                self.assertEqual([gateway.status(), gateway.status()], [502, 420])
                volume.write(settings.format(1, 421))
                eventually(lambda: gateway.status() == 421, "the first change is in force")
                volume.write("upstream: 5\n")
                eventually(lambda: "expected" in gateway.logged(), "a mistake is told")
                self.assertEqual(gateway.status(), 421, "what was in force stays")
                volume.write(settings.format(1, 422))
                eventually(lambda: gateway.status() == 422, "the second change is in force")
            finally:
                gateway.stop()


if __name__ == "__main__":
    unittest.main()
