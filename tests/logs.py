"""Help for tests of the partition log: properties that barely hold, so that trees are large, and logged runs."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from search import Recorded

import partita
from partita.bab.config import load_config
from partita.bab.logs.digests import Digests
from partita.bab.logs.format import HEADER, PARTS, about_part, encodings
from partita.bab.logs.read import Partition, read_log
from partita.bab.search.outcome import Outcome
from partita.problems.network.graph import Graph
from partita.problems.properties.property import Property


def logged(
    folder: Path, graph: Graph, prop: Property, config: dict | None = None, **options
) -> tuple[Outcome, Recorded, Partition]:
    """The outcome, what an observer of the same run saw, and the log read back."""
    record = Recorded()
    options = {"attack": "off", "timeout": 60} | options
    config = None if config is None else load_config(None, config)  # options may have no effect, as in a preset
    outcome = partita.verify(graph, prop, observers=[record], log=folder, config=config, **options)
    return outcome, record, read_log(folder)


def forge(folder: Path) -> None:
    """Makes an edited log pass for what a run wrote, as anybody can: each part says what the header does, and the chain
    of digests is computed anew."""
    header = json.loads((folder / HEADER).read_text())
    digests = Digests()
    digests.begin(folder, (folder / HEADER).read_bytes())
    for path in sorted(folder.glob(PARTS)):
        table = pq.read_table(path)
        number = json.loads(table.schema.metadata[b"partita"])["part"]
        about = {"partita": json.dumps(about_part(header, number))}
        pq.write_table(table.replace_schema_metadata(about), path, **encodings())
        digests.add(folder, path.name, path.read_bytes())


def flip(folder: Path, forged: bool) -> int:
    """Calls every open leaf closed, in the log's files; how many there were."""
    count = 0
    for path in sorted(folder.glob(PARTS)):
        table = pq.read_table(path)
        state = ["closed" if said in ("open", "stuck") else said for said in table["state"].to_pylist()]
        count += sum(a != b for a, b in zip(state, table["state"].to_pylist(), strict=True))
        by = [b or ("crown" if s == "closed" else None) for s, b in zip(state, table["by"].to_pylist(), strict=True)]
        for name, values in (("state", state), ("by", by)):
            table = table.set_column(table.column_names.index(name), table.schema.field(name), pa.array(values))
        pq.write_table(table, path, **encodings())
    if forged:
        forge(folder)
    return count
