"""Data docs: a page of every expectation of every stage, made from the `checks.json` beside the data."""

import json
from pathlib import Path
from typing import Any

from motive.checks.great_expectations import Outcome
from motive.params import Params
from motive.store.files import write_text
from motive.store.layout import data_folder

DATA = data_folder()
PAGE = DATA / "data_docs.html"
NAME = "checks.json"
ORDER = list(Params.model_fields)  # the stages, in the order they run


def write_outcomes(file: Path, gate: str, num_rows: int, outcomes: list[Outcome]) -> None:
    """Write how a gate went beside the table, or into its folder: the same data gives the same bytes."""
    folder = file.parent if file.suffix else file
    content = {
        "gate": gate,
        "num_rows": num_rows,
        "expectations": [
            {
                "wanted": outcome.wanted,
                "holds": outcome.holds,
                "found": outcome.observed,
                "advice": outcome.advice,
                "severity": outcome.severity,
            }
            for outcome in outcomes
        ],
    }
    write_text(folder / NAME, json.dumps(content, indent=1) + "\n")


def write_page() -> bool:
    """Write the page from what lies in data/; whether there was anything to write."""
    gates = _gates()
    if gates:
        from jinja2 import Environment, PackageLoader

        pages = Environment(loader=PackageLoader("motive.checks", "."), autoescape=True)
        gates.sort(key=lambda gate: (gate["holds"], not gate["warned"], gate["place"], gate["split"]))
        write_text(PAGE, pages.get_template("page.html").render(gates=gates))
    return bool(gates)


def warnings() -> list[str]:
    """What the gates only warn of, a line each."""
    return [
        f"{gate['gate']}: {each['found']}. {each['advice']}" for gate in _gates() for each in gate["warned"]
    ]


def _gates() -> list[dict[str, Any]]:
    return [_gate(path) for depth in ("*", "*/*") for path in DATA.glob(f"{depth}/{NAME}")]


def _gate(path: Path) -> dict[str, Any]:
    """A gate as the page shows it."""
    content = json.loads(path.read_text())
    *split, stage = path.parent.relative_to(DATA).parts
    kept = [each for each in content["expectations"] if each["holds"]]
    broken = [each for each in content["expectations"] if not each["holds"]]
    warned = [each for each in broken if each.get("severity") == "warning"]
    failed = [each for each in broken if each not in warned]
    place = ORDER.index(stage) if stage in ORDER else len(ORDER)
    names = {"stage": stage, "split": "".join(split), "folder": str(path.parent), "place": place}
    return {**content, **names, "failed": failed, "warned": warned, "kept": kept, "holds": not failed}
