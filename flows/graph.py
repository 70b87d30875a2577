"""The stages of dvc.yaml and what each needs: they are written there, and nowhere else."""

from graphlib import TopologicalSorter

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
