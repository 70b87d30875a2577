"""Fetch a source distribution from whichever package index pip uses, and run none of its code.

    python testing/sdist.py PACKAGE==VERSION FILE

`pip download` would run the distribution's build to learn its dependencies.
"""

import sys
from pathlib import Path

from pip._internal.commands import create_command
from pip._vendor.packaging.requirements import Requirement


def fetch(package: str, path: Path) -> None:
    """Write the file that the index has.

    Raises:
        ValueError: the index has none.
    """
    wanted = Requirement(package)
    command = create_command("download")
    options, _ = command.parse_args(["--quiet", "--no-deps", "--no-binary", ":all:", package])
    with command.main_context():
        session = command.get_default_session(options)  # type: ignore[attr-defined]
        finder = command._build_package_finder(options=options, session=session)  # type: ignore[attr-defined]
        candidate = finder.find_best_candidate(wanted.name, wanted.specifier).best_candidate
        if candidate is None:
            raise ValueError(f"{package}: the package index has no source distribution of it")
        if candidate.link.is_file:
            path.write_bytes(Path(candidate.link.file_path).read_bytes())
            return
        answer = session.get(candidate.link.url_without_fragment)
        answer.raise_for_status()
        path.write_bytes(answer.content)


if __name__ == "__main__":
    fetch(sys.argv[1], Path(sys.argv[2]))
