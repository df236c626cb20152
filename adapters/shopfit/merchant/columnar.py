"""Parquet and Arrow as JSON lines, in a process of its own: `python columnar.py {"kind": …, "limits": …} HANDLE…`.

What a few kilobytes of these formats unpack to has no bound, and they are read by native code. So they are unpacked
where memory is limited and a crash is nobody else's. Imports nothing of shopfit.

Every line is a list: `[number, row]`; `[number, what, allowed]`, a row that cannot be; `[null, what, allowed]`, the end
of a file that cannot be read; `["end"]`.
"""

import contextlib
import json
import math
import mmap
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
_KINDS = "text, numbers, lists, objects and times"

Line = list[Any]


class _Unreadable(Exception):  # noqa: N818 - caught in this file
    def __init__(self, what: str, allowed: str = "") -> None:
        super().__init__(what)
        self.what, self.allowed = what, allowed


def main(task: dict[str, Any], handles: list[int]) -> None:
    """Write the rows of open files to standard output, as lines of JSON.

    Args:
        task: `kind` (parquet or arrow), `columns` (their names, or None for all) and `limits`, in which `bytes` are
            those that the files may unpack to.
        handles: of the files.
    """
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())
    _confine(task["limits"]["memory"])
    write = sys.stdout.write
    number = 0
    try:
        for handle in handles:
            for batch in _batches(pa, task, handle):
                for line in _rows(pa, batch, number):
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


def _rows(pa: Any, batch: Any, before: int) -> Iterator[Line]:
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
            yield [number, {name: _plain(values[index]) for name, values in columns.items()}]
        except _Unreadable as error:
            yield [number, f"holds {error.what}", _KINDS]


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
