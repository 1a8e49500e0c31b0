#!/usr/bin/env bash
# orbax-checkpoint 0.12.8 with absl-py 2.5.1.
# Behaviour: `import orbax.checkpoint` logs a line through absl, which installs a handler on Python's root logger. A
#   later `logging.basicConfig(level=logging.INFO)` of the program finds that handler and does nothing, without a word.
# Seen: before the import the root logger has no handler, after it one. basicConfig leaves the level at WARNING, and
#   logging.info prints nothing.
# Misled: whoever configures logging after the imports, as most scripts do: messages at INFO and files named in
#   basicConfig are missing.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q orbax-checkpoint==0.12.8 absl-py==2.5.1 jax==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$work/venv/bin/python" - <<'PYTHON'
import logging

root = logging.getLogger()
before = len(root.handlers)
import orbax.checkpoint

after = len(root.handlers)
logging.basicConfig(level=logging.INFO)
logging.info("not printed")
print("handlers of the root logger:", before, "->", after, "; level after basicConfig:", logging.getLevelName(root.level))
assert (before, after) == (0, 1), "changed: the import leaves the root logger alone"
assert root.level == logging.WARNING, "changed: basicConfig works after the import"
PYTHON
