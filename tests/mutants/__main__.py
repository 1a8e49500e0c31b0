"""`python -m tests.mutants [WORD ...]`: which one-line faults the tests of the default tier notice.

stored.txt has three lines for each fault: the file and the tests that should notice the fault, the text, and the text
with the fault. Each fault is put into a copy of the repository, where its tests run until the first failure. The tests
must pass without faults, which is checked first. With words, only faults that contain one of them are tried. Exits with
1 if a fault goes unnoticed or no longer applies.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
STORED = pathlib.Path(__file__).with_name("stored.txt")
TIMEOUT = 300  # seconds; a fault that makes a test hang is noticed too


class Mutant(NamedTuple):
    """One fault."""

    file: str
    tests: tuple[str, ...]
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.file}: {self.before} -> {self.after}"


def stored() -> list[Mutant]:
    """The faults of stored.txt."""
    lines = STORED.read_text(encoding="utf-8").splitlines()
    mutants = []
    for head, before, after in zip(*[iter(lines)] * 3, strict=True):
        if (head[:2], before[:2], after[:2]) != ("@ ", "- ", "+ "):
            raise ValueError(f"{STORED}: expected lines that begin with '@ ', '- ' and '+ ', not {head!r}")
        file, *tests = head[2:].split()
        mutants.append(Mutant(file, tuple(tests), before[2:], after[2:]))
    return mutants


def copy_of_repository(folder: pathlib.Path) -> None:
    """Copies every file that git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


def noticed(folder: pathlib.Path, tests: tuple[str, ...], timeout: float | None = TIMEOUT) -> bool:
    """Whether the tests fail in a copy of the repository, or take too long."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    # programs that are the same in all copies are compiled once
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(folder), "JAX_PLATFORMS": "cpu"}
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return True
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest exits with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 1


def main(words: list[str]) -> int:
    mutants = [mutant for mutant in stored() if not words or any(word in str(mutant) for word in words)]
    survivors, stale = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        copy_of_repository(folder)
        tests = tuple(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
        if noticed(folder, tests, timeout=None):
            print(f"these tests fail without a fault, or some of them: {' '.join(tests)}")
            return 1
        for number, mutant in enumerate(mutants, 1):
            path = folder / mutant.file
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            begin = time.perf_counter()
            if text.count(mutant.before) != 1:
                stale.append(mutant)
                outcome = f"does not apply: its text is there {text.count(mutant.before)} times"
            else:
                path.write_text(text.replace(mutant.before, mutant.after), encoding="utf-8")
                outcome = "noticed" if noticed(folder, mutant.tests) else "NOT NOTICED"
                path.write_text(text, encoding="utf-8")
                survivors += [mutant] * (outcome != "noticed")
            print(f"{number}/{len(mutants)} {mutant}: {outcome} ({time.perf_counter() - begin:.0f} s)", flush=True)
    tried = len(mutants) - len(stale)
    print(f"{tried - len(survivors)} of {tried} noticed ({(tried - len(survivors)) / max(tried, 1):.1%})")
    for title, some in (("not noticed", survivors), ("do not apply", stale)):
        print("".join(f"{title}: {mutant}\n" for mutant in some), end="")
    return 1 if survivors or stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
