#!/usr/bin/env python3
"""Writes the gateway as an OCI image layout, without any daemon: from scratch, for a user without rights.

    image.py BINARY CARGO_TOML DIRECTORY

In the image are the binary, the libraries of this machine that it is linked to, the certificates of the authorities that this machine trusts, and a file to
begin with. The same of all of them gives the same bytes. Push it with `skopeo copy oci:DIRECTORY:VERSION docker://...`.
"""

import io
import pathlib
import sys
import tarfile
import tempfile

import binary
from layout import EPOCH, Layout, annotations, compressed, crate, digest, encoded

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

# A number that is nobody's elsewhere, as orchestrators that demand it can see that it is not 0.
USER = 65532
AUTHORITIES = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
SETTINGS = "/etc/slidegate/gateway.yaml"
# Who may be asked for names: glibc's own order of files and servers differs between its versions.
NAMES = "hosts: files dns\n"


def files(gateway):
    """What the image has, as paths with contents and modes."""
    with tempfile.TemporaryDirectory() as folder:
        lean = pathlib.Path(folder, "slidegate")
        binary.stripped(gateway, lean)
        yield "/usr/bin/slidegate", lean.read_bytes(), 0o755
    for library in binary.libraries(gateway):
        yield library, pathlib.Path(library).read_bytes(), 0o755
    settings = binary.output(gateway, "init", "--for", "addresses", "--listen", "0.0.0.0:8080", "--admin", "0.0.0.0:9090", "-")
    for path, text in [
        ("/etc/passwd", f"slidegate:x:{USER}:{USER}::/:/nologin\n"),
        ("/etc/group", f"slidegate:x:{USER}:\n"),
        ("/etc/nsswitch.conf", NAMES),
        (SETTINGS, settings),
        ("/usr/share/doc/slidegate/LICENSE", (binary.ROOT / "LICENSE").read_text()),
        ("/usr/share/doc/slidegate/THIRD-PARTY.txt", binary.third_party()),
    ]:
        yield path, text.encode(), 0o644
    yield str(AUTHORITIES), AUTHORITIES.read_bytes(), 0o644
    for package in ("libc6", "libgcc-s1"):
        licence = pathlib.Path(f"/usr/share/doc/{package}/copyright")
        # Where libraries come from another system than Debian, it says elsewhere whose they are.
        if licence.exists():
            yield str(licence), licence.read_bytes(), 0o644


def archive(members):
    """A tar from no day, of root's files, which nobody in the container may change. A folder stands before what is in it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        folders = {"/"}
        for path, content, mode in sorted(members):
            for folder in reversed(pathlib.PurePosixPath(path).parents):
                if str(folder) not in folders:
                    folders.add(str(folder))
                    entry = tarfile.TarInfo(str(folder).lstrip("/"))
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(entry)
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def main(gateway, cargo_toml, directory):
    of = crate(cargo_toml)
    layout = Layout(directory)
    tar = archive(files(gateway))
    layer = layout.blob(LAYER, compressed(tar))
    labels = annotations(
        description="A gateway with a cluster rate limiter: true sliding windows, counted in Redis",
        licenses=of["license"],
        source=of["repository"],
        title="slidegate",
        version=of["version"],
    )
    config = layout.blob(CONFIG, encoded({
        "created": EPOCH,
        "architecture": binary.architecture(),
        "os": "linux",
        "config": {
            "User": f"{USER}:{USER}",
            "ExposedPorts": {"8080/tcp": {}, "9090/tcp": {}},
            "Entrypoint": ["/usr/bin/slidegate"],
            "Cmd": ["serve", SETTINGS],
            "StopSignal": "SIGTERM",
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(tar)]},
        "history": [{"created": EPOCH, "comment": "slidegate"}],
    }))
    layout.finish(config, layer, labels, of["version"])


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
