"""What packages of the gateway have in common: its binary without symbols, what it prints, and what it is linked to."""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

# By the names that the kernel gives machines, those of Debian and of OCI.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture():
    return ARCHITECTURES[os.uname().machine]


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def stripped(binary, file):
    """Writes it without its symbols, which are a sixth of it."""
    subprocess.run(["strip", "--strip-unneeded", "-o", file, binary], check=True)
    file.chmod(0o755)


def libraries(binary):
    """The shared libraries that it needs, by the paths that they are looked for at."""
    return re.findall(r"(/\S+) \(0x", output("ldd", binary))


def glibc(binary):
    """The oldest version of glibc that it runs with."""
    versions = re.findall(r"GLIBC_([0-9]+)\.([0-9]+)", output("objdump", "-T", binary))
    return "{}.{}".format(*max((int(major), int(minor)) for major, minor in versions))


def third_party():
    """Whose work is in it, with their licences."""
    sys.path.append(str(ROOT / ".github"))
    import third_party as known

    target = re.search("^host: (.*)$", output("rustc", "-vV"), re.MULTILINE)[1]
    return known.text([("slidegate", target), ("slidegate-component", "wasm32-unknown-unknown")])
