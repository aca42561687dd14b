"""What installed packages need."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed(name: str, extras: Iterable[str] = ()) -> set[str]:
    """Packages that one needs here, itself included, as the installed ones say."""
    found: set[tuple[str, str]] = set()
    asked = [(name, extra) for extra in ("", *extras)]
    while asked:
        package, extra = asked.pop()
        if (package, extra) not in found:
            found.add((package, extra))
            for text in requires(package) or []:
                wanted = Requirement(text)
                if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                    asked += [(canonicalize_name(wanted.name), more) for more in ("", *wanted.extras)]
    return {package for package, _ in found} - {"ltr-pipeline"}
