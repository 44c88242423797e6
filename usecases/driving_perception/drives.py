"""Readers of recorded drives (images with steering, throttle and speed) from Udacity's simulator and Donkeycar."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

from tasks.contract.errors import DataError
from tasks.contract.findings import Findings
from usecases.driving_perception.frames import Frame, Source
from usecases.driving_perception.scenes import MAX_SPEED
from usecases.reading.encodings import TextFile
from usecases.reading.files import files_below

SIDES = {"center": 0.0, "left": 1.0, "right": -1.0}  # cameras, and the direction in which the steering of their images is corrected
COLUMNS = ("center", "left", "right", "steering", "throttle", "brake", "speed")  # of the simulator, whose logs may have no header
MAX_STEERING = 10.0  # absolute steering and throttle: they are within -1 and 1, or angles in radians


def find_drives(folder: Path, findings: Findings) -> Source | None:
    """The moments of all recordings in a folder, in the order of time; None without recordings. Moments without an image are set aside.

    Raises:
        DataError: a log is damaged.
    """
    files = files_below(folder)
    logs = [path for path in files if path.name == "driving_log.csv"]
    recorded = {path.parent for path in files if path.suffix == ".catalog"}
    tubs = [path.parent for path in files if path.name == "manifest.json" and path.parent in recorded]
    if not logs and not tubs:
        return None
    frames = [frame for log in logs for frame in _simulated(log, folder, findings)]
    frames += [frame for tub in tubs for frame in _of_tub(tub, folder, findings)]
    return Source("driving_log.csv of Udacity's simulator" if logs else "Donkeycar tubs", frames)


# -- Udacity's simulator ----------------------------------------------------------------------------------------------
def _simulated(log: Path, folder: Path, findings: Findings) -> Iterator[Frame]:
    text = TextFile(log, "", findings).text()
    recording = str(log.parent.relative_to(folder))
    for number, row in enumerate(csv.reader(io.StringIO(text)), 1):
        if not row or [cell.strip().lower() for cell in row[:4]] == list(COLUMNS[:4]):
            continue
        cells: dict[str, str] = dict(zip(COLUMNS, (cell.strip() for cell in row), strict=False))
        where = f"{log.relative_to(folder)} line {number}"
        steering, throttle = (_number(cells.get(name)) for name in ("steering", "throttle"))
        speed = _number(cells.get("speed"), MAX_SPEED)
        if steering is None:
            findings.set_aside("moment without a steering angle", where)
            continue
        for camera, side in SIDES.items():
            path = _image_of(log, cells.get(camera, ""))
            if path is not None:
                driven = {"steering": steering, "throttle": throttle, "speed": speed, "moment": number, "side": side}
                yield Frame(str(path.relative_to(folder)), path.read_bytes, recording, **driven)
            elif camera == "center" or cells.get(camera):
                kind = "record that names a missing image"
                findings.set_aside(kind, f"{where}: {cells.get(camera)}") if camera == "center" else findings.note(
                    kind, f"{where}: {cells[camera]}"
                )


def _image_of(log: Path, named: str) -> Path | None:
    """The image that a log names by a path of the machine that it was recorded on."""
    name = PureWindowsPath(named).name if "\\" in named else Path(named).name
    return next((path for path in (log.parent / "IMG" / name, log.parent / name) if name and path.is_file()), None)


# -- Donkeycar --------------------------------------------------------------------------------------------------------
def _of_tub(tub: Path, folder: Path, findings: Findings) -> Iterator[Frame]:
    """The moments of a tub in version 2: a manifest, and catalogs with a JSON record per line."""
    deleted, catalogs = _manifest(tub / "manifest.json", findings)
    for name in catalogs or sorted(path.name for path in tub.glob("*.catalog")):
        if not (tub / name).is_file():
            findings.note("catalog that the manifest names and that is missing", str((tub / name).relative_to(folder)))
            continue
        for number, line in enumerate(TextFile(tub / name, "", findings).lines(), 1):
            where = f"{(tub / name).relative_to(folder)} line {number}"
            try:
                record: dict[str, Any] = json.loads(line)
            except json.JSONDecodeError:
                findings.set_aside("record that is not JSON", where)
                continue
            if record.get("_index") in deleted:
                findings.note("record that was deleted in the tub", where, "left out")
                continue
            steering, throttle = (_number(record.get(f"user/{what}")) for what in ("angle", "throttle"))
            speed = _number(record.get("enc/speed"), MAX_SPEED)
            path = tub / "images" / Path(str(record.get("cam/image_array", ""))).name
            if steering is None:
                findings.set_aside("moment without a steering angle", where)
            elif not path.is_file():
                findings.set_aside("record that names a missing image", f"{where}: {path.name}")
            else:
                recording = f"{tub.relative_to(folder)}/{record.get('_session_id', '')}"
                moment = record.get("_index")
                driven = {"steering": steering, "throttle": throttle, "speed": speed, "moment": moment if isinstance(moment, int) else None}
                yield Frame(str(path.relative_to(folder)), path.read_bytes, recording, **driven)


def _manifest(path: Path, findings: Findings) -> tuple[set[int], list[str]]:
    """The deleted indexes, and the catalogs in their order."""
    for line in TextFile(path, "", findings).lines():
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            raise DataError(f"{path} is damaged: one of its lines is not JSON. Repair it, or remove it and its catalogs.") from None
        if isinstance(found, dict) and "paths" in found:
            return set(found.get("deleted_indexes", ())), [Path(str(name)).name for name in found["paths"]]
    return set(), []


def _number(value: object, largest: float = MAX_STEERING) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if abs(number) <= largest else None  # False for nan, too
