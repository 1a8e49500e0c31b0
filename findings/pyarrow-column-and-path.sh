#!/usr/bin/env bash
# pyarrow 26.0.1.
# Behaviour: ParquetFile.iter_batches(columns=["text.en"]) takes a name for both a column of that name and a path into
#   a nested column. In a file that has both, one name gives two columns.
# Seen: a file with the column text.en and the column text of {en, de} gives the columns text and text.en.
# Misled: everyone who reads one column by name and takes column 0 of the batch: it is the other one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q pyarrow==26.0.1
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import pyarrow as pa
import pyarrow.parquet as pq

table = pa.table({"text": [{"en": "nested", "de": "x"}], "text.en": ["flat"]})
pq.write_table(table, "both.parquet")
(batch,) = pq.ParquetFile("both.parquet").iter_batches(columns=["text.en"])
print("columns:", batch.schema.names, " column 0:", batch.column(0).to_pylist())
assert batch.schema.names == ["text", "text.en"] and batch.column(0).to_pylist() == [{"en": "nested"}], "changed"
PYTHON
