#!/usr/bin/env python3
"""Writes the Higress plugin as an OCI image layout, of the form that Higress pulls by `oci://`.

    higress.py MODULE CARGO_TOML DIRECTORY

The image is what `FROM scratch` and `COPY ... plugin.wasm` would make: one layer, a gzipped tar with `plugin.wasm` at its root.
The same module and zlib give the same bytes. Push it with `skopeo copy oci:DIRECTORY:VERSION docker://...`.
"""

import io
import pathlib
import sys
import tarfile

from layout import EPOCH, Layout, annotations, compressed, crate, digest, encoded

CONFIG = "application/vnd.oci.image.config.v1+json"
# The gateway's agent accepts this one only: neither plain tar nor zstd.
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
# A config must name a platform, and nobody looks at it: the nearest of Go's names, of which the specification takes them.
PLATFORM = {"architecture": "wasm", "os": "wasip1"}


def main(module, cargo_toml, directory):
    of = crate(cargo_toml)
    wasm = pathlib.Path(module).read_bytes()
    if wasm[:8] != b"\0asm\1\0\0\0":
        sys.exit(f"{module}: this is no WebAssembly core module")
    layout = Layout(directory)
    tar = archive(wasm)
    layer = layout.blob(LAYER, compressed(tar))
    labels = annotations(
        description="Cluster rate limiting with sliding windows for the Higress gateway",
        licenses=of["license"],
        title="slidegate",
        version=of["version"],
    )
    config = layout.blob(CONFIG, encoded({
        "created": EPOCH,
        **PLATFORM,
        "config": {"Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [digest(tar)]},
        "history": [{"created": EPOCH, "comment": "plugin.wasm"}],
    }))
    layout.finish(config, layer, labels, of["version"])
    print(f"plugin.wasm  {digest(wasm)}")


def archive(wasm):
    """A tar of nobody's, from no day."""
    entry = tarfile.TarInfo("plugin.wasm")
    entry.size = len(wasm)
    entry.mode = 0o644
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(entry, io.BytesIO(wasm))
    return out.getvalue()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
