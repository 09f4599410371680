#!/usr/bin/env python3
"""Writes a component, or a package of WIT in WebAssembly, as an OCI artifact of the form that `wkg` writes and reads.

    component.py FILE DESCRIPTION CARGO_TOML DIRECTORY

DESCRIPTION is what `contract describe FILE` prints. The file is the only layer, as it is; the config says what it exports and imports. A package has its own
version, a component that of the crates. Push it with `skopeo copy oci:DIRECTORY:VERSION docker://...`.
"""

import json
import pathlib
import sys

from layout import EPOCH, Layout, annotations, crate, digest, encoded

CONFIG = "application/vnd.wasm.config.v0+json"
LAYER = "application/wasm"
# What there is to choose from for a component, whether it knows WASI or not.
PLATFORM = {"architecture": "wasm", "os": "wasip2"}


def main(file, description, cargo_toml, directory):
    of = crate(cargo_toml)
    wasm = pathlib.Path(file).read_bytes()
    described = json.loads(pathlib.Path(description).read_text())
    package = described["package"]
    version = package["version"] if package else of["version"]
    layout = Layout(directory)
    layer = layout.blob(LAYER, wasm)
    config = layout.blob(CONFIG, encoded({
        "created": EPOCH,
        "author": None,
        **PLATFORM,
        "layerDigests": [digest(wasm)],
        "component": described["component"],
    }))
    told = annotations(
        description=f"The contract {package['name']}" if package else "Slidegate's filter, for hosts of the component model",
        licenses=of["license"],
        source=of["repository"],
        title=package["name"] if package else "slidegate",
        version=version,
    )
    layout.finish(config, layer, told, version)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
