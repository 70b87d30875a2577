"""What a person reads first in MLflow: a note on the experiment, and one on each run."""

NOTE = "mlflow.note.content"  # the tag that MLflow's pages show as description

EXPERIMENT = """\
Each run is one data version: clips, parameters and all that was made of them. Its nested runs are the stages.

**Compare.** [Columns and charts of all runs]({compare}), the best first; or tick some and press *Compare*.
`heldout_motion_loss_change` says what fine-tuning did to the motion loss on held-out clips: below zero is
better, and it counts if `heldout_motion_loss_change_high` is below zero too. `heldout_plain_loss_tuned`
beside `heldout_plain_loss_base` says what that cost the rest. All runs have the same names of metrics; those
of earlier stages begin with the stage. Runs with other held-out clips, noise levels or masks don't compare.

**Find.** `tags.strategy = "random"`, or by `tags.data_version`, `tags.model`, `tags.device`. A failed run has
`failed_stage` and `reason`.

**Get back.** `version/dvc.lock` and `version/params.yaml` of a run, then `dvc checkout`. `model/` is the
tuned model; the best so far is `champion` in the registry.
"""


def run_note(strategy: str, metrics: dict[str, float], best: str) -> str:
    """What was chosen, what it did, and the best clips (a table in markdown; empty: there is none)."""
    chosen = f"Strategy **{strategy}**"
    if {"num_selected", "num_pool"} <= metrics.keys():
        chosen += f": {metrics['num_selected']:.0f} of {metrics['num_pool']:.0f} clips"
    paragraphs = [chosen, _losses(metrics), _change(metrics), f"The best clips:\n\n{best}" if best else ""]
    return "\n\n".join(filter(None, paragraphs))


def _losses(metrics: dict[str, float]) -> str:
    rows = [
        f"| {name} | {metrics[f'{name}_base']:.5f} | {metrics[f'{name}_tuned']:.5f} |"
        for name in ("heldout_motion_loss", "heldout_plain_loss")
        if {f"{name}_base", f"{name}_tuned"} <= metrics.keys()
    ]
    return "\n".join(["| | base | tuned |", "|---|---|---|", *rows]) if rows else ""


def _change(metrics: dict[str, float]) -> str:
    names = [f"heldout_motion_loss_change{end}" for end in ("", "_low", "_high")]
    if not metrics.keys() >= set(names):
        return ""
    values = [metrics[name] for name in names]
    return "Motion loss changed by **{:+.5f}** (95 % interval {:+.5f} to {:+.5f}).".format(*values)
