"""Tables in markdown, of text that came from data."""

import pandas as pd

CELL = 60  # characters of a text in a cell


def cell(text: object) -> str:
    """Text from data, cut, so that it is neither markup nor the end of a cell."""
    text = str(text)
    short = text if len(text) <= CELL else f"{text[: CELL - 1]}…"
    return "".join(f"&#{ord(c)};" if c in "|`[]<>&\\\n\r" else c for c in short)


def best_clips(ranking: pd.DataFrame, clips: pd.DataFrame, num: int) -> str:
    """The best of a ranking, as a table."""
    best = ranking.nsmallest(num, "rank").merge(clips[["clip_id", "caption", "video"]], on="clip_id")
    rows = [
        f"| {row['rank']} | {row['votes']} | {row['influence']:+.3f} | {cell(row['video'])} "
        f"| {cell(row['caption'])} |"
        for row in best.sort_values("rank").to_dict("records")
    ]
    return "| rank | votes | influence | video | caption |\n|---|---|---|---|---|\n" + "\n".join(rows)
