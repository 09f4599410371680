#!/usr/bin/env python3
"""Writes the Higress plugin as an OCI image layout, of the form that Higress pulls by `oci://`.

    package.py MODULE CARGO_TOML DIRECTORY

The image is what `FROM scratch` and `COPY ... plugin.wasm` would make: one layer, a gzipped tar with `plugin.wasm` at its root.
The same module and zlib give the same bytes: nothing of the machine or the hour is in them. Push it with
`skopeo copy oci:DIRECTORY:VERSION docker://...`.
"""

import gzip
import hashlib
import io
import json
import pathlib
import shutil
import sys
import tarfile
import tomllib

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
# The gateway's agent accepts this one only: neither plain tar nor zstd.
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
INDEX = "application/vnd.oci.image.index.v1+json"
# A config must name a platform, and nobody looks at it: the nearest of Go's names, of which the specification takes them.
PLATFORM = {"architecture": "wasm", "os": "wasip1"}
EPOCH = "1970-01-01T00:00:00Z"


def main(module, cargo_toml, directory):
    package = tomllib.loads(pathlib.Path(cargo_toml).read_text())["workspace"]["package"]
    wasm = pathlib.Path(module).read_bytes()
    if wasm[:8] != b"\0asm\1\0\0\0":
        sys.exit(f"{module}: this is no WebAssembly core module")
    layout = Layout(pathlib.Path(directory))
    tar = archive(wasm)
    layer = layout.blob(LAYER, compressed(tar))
    labels = annotations(package)
    config = layout.blob(CONFIG, encoded({
        "created": EPOCH,
        **PLATFORM,
        "config": {"Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [digest(tar)]},
        "history": [{"created": EPOCH, "comment": "plugin.wasm"}],
    }))
    manifest = layout.blob(MANIFEST, encoded({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": [layer],
        "annotations": labels,
    }))
    manifest["annotations"] = {"org.opencontainers.image.ref.name": package["version"]}
    layout.finish(manifest)
    print(f"{directory}:{package['version']}  {manifest['digest']}")
    print(f"plugin.wasm  {digest(wasm)}")


def annotations(package):
    prefix = "org.opencontainers.image."
    return {
        prefix + "description": "Cluster rate limiting with sliding windows for the Higress gateway",
        prefix + "licenses": package["license"],
        prefix + "title": "slidegate",
        prefix + "version": package["version"],
    }


def archive(wasm):
    """A tar of nobody's, from no day."""
    entry = tarfile.TarInfo("plugin.wasm")
    entry.size = len(wasm)
    entry.mode = 0o644
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(entry, io.BytesIO(wasm))
    return out.getvalue()


def compressed(data):
    """Without file name and time in the gzip header."""
    out = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=out, mtime=0) as packed:
        packed.write(data)
    return out.getvalue()


def encoded(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layout:
    """The directory. What was in it of an earlier image goes; what is no image stays, and is an error."""

    def __init__(self, directory):
        if directory.exists() and any(directory.iterdir()) and not (directory / "oci-layout").exists():
            sys.exit(f"{directory}: not empty, and no OCI layout")
        shutil.rmtree(directory, ignore_errors=True)
        self.directory = directory
        self.blobs = directory / "blobs" / "sha256"
        self.blobs.mkdir(parents=True)

    def blob(self, media_type, data):
        """Writes a blob and returns its descriptor."""
        name = digest(data)
        (self.blobs / name.removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": media_type, "digest": name, "size": len(data)}

    def finish(self, manifest):
        (self.directory / "oci-layout").write_bytes(encoded({"imageLayoutVersion": "1.0.0"}))
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]}
        (self.directory / "index.json").write_bytes(encoded(index))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
