#!/usr/bin/env python3
"""Writes the gateway as a package of Debian, and of the systems made of it.

    deb.py BINARY CARGO_TOML DIRECTORY

In it are the binary, its manual pages and completions, a service of systemd with a user of its own, and /etc/slidegate/gateway.yaml, which dpkg keeps as its
owner leaves it. The service is neither enabled nor started: what stands behind the gateway has to be said first. The same binary gives the same bytes.
"""

import gzip
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import tomllib

import binary

DEPLOY = pathlib.Path(__file__).resolve().parent
# Whatever is packed is from this second.
EPOCH = 1577836800
MAINTAINER = "Slidegate maintainers <slidegate@users.noreply.github.com>"


def control(version, gateway, size, repository):
    return f"""Package: slidegate
Version: {version}
Architecture: {binary.architecture()}
Maintainer: {MAINTAINER}
Installed-Size: {size}
Depends: libc6 (>= {binary.glibc(gateway)}), libgcc-s1, systemd | systemd-standalone-sysusers
Recommends: ca-certificates
Suggests: redis-server
Section: net
Priority: optional
Homepage: {repository}
Description: gateway with a cluster rate limiter
 A gateway that limits requests, and tokens of language models, by true sliding
 windows, which are counted in Redis for all gateways together or in the
 process. It also reads sessions and keeps responses, and is asked by other
 proxies what is to become of a request.
"""


def packed(file, text):
    """A text as documentation is kept: compressed, without name and time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "wb") as raw, gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=raw, mtime=0) as out:
        out.write(text.encode())


def written(file, text, mode=0o644):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


def fill(root, gateway, version, repository):
    """The files of the package below a folder."""
    (root / "usr/bin").mkdir(parents=True)
    binary.stripped(gateway, root / "usr/bin/slidegate")
    written(root / "etc/slidegate/gateway.yaml", binary.output(gateway, "init", "--for", "addresses", "-"))
    written(root / "usr/lib/systemd/system/slidegate.service", (DEPLOY / "systemd/slidegate.service").read_text())
    written(root / "usr/lib/sysusers.d/slidegate.conf", (DEPLOY / "systemd/slidegate.conf").read_text())
    share = root / "usr/share"
    with tempfile.TemporaryDirectory() as pages:
        binary.output(gateway, "man", pages)
        for page in pathlib.Path(pages).iterdir():
            packed(share / f"man/man1/{page.name}.gz", page.read_text())
    for shell, file in [
        ("bash", "bash-completion/completions/slidegate"),
        ("zsh", "zsh/vendor-completions/_slidegate"),
        ("fish", "fish/vendor_completions.d/slidegate.fish"),
    ]:
        written(share / file, binary.output(gateway, "completions", shell))
    documents = share / "doc/slidegate"
    packed(documents / "changelog.Debian.gz", f"""slidegate ({version}) unstable; urgency=medium

  * What changed stands in its repository, in .github/CHANGELOG.md.

 -- {MAINTAINER}  Wed, 01 Jan 2020 00:00:00 +0000
""")
    written(documents / "copyright", (DEPLOY / "debian/copyright").read_text())
    packed(documents / "THIRD-PARTY.txt.gz", binary.third_party())
    written(root / "usr/share/lintian/overrides/slidegate", (DEPLOY / "debian/lintian-overrides").read_text())


def main(gateway, cargo_toml, directory):
    of = tomllib.loads(pathlib.Path(cargo_toml).read_text())["workspace"]["package"]
    version = f"{of['version']}-1"
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder, "slidegate")
        root.mkdir(mode=0o755)
        fill(root, gateway, version, of["repository"])
        files = [path for path in root.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) // 1024
        written(root / "DEBIAN/control", control(version, gateway, size, of["repository"]))
        written(root / "DEBIAN/conffiles", "/etc/slidegate/gateway.yaml\n")
        for script in ("postinst", "prerm", "postrm"):
            shutil.copy(DEPLOY / "debian" / script, root / "DEBIAN" / script)
            (root / "DEBIAN" / script).chmod(0o755)
        sums = binary.output("sh", "-c", f"cd {root} && find usr -type f -print0 | sort -z | xargs -0 md5sum")
        written(root / "DEBIAN/md5sums", sums)
        for path in [root, *root.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
            os.utime(path, (EPOCH, EPOCH))
        deb = pathlib.Path(directory) / f"slidegate_{version}_{binary.architecture()}.deb"
        deb.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Zxz", "--build", root, deb], check=True, env=environment, stdout=subprocess.DEVNULL)
        print(f"{deb}  {deb.stat().st_size} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
