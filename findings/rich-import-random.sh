#!/usr/bin/env bash
# rich 15.0.0.
# Behaviour: importing rich.console draws from Python's global random generator (for the identifiers of its styles).
#   The import is often lazy: `import rich` alone draws nothing, the first rich.print does.
# Seen: random.seed(0) gives 0.8444218515250481 as the first number, 0.3852453064766108 with the import in between.
# Misled: programs that seed `random` and then import, or print through, a library that uses rich (flax 0.12.8 does at
#   its own import): the first run of a process differs from its second, and adding an import changes results.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q rich==15.0.0
"$work/venv/bin/python" - <<'PYTHON'
import random

random.seed(0)
plain = random.random()
random.seed(0)
import rich

lazy = random.random()
random.seed(0)
import rich.console

shifted = random.random()
random.seed(0)
again = random.random()
print("seeded", plain, "| import rich", lazy, "| import rich.console", shifted, "| once more", again)
assert plain == lazy == again, "changed: import rich draws too, or seeds differ"
assert shifted != plain, "changed: the import no longer draws from the global generator"
PYTHON
