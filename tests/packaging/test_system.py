"""The packages of the gateway for systems: an image in whose files it runs, a package of Debian, a service. And the workflows that test and release them."""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import tempfile
import unittest

from processes import DEPLOY, GATEWAY, ROOT, Server, fetch, said
from redis_server import free_port

ACTIONLINT = os.environ.get("SLIDEGATE_ACTIONLINT", ROOT / "target/packaging/bin/actionlint")
CARGO_TOML = ROOT / "Cargo.toml"
# What systemd calls exposure, 0 to 10, in tenths.
EXPOSURE_MAX = 15
USER = 65532


def chrooted(root, user):
    """What begins a command in a folder as its root: of whoever may, as this user, else as a root of nobody's."""
    return ["chroot", f"--userspec={user}:{user}", root] if os.geteuid() == 0 else ["unshare", "--map-root-user", "chroot", root]


# This system with a layer on top that takes what is written, in a namespace of its own. Within a container that may be refused.
OVERLAY = """
    mount -t tmpfs tmpfs /mnt
    mkdir /mnt/written /mnt/work /mnt/system
    mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/written,workdir=/mnt/work /mnt/system
    mount --bind /tmp /mnt/system/tmp
    mount --bind /dev /mnt/system/dev
"""


def may_overlay():
    return subprocess.run(["unshare", "--mount", "bash", "-euc", OVERLAY], capture_output=True).returncode == 0


def serves(test, command, file):
    """That it answers, for want of an upstream that it cannot be reached; and that it ends as it is asked to."""
    listen, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    server = Server([*command, "serve", file, "--listen", listen, "--admin", admin], f"http://{admin}/readyz")
    try:
        test.assertEqual(fetch(f"http://{listen}/"), (502, "the upstream cannot be reached\n"))
        # Where there is no /proc, nothing is told of the process.
        test.assertIn("slidegate_build_info", fetch(f"http://{admin}/metrics")[1])
        server.process.send_signal(signal.SIGTERM)
        test.assertEqual(server.process.wait(20), 0, server.logged())
    finally:
        server.stop()


class Image(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.layout = pathlib.Path(cls.folder.name, "image")
        cls.write(cls.layout)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @staticmethod
    def write(layout):
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "guest/package")}
        said(sys.executable, "-B", DEPLOY / "image.py", GATEWAY, CARGO_TOML, layout, env=environment)

    def blob(self, descriptor):
        content = (self.layout / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()
        self.assertEqual((f"sha256:{hashlib.sha256(content).hexdigest()}", len(content)), (descriptor["digest"], descriptor["size"]))
        return content

    def described(self):
        """The manifest and the configuration."""
        index = json.loads((self.layout / "index.json").read_text())
        manifest = json.loads(self.blob(index["manifests"][0]))
        return manifest, json.loads(self.blob(manifest["config"]))

    def unpacked(self):
        root = pathlib.Path(self.folder.name, self.id())
        root.mkdir()
        manifest, _ = self.described()
        layer = root.with_suffix(".tar.gz")
        layer.write_bytes(self.blob(manifest["layers"][0]))
        with tarfile.open(layer) as tar:
            for member in tar:
                self.assertEqual((member.uid, member.gid, member.mtime, member.mode & 0o7022), (0, 0, 0, 0), member.name)
            tar.extractall(root, filter="tar")
        # As whoever unpacked it may keep others out.
        pathlib.Path(self.folder.name).chmod(0o755)
        return root

    def test_it_is_for_a_user_without_rights(self):
        _, config = self.described()
        told = config["config"]
        self.assertEqual((told["User"], told["Entrypoint"], told["Cmd"]), (f"{USER}:{USER}", ["/usr/bin/slidegate"], ["serve", "/etc/slidegate/gateway.yaml"]))
        self.assertEqual(told["ExposedPorts"].keys(), {"8080/tcp", "9090/tcp"})

    def test_the_gateway_runs_with_nothing_but_what_is_in_it(self):
        root = self.unpacked()
        command = [*chrooted(root, USER), "/usr/bin/slidegate"]
        self.assertEqual(said(*command, "--version"), said(GATEWAY, "--version"))
        self.assertIn("0.0.0.0:9090", said(*command, "check", "--strict", "/etc/slidegate/gateway.yaml"))
        serves(self, command, "/etc/slidegate/gateway.yaml")
        # Whom it trusts, without which it would not start in front of such an upstream.
        secured = root / "etc/slidegate/secured.yaml"
        secured.write_text("upstream: https://127.0.0.1:1\n")
        serves(self, command, "/etc/slidegate/secured.yaml")
        for document in ("slidegate/LICENSE", "slidegate/THIRD-PARTY.txt"):
            self.assertGreater((root / "usr/share/doc" / document).stat().st_size, 5_000)

    def test_tools_read_it(self):
        told = json.loads(said("skopeo", "inspect", f"oci:{self.layout}"))
        self.assertEqual((told["Os"], told["Labels"]["org.opencontainers.image.title"]), ("linux", "slidegate"))
        said("skopeo", "copy", "--quiet", f"oci:{self.layout}", f"docker-archive:{self.folder.name}/docker.tar:slidegate:test")

    def test_it_is_the_same_each_time(self):
        again = pathlib.Path(self.folder.name, "again")
        self.write(again)
        self.assertEqual((again / "index.json").read_text(), (self.layout / "index.json").read_text())


class Debian(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        folder = pathlib.Path(cls.folder.name)
        said(sys.executable, "-B", DEPLOY / "deb.py", GATEWAY, CARGO_TOML, folder)
        (cls.deb,) = folder.glob("*.deb")
        cls.root = folder / "root"
        said("dpkg-deb", "-x", cls.deb, cls.root)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_lintian_finds_no_fault(self):
        said("lintian", "--allow-root", "--tag-display-limit", "0", "--fail-on", "error,warning", self.deb)

    def test_it_has_what_it_should(self):
        for path in [
            "usr/share/man/man1/slidegate.1.gz", "usr/share/man/man1/slidegate-serve.1.gz", "usr/share/bash-completion/completions/slidegate",
            "usr/share/zsh/vendor-completions/_slidegate", "usr/share/fish/vendor_completions.d/slidegate.fish", "usr/share/doc/slidegate/THIRD-PARTY.txt.gz",
        ]:
            self.assertGreater((self.root / path).stat().st_size, 100, path)
        binary = self.root / "usr/bin/slidegate"
        self.assertEqual(said(binary, "--version"), said(GATEWAY, "--version"))
        serves(self, [binary], self.root / "etc/slidegate/gateway.yaml")
        control = said("dpkg-deb", "--ctrl-tarfile", self.deb, errors="replace")
        self.assertIn("/etc/slidegate/gateway.yaml\n", control)

    @unittest.skipUnless(may_overlay(), "a system on top of this one takes rights")
    def test_it_comes_and_goes_as_packages_do(self):
        """Installed, changed, installed again, removed and purged, in a copy of this system of which nothing stays."""
        said("unshare", "--mount", "bash", "-euc", f"""{OVERLAY}
            chroot /mnt/system dpkg --install {self.deb}
            chroot /mnt/system getent passwd slidegate | grep ':Slidegate gateway:/nonexistent:/usr/sbin/nologin$'
            test "$(chroot /mnt/system stat --format '%U:%G %a' /etc/slidegate)" = 'root:slidegate 750'
            chroot --userspec=slidegate:slidegate /mnt/system slidegate check --strict /etc/slidegate/gateway.yaml
            chroot /mnt/system man --pager=cat slidegate-serve > /dev/null
            echo 'upstream: http://127.0.0.1:9002' > /mnt/system/etc/slidegate/gateway.yaml
            chroot /mnt/system chmod 0755 /etc/slidegate
            chroot /mnt/system dpkg --install {self.deb}
            grep 9002 /mnt/system/etc/slidegate/gateway.yaml
            test "$(chroot /mnt/system stat --format %a /etc/slidegate)" = 755
            chroot /mnt/system dpkg --remove slidegate
            test ! -e /mnt/system/usr/bin/slidegate
            test -e /mnt/system/etc/slidegate/gateway.yaml
            chroot /mnt/system dpkg --purge slidegate
            test ! -e /mnt/system/etc/slidegate
        """)

    def test_the_service_is_well_confined(self):
        service = self.root / "usr/lib/systemd/system/slidegate.service"
        with tempfile.TemporaryDirectory() as folder:
            # The program is looked for where the service has it.
            unit = pathlib.Path(folder, "slidegate.service")
            unit.write_text(service.read_text().replace("/usr/bin/slidegate", str(GATEWAY)))
            said("systemd-analyze", "verify", "--man=no", unit)
        told = said("systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", service)
        self.assertRegex(told.splitlines()[-1], r"Overall exposure level for slidegate.service: \d\.\d")


class Workflows(unittest.TestCase):
    def test_they_have_no_fault(self):
        said(ACTIONLINT, "-shellcheck=", *sorted((ROOT / ".github/workflows").glob("*.yml")))


if __name__ == "__main__":
    unittest.main()
