"""Rows of a protocol: one scan, one condition, one method, one metric; a TSV that a stopped run goes on with."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pellucid.errors import PellucidError, wrong
from pellucid.io.disk import replacing

MISSING = "n/a"
"""How BIDS writes a value that there is none of."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What a metric says about one scan under one condition after one method."""

    scan: str
    condition: str
    """Corruption, or the group that the scan belongs to."""
    method: str
    metric: str
    """Key of `METRICS`."""
    value: float
    seconds: float
    """Time that the method took."""


COLUMNS = tuple(field.name for field in dataclasses.fields(Row))


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write all rows, replacing the file at once: a reader never sees half of it.

    Args:
        path: A .tsv file in a folder that exists.
        rows: In the order of the file.

    Raises:
        PellucidError: If the folder cannot be written.
    """
    write_table(path, COLUMNS, [dataclasses.astuple(row) for row in rows])


def read_rows(path: Path) -> list[Row]:
    """Read what `write_rows` wrote.

    Args:
        path: A .tsv file, or nothing.

    Returns:
        The rows; none if there is no file.

    Raises:
        PellucidError: If the file is not such a table.
    """
    if not path.exists():
        return []
    head, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    if tuple(head.split("\t")) != COLUMNS:
        raise wrong(str(path), need=f"a table with the columns {', '.join(COLUMNS)}", got=repr(head))
    rows = []
    for number, line in enumerate(lines, start=2):
        try:
            scan, condition, method, metric, value, seconds = line.split("\t")
            measured = math.nan if value == MISSING else float(value)
            rows.append(Row(scan, condition, method, metric, measured, float(seconds)))
        except ValueError as error:
            raise wrong(f"{path}, line {number}", need="a row of the table", got=repr(line)) from error
    return rows


def write_table(path: Path, columns: Sequence[str], lines: Iterable[Sequence[object]]) -> None:
    """Write a TSV, replacing the file at once.

    Args:
        path: A file in a folder that exists.
        columns: First line.
        lines: Values in the order of the columns; a NaN becomes "n/a".

    Raises:
        PellucidError: If the folder cannot be written.
    """
    text = "\n".join("\t".join(map(_written, line)) for line in (columns, *lines))
    with replacing(path, force=True) as place:
        place.write_text(text + "\n", encoding="utf-8")


def _written(value: object) -> str:
    """A value as a cell."""
    if isinstance(value, float):
        return MISSING if math.isnan(value) else f"{value:.7g}"
    return MISSING if value is None else str(value)


class UnfinishedError(PellucidError):
    """Some methods of a unit failed.

    Args:
        failed: What went wrong, one sentence a method.
        rows: Of the others.
    """

    def __init__(self, failed: list[PellucidError], rows: list[Row]) -> None:
        super().__init__(" ".join(map(str, failed)))
        self.failed, self.rows = failed, rows

    def __reduce__(self) -> Any:
        """Errors travel between processes."""
        return type(self), (self.failed, self.rows)
