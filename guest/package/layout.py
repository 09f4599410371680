"""Image layouts of OCI, whose bytes are the same each time: nothing of the machine or the hour is in them."""

import gzip
import hashlib
import io
import json
import pathlib
import shutil
import sys
import tomllib

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
EPOCH = "1970-01-01T00:00:00Z"


def crate(cargo_toml):
    """What all crates of the workspace say of themselves."""
    return tomllib.loads(pathlib.Path(cargo_toml).read_text())["workspace"]["package"]


def annotations(**told):
    return {f"org.opencontainers.image.{name}": value for name, value in told.items()}


def encoded(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def compressed(data):
    """Without file name and time in the gzip header."""
    out = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=out, mtime=0) as packed:
        packed.write(data)
    return out.getvalue()


class Layout:
    """The directory. What was in it of an earlier image goes; what is no image stays, and is an error."""

    def __init__(self, directory):
        directory = pathlib.Path(directory)
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

    def finish(self, config, layer, told, tag):
        """The manifest of one layer, which the tag names."""
        manifest = self.blob(MANIFEST, encoded({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": [layer],
            "annotations": told,
        }))
        manifest["annotations"] = annotations(**{"ref.name": tag})
        (self.directory / "oci-layout").write_bytes(encoded({"imageLayoutVersion": "1.0.0"}))
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]}
        (self.directory / "index.json").write_bytes(encoded(index))
        print(f"{self.directory}:{tag}  {manifest['digest']}")
