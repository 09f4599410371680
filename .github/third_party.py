"""Whose work is in what is released: the crates that are linked into it, with the licences and notices that they ask to be passed on."""

import functools
import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Beginnings of the names of files that licences ask to be passed on.
NOTICES = ("license", "licence", "copying", "copyright", "notice", "unlicense")
SOURCES = {".c", ".cc", ".h", ".json", ".py", ".rs", ".sh", ".toml"}

HEAD = """Slidegate is under the Apache License 2.0. What follows is of others: the crates that are linked into it, under what licence each may be passed on,
and the licences' texts and notices as these crates carry them. The standard library of Rust is in it too, under MIT OR Apache-2.0.
"""


@functools.cache
def metadata(target):
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


@functools.cache
def linked(crate, target):
    """The packages of others that are linked into a crate of the workspace, by their ids. What only runs while it is built is not."""
    known = metadata(target)
    packages = {package["id"]: package for package in known["packages"]}
    nodes = {node["id"]: node for node in known["resolve"]["nodes"]}
    found, waiting = {}, [id for id in known["workspace_members"] if packages[id]["name"] == crate]
    while waiting:
        id = waiting.pop()
        is_macro = any("proc-macro" in each["kind"] for each in packages[id]["targets"])
        if id in found or is_macro:
            continue
        found[id] = packages[id]
        waiting += [
            dependency["pkg"]
            for dependency in nodes[id]["deps"]
            if any(kind["kind"] is None for kind in dependency["dep_kinds"])
        ]
    return {id: package for id, package in found.items() if package["source"]}


def notices(package):
    """The texts in a package, those of C libraries in it too."""
    folder = pathlib.Path(package["manifest_path"]).parent
    named = [path for path in folder.rglob("*") if path.name.lower().startswith(NOTICES)]
    files = [path for path in named if path.is_file() and path.suffix not in SOURCES]
    return [path.read_text(errors="replace").strip() for path in sorted(files)]


def text(parts):
    """The document for these crates of the workspace, each with the target that it is built for."""
    packages = {}
    for crate, target in parts:
        packages.update(linked(crate, target))
    listed = sorted(((f"{package['name']} {package['version']}", package) for package in packages.values()), key=lambda pair: pair[0])
    texts, lines = {}, []
    for name, package in listed:
        of_package = notices(package)
        for notice in of_package:
            texts.setdefault(notice, []).append(name)
        lines.append(f"{name}: {package['license']}" + ("" if of_package else ", which it carries no text of"))
    sections = [f"{'=' * 80}\n{', '.join(names)}\n{'=' * 80}\n\n{notice}\n" for notice, names in texts.items()]
    return "\n".join([HEAD, *lines, "", *sections])
