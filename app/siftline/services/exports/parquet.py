"""Parquet: typed columns, and the lineage in the file's own metadata under `siftline`."""

import json
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, BinaryIO

from siftline.services.exports.rows import Lineage, columns, flattened

ROWS_PER_GROUP = 10_000
NUMBERS = {"rank", "bytes", "width", "height", "cluster", "version"}
MOMENTS = {"reviewed_at", "purified_at"}


def write_parquet(records: Iterable[Mapping[str, Any]], lineage: Lineage, out: BinaryIO) -> None:
    """One row group in memory at a time."""
    import pyarrow as pa  # noqa: PLC0415 - 60 MB that only this export needs
    from pyarrow import parquet  # noqa: PLC0415 - heavy, and seldom asked for

    def type_of(name: str) -> Any:
        if name in NUMBERS:
            return pa.int64()
        if name in MOMENTS:
            return pa.timestamp("us", tz="UTC")
        if name == "needs_review":
            return pa.bool_()
        if name == "near_duplicates":
            return pa.list_(pa.string())
        return pa.float64() if name in SCORES or name.startswith("signal_") else pa.string()

    told = {"siftline": json.dumps(lineage.as_json(), ensure_ascii=False)}
    schema = pa.schema([(name, type_of(name)) for name in columns(lineage)], metadata=told)
    rest = (flattened(record, lineage) for record in records)
    with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        while group := list(islice(rest, ROWS_PER_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


SCORES = {"score", "p_anomalous", "interval_lo", "interval_hi", "confidence"}
