#!/usr/bin/env bash
# gguf 0.19.0.
# Behaviour: GGUFWriter leaves out metadata whose value is an empty string or an empty list. The key is not in the file;
#   there is no error and no warning.
# Seen: of five keys written, one of them "" and one of them [], the reader finds three.
# Misled: whoever writes a tokenizer without merges or an empty chat template: readers then take their own default, as if
#   nothing had been set.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q gguf==0.19.0 numpy==2.4.6
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import gguf

writer = gguf.GGUFWriter("model.gguf", "llama")
writer.add_string("set.text", "a")
writer.add_string("empty.text", "")
writer.add_array("set.list", ["a"])
writer.add_array("empty.list", [])
writer.add_bool("set.flag", False)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
found = {key for key in gguf.GGUFReader("model.gguf").fields if key.startswith(("set.", "empty."))}
print(sorted(found))
assert found == {"set.text", "set.list", "set.flag"}, "changed"
PYTHON
