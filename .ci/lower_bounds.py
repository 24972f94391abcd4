"""Prints, as pip constraints, the oldest release that each `name>=version` requirement of a wheel admits.

Usage: lower_bounds.py WHEEL EXTRA…
Oldest means the oldest with a binary for this Python, so that the bounds can be tested on newer ones as well.
"""

import re
import subprocess
import sys
import zipfile

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.version import Version


def requirements(wheel, extras):
    """The wheel's requirements with one of the extras, or with none; not those on the project itself."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    for line in lines:
        if line.startswith("Requires-Dist: "):
            requirement = Requirement(line.removeprefix("Requires-Dist: "))
            wanted = not requirement.marker or any(requirement.marker.evaluate({"extra": e}) for e in extras)
            if wanted and not requirement.extras:
                yield requirement


def releases(name):
    """The releases of a project with a binary for this Python and platform."""
    command = [sys.executable, "-m", "pip", "index", "versions", "--only-binary=:all:", name]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [Version(v) for v in re.search(r"Available versions: (.*)", listing)[1].split(", ")]


def main(wheel, *extras):
    for requirement in requirements(wheel, extras):
        oldest = min(v for v in releases(requirement.name) if v in requirement.specifier)
        print(f"{requirement.name}=={oldest}")


if __name__ == "__main__":
    main(*sys.argv[1:])
