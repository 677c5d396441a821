#!/usr/bin/env python3
"""Prove that a folder of CDR files holds every record, once, and as it was numbered.

    python3 verify_completeness.py FOLDER CHAIN.json [CHAIN.json ...] [--hashes HASHES.json ...]

FOLDER   the files as they were delivered: CDR_*, QUALITY_* and CORRECTION_*, .csv.gz or .csv
CHAIN    answers of GET /v1/completeness
HASHES   answers of GET /v1/completeness/hashes: with them the one record is named that is another than it was

Exit code 0: complete. 1: it is not, and the first thing that is wrong is said. 2: it could not be checked.
Needs Python 3.9 and nothing else. How the hashes are made: docs/completeness.md.
"""

import argparse
import csv
import gzip
import hashlib
import json
import pathlib
import re
import sys

LINE = (
    "record_id", "call_id", "leg", "attempt_no", "kind", "revision", "answer_at", "duration_ms", "billed_s",
    "amount", "currency",
)  # fmt: skip
FILE = re.compile(r"(CDR|QUALITY|CORRECTION)_.*\.csv(\.gz)?")


class Incomplete(Exception):
    """What is wrong, for people."""


def line_hash(row):
    """The hash of one record, from the texts of its row."""
    return hashlib.sha256("|".join(row[name] for name in LINE).encode()).digest()


def read_files(folder):
    """(number, hash, file) of every row of every file. Reads a row at a time, and refuses what is no such file."""
    paths = sorted(path for path in folder.iterdir() if FILE.fullmatch(path.name))
    if not paths:
        raise OSError(f"there is no CDR_*.csv.gz in {folder}")
    for path in paths:
        opened = gzip.open if path.name.endswith(".gz") else open
        with opened(path, "rt", encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            missing = [name for name in LINE if name not in (rows.fieldnames or ())]
            if missing:
                raise Incomplete(f"{path.name}: the column {missing[0]} is missing")
            for at, row in enumerate(rows, 2):
                if None in row.values() or None in row:
                    raise Incomplete(f"{path.name}, row {at}: it has not the columns of the header")
                if not (row["record_id"].isascii() and row["record_id"].isdigit()):
                    raise Incomplete(f"{path.name}, row {at}: {row['record_id'][:40]!r} is no record number")
                yield int(row["record_id"]), line_hash(row), path.name


def collect(found):
    """{number: hash}. A number that comes twice is wrong, whether the rows are equal or not."""
    records, files = {}, {}
    for number, digest, name in found:
        if number in records:
            raise Incomplete(f"record {number} is there twice: in {files[number]} and {name}")
        records[number], files[number] = digest, name
    return records


def read_chain(paths):
    """The days of all answers, oldest first; each once."""
    days = {}
    for path in paths:
        for day in json.loads(path.read_text(encoding="utf-8"))["days"]:
            if days.setdefault(day["day"], day) != day:
                raise Incomplete(f"two answers tell {day['day']} differently")
    return [days[day] for day in sorted(days)]


def read_hashes(paths):
    """{number: hash} as they were numbered."""
    kept = {}
    for path in paths:
        told = json.loads(path.read_text(encoding="utf-8"))
        kept.update((told["first_no"] + at, bytes.fromhex(text)) for at, text in enumerate(told["hashes"]))
    return kept


def check_day(day, records, numbered):
    """Every record of a day is there, and they come out as the day's hash."""
    numbers = range(day["first_no"], day["last_no"] + 1)
    missing = next((number for number in numbers if number not in records), None)
    if missing is not None:
        raise Incomplete(f"record {missing} of {day['day']} is missing")
    digest = hashlib.sha256(bytes.fromhex(day["previous"]))
    for number in numbers:
        digest.update(records[number])
    if digest.hexdigest() == day["hash"]:
        return
    for number in numbers:
        if numbered.get(number, records[number]) != records[number]:
            raise Incomplete(f"record {number} of {day['day']} is not as it was numbered")
    first, last = numbers.start, numbers.stop - 1
    raise Incomplete(
        f"a record from {first} to {last} of {day['day']} is not as it was numbered. To know which, ask "
        f"GET /v1/completeness/hashes?first_no={first} and give the answer with --hashes"
    )


def verify(records, days, numbered):
    """Days and records that were proved. raises   Incomplete: the first thing that is wrong"""
    before, proved = None, 0
    if not days:
        raise Incomplete("the chain has no day")
    for day in days:
        if before is not None and day["previous"] != before["hash"]:
            raise Incomplete(f"{day['day']} does not follow {before['day']}: days between them are missing")
        if before is not None and day["first_no"] != before["last_no"] + 1:
            raise Incomplete(f"numbers are missing between {before['day']} and {day['day']}")
        if day["records"] != day["last_no"] - day["first_no"] + 1:
            raise Incomplete(f"{day['day']} counts its records wrongly")
        check_day(day, records, numbered)
        before, proved = day, proved + day["records"]
    return proved


def main(argv=None):
    """The exit code."""
    parser = argparse.ArgumentParser(description="Prove that a folder of CDR files is complete.")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("chain", type=pathlib.Path, nargs="+")
    parser.add_argument("--hashes", type=pathlib.Path, nargs="+", default=[])
    given = parser.parse_args(argv)
    try:
        days, numbered = read_chain(given.chain), read_hashes(given.hashes)
        records = collect(read_files(given.folder))
        proved = verify(records, days, numbered)
    except Incomplete as wrong:
        print(f"NOT COMPLETE: {wrong}", file=sys.stderr)
        return 1
    except (OSError, EOFError, ValueError, KeyError, TypeError, csv.Error) as error:
        print(f"could not be checked: {error!r}", file=sys.stderr)
        return 2
    later = sum(number > days[-1]["last_no"] for number in records)
    print(f"complete: {proved} records of {len(days)} days to {days[-1]['day']}; {later} later ones")
    return 0


if __name__ == "__main__":
    sys.exit(main())
