"""How old a person was in a scan: from scans.tsv, sessions.tsv or participants.tsv, however it is written there."""

import csv
import functools
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.io.json_file import read_object

TERM_WEEKS = 40.0
"""Weeks of pregnancy at birth: what an age since conception is counted back from."""

_PER_YEAR = {"years": 1.0, "months": 12.0, "weeks": 365.25 / 7, "days": 365.25}
_UNITS = {
    "years": ("years", "year", "yrs", "yr", "y", "a", "ans", "jahre"),
    "months": ("months", "month", "mos", "mths", "mth", "mo", "m"),
    "weeks": ("weeks", "week", "wks", "wk", "w"),
    "days": ("days", "day", "d"),
}
_UNITS_OF_CHILDREN = ("years", "months", "days")
_WORDS = {word: unit for unit, words in _UNITS.items() for word in words}
_CONCEIVED = (
    "gestational",
    "gestation",
    "postmenstrual",
    "postconceptional",
    "pma",
    "pca",
    "ga",
    "conception",
)
_NOTHING = ("", "n/a", "na", "nan", "none", "null", "unknown", "missing", "-", "?")
_ABSENT = (*_NOTHING, "9999", "999", "-9", "-99", "-999")
_COLUMN = re.compile(
    r"(scan|mri|interview|subject|participant|patient|current|gestational|postmenstrual|pma|ga)?(age|pma|ga)"
    r"(at|in|of)?(first)?(mri|scan|scanning|acquisition|visit|session|baseline|enrollment|testing)?(in)?"
    r"(years|year|yrs|yr|y|months|month|mos|mo|m|weeks|week|wks|wk|w|days|day|d)?"
)


class Age(NamedTuple):
    """How old somebody was."""

    years: float
    """Since birth; below 0 before it, counted from 40 weeks of pregnancy."""
    said: str
    """The value as it is written, with the unit it was read in; years, as BIDS says, where none is given."""
    source: str
    """Table and column."""


def read_age(value: str, *, column: str = "age", units: str = "") -> tuple[float, str] | None:
    """Read one age.

    Args:
        value: As in a table: "34", "34.5", "34,5", "34y", "034Y", "6 months", "P6M", "2;6", "89+", "n/a".
        column: Its column's name, which may say the unit: "age_months", "AgeInWeeks", "pma_weeks".
        units: What the table's JSON says of the column, if anything.

    Returns:
        Years since birth and the unit that was taken; None if no age is said, or none that can be told.

    Example:
        >>> read_age("6 months"), read_age("89+"), read_age("25-30")
        ((0.5, 'months'), (89.0, 'years assumed'), None)
        >>> round(read_age("32", column="age", units="gestational weeks")[0], 3)
        -0.153
    """
    text = value.strip().strip("\"'").lower()
    if text in _ABSENT:
        return None
    if (summed := _summed(text)) is not None:
        years, taken = summed
        if any(word in _CONCEIVED for word in re.findall(r"[a-z]+", f"{units} {_spread(column)}".lower())):
            years, taken = years - TERM_WEEKS / _PER_YEAR["weeks"], f"{taken} since conception"
        return (years, taken) if -1 < years < 130 else None
    # "P6M" is ISO 8601, "89+" and ">89" the way to hide great ages; a comma may stand for the decimal point.
    found = re.fullmatch(r"p?[>≥~]?=?\s*(-?\d+(?:[.,]\d+)?)\s*\+?\s*([a-z. /_-]*)", text)
    if found is None:
        return None
    number = float(found[1].replace(",", "."))
    said = " ".join((found[2], units, _spread(column))).lower()
    words = re.findall(r"[a-z]+", said)
    unit = next((_WORDS[word] for word in words if word in _WORDS), None)
    if found[2].strip() and not set(re.findall(r"[a-z]+", found[2])) & {*_WORDS, *_CONCEIVED, "old"}:
        return None
    if any(word in _CONCEIVED for word in words):
        per_week = _PER_YEAR["weeks"] / _PER_YEAR[unit or "weeks"]
        years = (number * per_week - TERM_WEEKS) / _PER_YEAR["weeks"]
        taken = f"{unit or 'weeks'} since conception"
    else:
        years, taken = number / _PER_YEAR[unit or "years"], unit or "years assumed"
    return (years, taken) if -1 < years < 130 and math.isfinite(years) else None


def _summed(text: str) -> tuple[float, str] | None:
    """An age in several units: "P2Y6M", "2 years 6 months", "26w3d", or "2;6", as those write who study children."""
    children = re.fullmatch(r"(\d{1,2});(\d{1,2})(?:[.;](\d{1,2}))?", text)
    if children is not None:
        parts = list(zip(map(float, filter(None, children.groups())), _UNITS_OF_CHILDREN, strict=False))
    elif re.fullmatch(r"p?(\s*\d+(?:[.,]\d+)?\s*[a-z]+[\s,]*){2,}", text.replace(" and ", " ")):
        found = re.findall(r"(\d+(?:[.,]\d+)?)\s*([a-z]+)", text)
        parts = [(float(value.replace(",", ".")), _WORDS.get(word, "")) for value, word in found]
    else:
        return None
    order = [list(_PER_YEAR).index(unit) if unit else -1 for _, unit in parts]
    falling = -1 not in order and order == sorted(set(order))
    if not falling or (children is not None and parts[1][0] >= _PER_YEAR["months"]):
        return None
    return sum(value / _PER_YEAR[unit] for value, unit in parts), " and ".join(unit for _, unit in parts)


def find_age(root: Path, relative: Path, subject: str, session: str | None) -> tuple[Age | None, list[str]]:
    """Look a scan's age up, in the most specific table that tells it.

    Args:
        root: Folder of the dataset.
        relative: The scan below it.
        subject: Label without "sub-".
        session: Label without "ses-"; None if there are no sessions.

    Returns:
        The age, None if none is told; and what a person should know about it.
    """
    notes: list[str] = []
    for table, key, wanted in _places(root, relative, subject, session):
        units = _sidecar(table, root)
        if table.is_file() and not os.access(table, os.R_OK):
            notes.append(f"{table.relative_to(root).as_posix()} may not be read: an age in it is not known.")
        for rows in _rows(table, key, wanted, session):
            found = [age for row in rows if (age := _told(row, units, table.relative_to(root), notes))]
            if len({age.years for age in found}) > 1:
                # Any of them could be this scan's: none is better than a wrong one.
                said = " and ".join(dict.fromkeys(age.said for age in found))
                notes.append(f"{found[0].source}: rows of one name differ, {said}: the age is not known.")
                return None, notes
            if found:
                return found[0], notes
    people = root / "participants.tsv"
    known = any(_rows(people, "participant_id", _names(subject, session), session))
    if people.is_file() and not known and not notes:
        notes.append(f"participants.tsv has no row for sub-{subject}.")
    return None, notes


def _told(row: Mapping[str, str], units: Mapping[str, Any], table: Path, notes: list[str]) -> Age | None:
    """The age that a row tells; notes get what looks like one and is none."""
    for column, value in _candidates(row):
        found = read_age(value, column=column, units=str(_units(units.get(column))))
        where = f"{table.as_posix()}, column {column}"
        if found is not None:
            return Age(round(found[0], 4), f"{value.strip()} ({found[1]})", where)
        if value.strip().lower() not in _ABSENT:
            notes.append(f"{where}: {value!r} is no age that can be read.")
    return None


def cell(root: Path, subject: str, *columns: str, session: str | None = None) -> str | None:
    """Look one fact about a participant up in participants.tsv.

    Args:
        root: Folder of the dataset.
        subject: Label without "sub-".
        columns: Names the column may have, in lower case.
        session: Label without "ses-", for tables with a row for each.

    Returns:
        The value as written; None if there is none, or if rows of one name differ.
    """
    for rows in _rows(root / "participants.tsv", "participant_id", (f"sub-{subject}", subject), session):
        told = {
            value.strip()
            for row in rows
            for column, value in row.items()
            if column.lower() in columns and value.strip().lower() not in _NOTHING
        }
        if told:
            return told.pop() if len(told) == 1 else None
    return None


def _places(
    root: Path, relative: Path, subject: str, session: str | None
) -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    """Tables that may tell, the most specific first: path, key column, and what the key may be."""
    home = root / f"sub-{subject}"
    stem = f"sub-{subject}" + (f"_ses-{session}" if session else "")
    folder = home / f"ses-{session}" if session else home
    inside = relative.as_posix().removeprefix(f"{folder.relative_to(root).as_posix()}/")
    yield folder / f"{stem}_scans.tsv", "filename", (inside, inside.removesuffix(".gz"), f"{inside}.gz")
    if session:
        keys = (f"ses-{session}", session)
        yield home / f"sub-{subject}_sessions.tsv", "session_id", keys
    yield root / "participants.tsv", "participant_id", _names(subject, session)


def _names(subject: str, session: str | None) -> tuple[str, ...]:
    """What participants.tsv may call a participant, the most specific first."""
    people = (f"sub-{subject}", subject)
    if not session:
        return people
    # BME-X asked for the first of these; it is in datasets made for it.
    return (f"sub-{subject}-ses-{session}", f"sub-{subject}_ses-{session}", *people)


def _rows(
    table: Path, key: str, wanted: tuple[str, ...], session: str | None
) -> Iterator[list[dict[str, str]]]:
    """Rows whose key is one of some, in the order of these: all of one key together.

    Of several rows of one key, those of the session, if the table says of which they are.
    """
    try:
        found = _table(table, key, table.stat().st_mtime_ns)
    except OSError:
        return
    for name in wanted:
        rows = found.get(name.lower(), [])
        here = [row for row in rows if session and _session_of(row) == session.lower()]
        if rows:
            yield here or rows


def _session_of(row: Mapping[str, str]) -> str:
    """The session that a row is of, in lower case and without "ses-"; nothing if it does not say."""
    told = (value for column, value in row.items() if column.lower() in ("session_id", "session", "ses"))
    return next(told, "").strip().lower().removeprefix("ses-")


@functools.lru_cache(maxsize=16)
def _table(table: Path, key: str, written: int) -> dict[str, list[dict[str, str]]]:
    """A table as it was written then: its rows by their keys in lower case."""
    written_as = table.read_bytes()
    # "Unicode text" of spreadsheets is UTF-16.
    wide = written_as.startswith((b"\xff\xfe", b"\xfe\xff"))
    lines = written_as.decode("utf-16" if wide else "utf-8-sig", errors="replace").splitlines()
    comma = bool(lines) and "\t" not in lines[0] and "," in lines[0]
    found: dict[str, list[dict[str, str]]] = {}
    for given in csv.DictReader(lines, delimiter="," if comma else "\t"):
        row = {str(name).strip(): str(value or "") for name, value in given.items() if name is not None}
        name = next((value for column, value in row.items() if column.lower() == key), "")
        found.setdefault(name.strip().lower(), []).append(row)
    return found


def _candidates(row: Mapping[str, str]) -> list[tuple[str, str]]:
    """Columns that tell an age; a plain one before those that say when or since when."""
    found = [(column, value) for column, value in row.items() if _COLUMN.fullmatch(_squeezed(column))]
    return sorted(found, key=lambda pair: ("gest" in pair[0].lower(), len(_squeezed(pair[0]))))


def _squeezed(column: str) -> str:
    return re.sub(r"[^a-z]", "", column.lower())


def _spread(column: str) -> str:
    """Words of a column's name: "AgeInMonths" and "age_months" both hold "months"."""
    words = re.sub(r"([a-z])([A-Z])", r"\1 \2", column)
    # "age_at_scan_m": the letters alone are units only at the end.
    return re.sub(r"\b(a|in|at|of|m|d|y|w)\b(?!$)", " ", re.sub(r"[^A-Za-z]+", " ", words).strip().lower())


def _sidecar(table: Path, root: Path) -> dict[str, Any]:
    """What JSON beside the table, or at the root for all such tables, says of its columns."""
    kind = table.stem.rpartition("_")[2]
    for path in (table.with_suffix(".json"), root / f"{kind}.json"):
        if (found := read_object(path)) is not None:
            return found
    return {}


def _units(entry: Any) -> str:
    """The unit in a column's description, whatever the case of the key."""
    if not isinstance(entry, dict):
        return ""
    return next((str(value) for key, value in entry.items() if key.lower() in ("units", "unit")), "")
