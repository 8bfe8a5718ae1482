"""`partita report`: a folder that a command of Partita wrote, as one page of HTML.

What the folder holds decides what the page shows: a partition log (`header.json`), a benchmark run (`results.csv`), a
measured partition (`tables.json`), or studies of the theory (a JSON file each).
"""

from __future__ import annotations

from pathlib import Path

from ...problems.errors import BadInput
from ..logs.format import HEADER


def report(folder: str | Path) -> str:
    """The page as text. Raises `BadInput` where the folder holds nothing that can be shown, or damaged files."""
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"the folder {folder} does not exist" if not folder.exists() else f"{folder} is not a folder")
    if (folder / HEADER).is_file():
        from ..logs.read import read_log
        from .log import log_page

        return log_page(folder, read_log(folder))
    from .tables import partition_page, read_json_of, run_page, studies, study_page

    if (folder / "results.csv").is_file():
        return run_page(folder)
    if (folder / "tables.json").is_file():
        content = read_json_of(folder / "tables.json")
        if not isinstance(content, dict) or "measurements" not in content:
            raise BadInput(f"{folder / 'tables.json'} is not what partita partition writes")
        return partition_page(folder, content)
    found = studies(folder)
    if found:
        return study_page(folder, found)
    raise BadInput(
        f"{folder} holds nothing to report on: it takes the folder of verify --log, run --out, study --out or "
        "partition --out"
    )
