"""Parameters, strides and fitting sizes of the backbones at their published configs, without any weights.

    python -m benchmarks.backbones

Everything is built on the meta device, which takes seconds and no memory.
"""

from testing.published_backbones import BACKBONES, describe


def main() -> None:
    """Print the table."""
    print("| backbone | transformer | parameters | strides | channels | frames | height, width |")
    print("|---|---|---|---|---|---|---|")
    for backbone in BACKBONES:
        d = describe(backbone)
        times = f"{d['transformers']} x " if d["transformers"] > 1 else ""
        strides = "x".join(map(str, d["strides"]))
        sizes = ", ".join(map(str, sorted(set(d["sizes"]))))
        print(
            f"| `{backbone.hub_id}` | `{d['transformer']}` | {times}{d['parameters']:,} | {strides} "
            f"| {d['channels']} | {d['frames']}n+1 | multiples of {sizes} |"
        )


if __name__ == "__main__":
    main()
