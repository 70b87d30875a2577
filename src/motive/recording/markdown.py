"""Tables in markdown, of text that came from data."""

from pathlib import Path

from motive.store.files import read_table

CELL = 60  # characters of a text in a cell


def cell(text: object) -> str:
    """Text from data, cut, so that it is neither markup nor the end of a cell."""
    text = str(text)
    short = text if len(text) <= CELL else f"{text[: CELL - 1]}…"
    return "".join(f"&#{ord(c)};" if c in "|`[]<>&\\\n\r" else c for c in short)


def best_clips(data: Path, num: int) -> str:
    """The best of the ranking below this folder, as a table; empty where there is no ranking."""
    ranking, clips = data / "attribution/ranking.parquet", data / "pool/clips/clips.parquet"
    if not ranking.is_file() or not clips.is_file():
        return ""
    best = read_table(ranking).nsmallest(num, "rank")
    best = best.merge(read_table(clips)[["clip_id", "caption", "video"]], on="clip_id")
    rows = [
        f"| {row['rank']} | {row['votes']} | {row['influence']:+.3f} | {cell(row['video'])} "
        f"| {cell(row['caption'])} |"
        for row in best.sort_values("rank").to_dict("records")
    ]
    return "| rank | votes | influence | video | caption |\n|---|---|---|---|---|\n" + "\n".join(rows)
