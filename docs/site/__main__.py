"""`python -m docs.site`: the reference from the code, the site from the docs, and every check of both."""

import sys
import time
from pathlib import Path

from docs.generate.__main__ import write as write_reference
from docs.site import build, checks, machines, staging

BUILD = staging.ROOT / "build"


def make(build_folder: Path = BUILD) -> Path:
    """Build the site and check it.

    Args:
        build_folder: the site is made in `site` in it.

    Returns:
        the folder of the version that was built.

    Raises:
        BuildError: with everything that is wrong.
    """
    staged = build_folder / "docs"
    staging.stage(staged)
    site = build.build(staged, build_folder / "site")
    machines.write(staged, site)
    if found := checks.problems(site):
        raise build.BuildError("\n".join(found))
    return site


def main() -> None:
    """Make everything; any warning fails it."""
    began = time.monotonic()
    write_reference()
    try:
        site = make()
    except (build.BuildError, ValueError) as error:
        sys.exit(f"the site is not right:\n{error}")
    pages = sum(1 for _ in site.rglob("*.html"))
    seconds = time.monotonic() - began
    sys.stdout.write(f"{site.relative_to(staging.ROOT)}: {pages} pages, every link checked, in {seconds:.0f} s\n")


if __name__ == "__main__":
    main()
