"""Gathers what is attached to a release into dist/release, from what `just release` left in dist.

`--tag TAG` only says whether a tag is that of the version. `--dist FOLDER` takes another folder, `--no-bills` leaves out what Cargo alone cannot make.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import tarfile

import third_party

ROOT = pathlib.Path(__file__).resolve().parent.parent

# What runs anywhere: the target, and of each file the folder of its crate below `guest`.
WASM = "wasm32-unknown-unknown"
GUESTS = [("slidegate.wasm", "component"), ("slidegate-higress.wasm", "shim")]


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def version():
    packages = json.loads(output("cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"))["packages"]
    return next(package["version"] for package in packages if package["name"] == "slidegate")


def target():
    return next(line.split(": ")[1] for line in output("rustc", "-vV").splitlines() if line.startswith("host: "))


def check_tag(tag):
    """A release is called by the version that its crates have."""
    if tag != f"v{version()}":
        raise SystemExit(f"the tag {tag} is not v{version()}, the version in Cargo.toml: change one of them")


def archive(file, name, members):
    """A reproducible archive: sorted, without owners and times."""

    def plain(entry):
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(file, "w:xz") as archive:
        for path in sorted(members, key=lambda path: path.name):
            archive.add(path, f"{name}/{path.name}", filter=plain)


def bills_of_materials(release, name):
    """What the gateway and each guest is made of, as CycloneDX, by the tool that knows Cargo's lock. The gateway has the component in it, whose bill is
    beside its own."""
    made = {"host": name, **{f"guest/{folder}": file for file, folder in GUESTS}}
    # A name that no file of the workspace has: one bill is written beside each manifest.
    mark = "bill-of-materials-of-a-release"
    try:
        output("cargo", "cyclonedx", "--format", "json", "--override-filename", mark, "--manifest-path", "host/Cargo.toml")
        for folder, called in made.items():
            # Where it was built is nobody's business, and differs from machine to machine.
            bill = (ROOT / folder / f"{mark}.json").read_text().replace(f"file://{ROOT}/", "file:///")
            names = {component["name"] for component in json.loads(bill)["components"]}
            needed = "wasmtime" if folder == "host" else "slidegate-engine"
            if needed not in names:
                raise SystemExit(f"the bill of {called} leaves out {needed}")
            (release / f"{called}.cdx.json").write_text(bill)
    finally:
        for manifest in output("git", "ls-files", "*Cargo.toml").splitlines():
            (ROOT / manifest).with_name(f"{mark}.json").unlink(missing_ok=True)


def check_nameless(files):
    """Where it was built is nobody's business: no path of this checkout, of what Cargo has fetched, or below the home folder."""
    folders = [ROOT, os.environ.get("CARGO_HOME", "/.cargo"), pathlib.Path.home()]
    places = re.compile(b"|".join(re.escape(f"{folder}/".encode()) for folder in folders))
    for path in files:
        found = {match.group().decode() for match in places.finditer(path.read_bytes())}
        if found:
            raise SystemExit(f"{path.name} has paths of this machine in it: {', '.join(sorted(found))}; `just release` builds one without")


def gather(dist, has_bills):
    guests = [dist / file for file, _ in GUESTS]
    gateway = dist / "slidegate"
    check_nameless([gateway, *guests])
    release = dist / "release"
    shutil.rmtree(release, ignore_errors=True)
    parts = release / "parts"
    parts.mkdir(parents=True)
    name = f"slidegate-{version()}-{target()}"
    subprocess.run([gateway, "man", parts], check=True)
    for shell, file in [("bash", "slidegate.bash"), ("zsh", "_slidegate"), ("fish", "slidegate.fish")]:
        (parts / file).write_text(output(gateway, "completions", shell))
    of_guests = [(f"slidegate-{folder}", WASM) for _, folder in GUESTS]
    (parts / "THIRD-PARTY.txt").write_text(third_party.text([("slidegate", target()), of_guests[0]]))
    (release / "slidegate-wasm-THIRD-PARTY.txt").write_text(third_party.text(of_guests))
    archive(release / f"{name}.tar.xz", name, [gateway, ROOT / "README.md", ROOT / "LICENSE", *parts.iterdir()])
    shutil.rmtree(parts)
    for guest in guests:
        shutil.copy(guest, release / guest.name)
    for package in sorted((dist / "packages").glob("*")):
        shutil.copy(package, release / package.name)
    if has_bills:
        bills_of_materials(release, name)
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(release.iterdir())]
    (release / "SHA256SUMS").write_text("".join(sums))
    print("".join(sums), end="")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tag")
    parser.add_argument("--dist", type=pathlib.Path, default=ROOT / "dist")
    parser.add_argument("--no-bills", action="store_true")
    arguments = parser.parse_args()
    if arguments.tag:
        check_tag(arguments.tag)
    else:
        gather(arguments.dist.resolve(), not arguments.no_bills)


main()
