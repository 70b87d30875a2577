"""The stages of dvc.yaml and what each needs: they are written there, and nowhere else."""

import subprocess
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path

Graph = dict[str, set[str]]  # stage -> the stages it needs


def read_graph() -> Graph:
    """The stages of the project in the working directory that have a command.

    Raises:
        ValueError: dvc.yaml is no pipeline; DVC says why.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(".") as repo:
            graph = repo.index.graph  # edges point from a stage to what it needs
            return {
                stage.addressing: {need.addressing for need in graph.successors(stage) if need.cmd}
                for stage in graph
                if stage.cmd
            }
    except DvcException as error:
        raise ValueError(f"DVC can't read the pipeline: {error}") from error


def in_order(graph: Graph) -> list[str]:
    """The stages, each after those it needs."""
    return list(TopologicalSorter(graph).static_order())


def data_sources() -> list[str]:
    """The .dvc files of the project: clips, prompts and models that somebody else may have pushed."""
    from dvc.repo import Repo

    with Repo(".") as repo:
        return sorted(stage.relpath for stage in repo.index.stages if stage.is_data_source)


def untracked(folders: Iterable[str]) -> list[str]:
    """Which of these, and of all that the stages read, neither Git nor DVC knows; inside the project."""
    from dvc.repo import Repo

    root = Path.cwd()
    with Repo(".") as repo:
        outs = [Path(out.fs_path) for out in repo.index.outs]
        needs = [Path(need.fs_path) for need in repo.index.deps if need.protocol == "local"]
    paths = {Path(path).absolute() for path in [*needs, *folders]}
    return [
        str(path.relative_to(root))
        for path in sorted(paths)
        if path.is_relative_to(root)
        and path.exists()
        and not any(path.is_relative_to(out) or out.is_relative_to(path) for out in outs)
        and not _git_knows(path)
    ]


def _git_knows(path: Path) -> bool:
    done = subprocess.run(["git", "ls-files", "--", path], capture_output=True, check=False)
    return bool(done.stdout)
