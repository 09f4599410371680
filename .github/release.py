"""Gathers what is attached to a release into dist/release, from what `just release` left in dist."""

import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import tarfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
RELEASE = DIST / "release"


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def version():
    packages = json.loads(output("cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"))["packages"]
    return next(package["version"] for package in packages if package["name"] == "slidegate")


def target():
    return next(line.split(": ")[1] for line in output("rustc", "-vV").splitlines() if line.startswith("host: "))


def archive(name, files):
    """A reproducible archive: sorted, without owners and times."""

    def plain(entry):
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(RELEASE / f"{name}.tar.xz", "w:xz") as archive:
        for path in sorted(files):
            archive.add(path, f"{name}/{path.name}", filter=plain)


def bill_of_materials(name):
    """What the gateway is made of, as CycloneDX, by the tool that knows Cargo's lock."""
    subprocess.run(
        ["cargo", "cyclonedx", "--format", "json", "--override-filename", name, "--manifest-path", ROOT / "host/Cargo.toml"],
        cwd=ROOT,
        check=True,
    )
    for written in ROOT.glob(f"**/{name}.json"):
        if written.parent == ROOT / "host":
            # Where it was built is nobody's business, and differs from machine to machine.
            bill = written.read_text().replace(f"file://{ROOT}/", "file:///")
            (RELEASE / f"{name}.cdx.json").write_text(bill)
            written.unlink()
        elif "target" not in written.parts and "dist" not in written.parts:
            written.unlink()


def check_nameless(files):
    """Where it was built is nobody's business: no path of this checkout, of what Cargo has fetched, or below the home folder."""
    folders = [ROOT, os.environ.get("CARGO_HOME", "/.cargo"), pathlib.Path.home()]
    places = re.compile(b"|".join(re.escape(f"{folder}/".encode()) for folder in folders))
    for path in files:
        found = {match.group().decode() for match in places.finditer(path.read_bytes())}
        if found:
            raise SystemExit(f"{path.name} has paths of this machine in it: {', '.join(sorted(found))}; `just release` builds one without")


def main():
    guests = [DIST / guest for guest in ["slidegate.wasm", "slidegate-higress.wasm"]]
    check_nameless([DIST / "slidegate", *guests])
    shutil.rmtree(RELEASE, ignore_errors=True)
    RELEASE.mkdir(parents=True)
    name = f"slidegate-{version()}-{target()}"
    manual = RELEASE / "manual"
    manual.mkdir()
    gateway = DIST / "slidegate"
    subprocess.run([gateway, "man", manual], check=True)
    for shell, file in [("bash", "slidegate.bash"), ("zsh", "_slidegate"), ("fish", "slidegate.fish")]:
        (manual / file).write_text(output(gateway, "completions", shell))
    archive(name, [gateway, ROOT / "README.md", ROOT / "LICENSE", *manual.iterdir()])
    shutil.rmtree(manual)
    for guest in guests:
        shutil.copy(guest, RELEASE / guest.name)
    bill_of_materials(name)
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(RELEASE.iterdir())]
    (RELEASE / "SHA256SUMS").write_text("".join(sums))
    print("".join(sums), end="")


main()
