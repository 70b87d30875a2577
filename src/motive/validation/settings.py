"""How large a validation is. None of it changes what the pipeline makes, so none of it is in params.yaml."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Training:
    """One short fine-tuning of the base, by the loss of the finetuning stage."""

    steps: int = 16
    batch_size: int = 8
    num_levels: int = 4  # noise levels, in turn; half of the candidates is seen about once at each
    # That of finetuning. Runs have all noise in common, so that small changes are seen well, and only while
    # they are small do the effects of clips add up.
    learning_rate: float = 3.0e-5


@dataclass(frozen=True)
class Settings:
    """How much is trained, corrupted and drawn."""

    training: Training = Training()
    num_pool: int = 300  # clips of the pool, drawn as they come, that are attributed
    num_queries: int = 50
    num_candidates: int = 64  # of them, that are trained on: few, so that a short run sees each often
    num_subsets: int = 64  # random halves of the candidates
    num_repeated: int = 8  # of them, trained again with another seed: how well they agree bounds any LDS
    loss_sigmas: tuple[float, ...] = (0.5, 0.751, 0.9)  # noise levels of the losses
    loss_noise_seeds: tuple[int, ...] = (1,)  # not the sketches' 0: nobody is right by knowing the noise
    num_heldout: int = 60  # clips that removals are measured on beside the queries
    removed_by: tuple[str, ...] = (  # rows whose best and worst clips are removed
        *("motion_magnitude", "features", "no_mask", "paper"),
        *("our_sketch", "our_mask", "four_sigmas", "preconditioned", "default"),
    )
    removal_fraction: float = 0.2  # of the candidates: dropped, or kept alone
    removal_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    num_originals: int = 50  # clips that are corrupted in each way
    k: int = 10  # of precision
    draws: int = 1000  # of each bootstrap
    seed: int = 0


FULL = Settings()
SMALL = Settings(
    training=Training(steps=4),
    num_pool=30,
    num_queries=10,
    num_candidates=16,
    num_subsets=4,
    num_repeated=2,
    removed_by=("paper", "default"),
    removal_seeds=(0,),
    num_heldout=10,
    num_originals=5,
    draws=200,
)
