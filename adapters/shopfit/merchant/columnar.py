"""Parquet and Arrow as JSON lines, in a process of its own: `python columnar.py {"kind": …, "limits": …} HANDLE…`.

What a few kilobytes of these formats unpack to has no bound, and they are read by native code. So they are unpacked in
a process with limited memory, whose crash ends nothing else. Imports nothing of shopfit.

Every line is a list: `[number, row]`; `[number, what, allowed]`, a row that cannot be; `[null, what, allowed]`, the end
of a file that cannot be read; `["end"]`.

What `datasets` stores as the number of a class is read as its name, which it notes in the file or beside it; -1, a
missing class, as null.
"""

import contextlib
import json
import math
import mmap
import os
import resource
import sys
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

_BATCH = 512  # rows that are unpacked together
_MOST_PARTS = 2_000_000  # values in the lists of those
_SECONDS = 900  # of computing
_LARGEST_FEATURES = 16 * 1024**2  # bytes
_KINDS = "text, numbers, lists, objects and times"

Line = list[Any]
Classes = tuple[str, ...] | dict[str, Any]
"""The names of a column's classes, by their numbers; of an object, those of its fields."""


class _Unreadable(Exception):  # noqa: N818 - caught in this file
    def __init__(self, what: str, allowed: str = "") -> None:
        super().__init__(what)
        self.what, self.allowed = what, allowed


def main(task: dict[str, Any], handles: list[int]) -> None:
    """Write the rows of open files to standard output, as lines of JSON.

    Args:
        task: `kind` (parquet or arrow), `columns` (their names, or None for all), `about` (the handle of the
            `dataset_info.json` beside the files, or None) and `limits`, in which `bytes` are those that the files may
            unpack to.
        handles: of the files.
    """
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())
    _confine(task["limits"]["memory"])
    write = sys.stdout.write
    number = 0
    try:
        about = None if task["about"] is None else _features(os.pread(task["about"], _LARGEST_FEATURES + 1, 0))
        for handle in handles:
            classes: dict[str, Classes] | None = None
            for batch in _batches(pa, task, handle):
                if classes is None:
                    noted = about if about is not None else _features((batch.schema.metadata or {}).get(b"huggingface"))
                    found = {name: _classes((noted or {}).get(name)) for name in batch.schema.names}
                    classes = {name: names for name, names in found.items() if names is not None}
                for line in _rows(pa, batch, number, classes):
                    write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
                number += batch.num_rows
    except _Unreadable as error:
        write(json.dumps([None, error.what, error.allowed]) + "\n")
    except MemoryError:
        write(json.dumps([None, "takes too much memory to unpack", f"at most {task['limits']['memory']} bytes"]) + "\n")
    except (pa.ArrowException, ValueError, OSError, OverflowError, RecursionError) as error:
        write(json.dumps([None, f"is not {task['name']}: {_first_line(error)}", ""]) + "\n")
    write('["end"]\n')
    sys.stdout.flush()


def _confine(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limits = [(resource.RLIMIT_CPU, _SECONDS)]
    with contextlib.suppress(OSError):  # where there is no /proc, the address space cannot be limited either
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limits.append((resource.RLIMIT_AS, pages * resource.getpagesize() + memory))
    for kind, most in limits:
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def _batches(pa: Any, task: dict[str, Any], handle: int) -> Iterator[Any]:
    content = mmap.mmap(handle, 0, access=mmap.ACCESS_READ)  # for as long as anything of it is in use
    source = pa.BufferReader(pa.py_buffer(content))
    for batch in _parquet(source, task["limits"]) if task["kind"] == "parquet" else _arrow(pa, source):
        shown = task["columns"]
        yield batch if shown is None else batch.select([name for name in batch.schema.names if name in shown])


def _parquet(source: Any, limits: dict[str, int]) -> Iterator[Any]:
    from pyarrow import parquet

    file = parquet.ParquetFile(source, pre_buffer=False)
    about = file.metadata
    if about.num_rows > limits["rows"]:
        raise _Unreadable(f"has {about.num_rows} rows", f"at most {limits['rows']}; split the file")
    if about.num_columns > limits["columns"]:
        raise _Unreadable(f"has {about.num_columns} columns", f"at most {limits['columns']}")
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    if (values := sum(chunk.num_values for chunk in chunks)) > limits["values"]:
        raise _Unreadable(f"holds {values} values", f"at most {limits['values']}; split the file")
    if (size := sum(chunk.total_uncompressed_size for chunk in chunks)) > limits["bytes"]:
        raise _Unreadable(f"unpacks to {size} bytes", f"at most {limits['bytes']} for a file of its size")
    _check_names(file.schema_arrow.names)
    yield from file.iter_batches(batch_size=_BATCH, use_threads=False)


def _arrow(pa: Any, source: Any) -> Iterator[Any]:
    in_stream = source.read(6) != b"ARROW1"
    source.seek(0)
    reader = pa.ipc.open_stream(source) if in_stream else pa.ipc.open_file(source)
    _check_names(reader.schema.names)
    batches = reader if in_stream else (reader.get_batch(number) for number in range(reader.num_record_batches))
    for batch in batches:
        batch.validate()
        for start in range(0, batch.num_rows, _BATCH):
            yield batch.slice(start, _BATCH)


def _check_names(names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise _Unreadable(f"names column {name!r} twice")
        seen.add(name)


def _features(content: bytes | None) -> dict[str, Any] | None:
    """The features that `datasets` stores for the columns, by name; None if there are none."""
    if content is None:
        return None
    allowed = "what `datasets` writes; without it, the numbers of classes would pass for labels"
    if len(content) > _LARGEST_FEATURES:
        raise _Unreadable("says too much of its columns", f"at most {_LARGEST_FEATURES} bytes")
    try:
        about = json.loads(content)
    except (ValueError, RecursionError):
        raise _Unreadable("does not say in JSON what its columns are", allowed) from None
    info = about.get("info", about) if isinstance(about, dict) else about
    features = info.get("features") if isinstance(info, dict) else info
    if features is not None and not isinstance(features, dict):
        raise _Unreadable("does not say what its columns are by their names", allowed)
    return features


def _classes(feature: Any) -> Classes | None:
    """The names of the classes in a column or in the parts of its values; None if it holds none."""
    if isinstance(feature, list):
        return _classes(feature[0]) if len(feature) == 1 else None
    if not isinstance(feature, dict):
        return None
    kind = feature.get("_type")
    if kind == "ClassLabel":
        names = feature.get("names")
        if names is None:  # classes that are called by their numbers
            return None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise _Unreadable("holds classes without the names of these", "names, each of them text")
        return tuple(names)
    if isinstance(kind, str):
        return _classes(feature.get("feature"))
    return {name: classes for name, part in feature.items() if (classes := _classes(part)) is not None} or None


def _by_name(value: Any, classes: Classes | None) -> Any:
    """A value with the names of its classes for their numbers."""
    if isinstance(value, list):
        return [_by_name(part, classes) for part in value] if classes else value
    if isinstance(classes, dict):
        if not isinstance(value, dict):
            return value
        return {name: _by_name(part, classes.get(name)) for name, part in value.items()}
    if classes is None or isinstance(value, bool) or not isinstance(value, int):
        return value
    if value == -1:
        return None
    if not 0 <= value < len(classes):
        raise _Unreadable(f"class {value}", f"0 to {len(classes) - 1}, or -1 for none")
    return classes[value]


def _rows(pa: Any, batch: Any, before: int, classes: dict[str, Classes]) -> Iterator[Line]:
    """The rows of a batch as lines."""
    bad: dict[int, Line] = {}
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        columns[name] = _values(pa, name, column, before, bad)
    for index in range(batch.num_rows):
        number = before + index + 1
        if index in bad:
            yield bad[index]
            continue
        try:
            row = {name: _plain(values[index]) for name, values in columns.items()}
            yield [number, _by_name(row, classes) if classes else row]
        except _Unreadable as error:
            yield [number, f"holds {error.what}", error.allowed or _KINDS]


def _values(pa: Any, name: str, column: Any, before: int, bad: dict[int, Line]) -> list[Any]:
    """A column's values; rows that hold none that can be read are noted in `bad`."""
    try:
        column.validate(full=True)  # else a damaged file may be read beyond its end
        if _parts(pa, column) > _MOST_PARTS:
            raise _Unreadable(f"column {name!r} holds lists of millions of values", f"{_MOST_PARTS} in {_BATCH} rows")
        values: list[Any] = column.to_pylist()
    except (pa.ArrowException, ValueError, OverflowError) as error:
        convert = _one_by_one(pa, column)
        if convert is None:
            raise _Unreadable(f"column {name!r} cannot be read: {_first_line(error)}") from None
        values = []
        for index in range(len(column)):
            try:
                values.append(convert(index))
            except (UnicodeDecodeError, ValueError, OverflowError) as error:
                values.append(None)
                bad[index] = [before + index + 1, f"{name} cannot be read: {_first_line(error)}", "text in UTF-8"]
    return values


def _parts(pa: Any, column: Any) -> int:
    """How many values the lists of a column hold, at the level that holds the most."""
    kind = column.type
    if pa.types.is_struct(kind):
        return max((_parts(pa, column.field(number)) for number in range(kind.num_fields)), default=0)
    if pa.types.is_map(kind) or not hasattr(column, "flatten"):
        return len(column)
    return max(len(column), _parts(pa, column.flatten()))


def _one_by_one(pa: Any, column: Any) -> Callable[[int], Any] | None:
    """How to take single values out of a column that cannot be taken as a whole; None if it is damaged."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        raw = column.cast(pa.binary() if pa.types.is_string(kind) else pa.large_binary())

        def text(index: int) -> str | None:
            value = raw[index].as_py()
            return None if value is None else value.decode()

        column = raw
        convert: Callable[[int], Any] = text
    else:

        def convert(index: int) -> Any:
            return column[index].as_py()

    try:
        column.validate(full=True)
    except pa.ArrowException:
        return None
    return convert


def _plain(value: Any) -> Any:
    """A value as JSON would hold it; tables write a missing number as NaN."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            if math.isinf(value):
                raise _Unreadable("an infinite number")
            return None if math.isnan(value) else value
        case Decimal():
            return _plain(float(value))
        case datetime() | date() | time():
            text = value.isoformat()
            return None if text == "NaT" else text
        case dict():
            return {str(name): _plain(part) for name, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
    raise _Unreadable(f"a value of type {type(value).__name__}")


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    main(json.loads(sys.argv[1]), [int(handle) for handle in sys.argv[2:]])
