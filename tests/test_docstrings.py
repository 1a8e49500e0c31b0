"""Every docstring of the package follows one template."""

import ast
import pathlib
import re

PACKAGE = pathlib.Path(__file__).parents[1] / "mdlm_jax"
SECTIONS = ("Args", "Returns", "Yields", "Raises", "Reference", "Example")
LISTED = ("Args", "Returns", "Yields", "Raises")
ENTRY = r"\*{0,2}\w+(, \*{0,2}\w+)*( \([^)]*\))?: (?P<text>.*)"
ARTICLE_OR_WORD = r"(a|[a-z]{2,})[ ,;.]"  # a symbol (p, t), an array's shape (int[B N]) and code stay as they are


def _faults(text: str) -> list[str]:
    """What breaks the template: the order and the indentation of sections, and entries that are no sentences."""
    lines, faults, names = text.split("\n"), [], []
    for number, line in enumerate(lines):
        if not (heading := re.match(rf"({'|'.join(SECTIONS)}):( |$)", line)) or number == 0:
            continue
        name = heading[1]
        names.append(name)
        if lines[number - 1].strip():
            faults.append(f"no empty line before {name}")
        if (name in LISTED) == bool(heading[2]):
            faults.append(f"{name}: its text {'follows on the next line' if name in LISTED else 'is on the same line'}")
        if name in LISTED:
            body = []
            for following in lines[number + 1 :]:
                if following and not following.startswith(" "):
                    break
                body.append(following)
            faults += [f"{name}: {fault}" for fault in _entry_faults(name, [line for line in body if line])]
    if names != sorted(names, key=SECTIONS.index):
        faults.append(f"sections in the order {', '.join(names)}")
    return faults


def _entry_faults(name: str, body: list[str]) -> list[str]:
    faults = []
    for number, line in enumerate(body):
        indentation = len(line) - len(line.lstrip())
        if indentation < 4 or (number == 0 and indentation != 4):
            faults.append(f"indentation of {line.strip()!r}")
        if indentation != 4:
            continue
        entry = re.match(ENTRY, line.strip()) if name in ("Args", "Raises") else None
        if name in ("Args", "Raises") and not entry:
            faults.append(f"{line.strip()!r} is no entry")
        begins = entry["text"] if entry else line.strip()
        if (entry or number == 0) and re.match(ARTICLE_OR_WORD, begins):
            faults.append(f"{line.strip()!r} begins with a small letter")
        if (entry or number == 0) and number and not body[number - 1].rstrip().endswith((".", ":", "?")):
            faults.append(f"{body[number - 1].strip()!r} does not end with a full stop")
    if body and not body[-1].rstrip().endswith((".", ":", "?")):
        faults.append(f"{body[-1].strip()!r} does not end with a full stop")
    return faults


def test_sections():
    """Sections are those of the template, in its order, and each entry is a sentence."""
    faults = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node)):
                where = f"{path.relative_to(PACKAGE)} {getattr(node, 'name', '')}"
                faults += [f"{where}: {fault}" for fault in _faults(text)]
    assert not faults, "\n".join(faults)


def test_faults_are_found():
    """The check itself: a docstring that follows the template, and one fault at a time."""
    good = (
        "Adds.\n\nArgs:\n    a: The first\n        of two.\n    b: p, or `c`.\n\n"
        "Returns:\n    The sum.\n\nReference: Peano 1889."
    )
    assert not _faults(good)
    for old, new in [
        ("    a: The first", "  a: The first"),
        ("The first", "the first"),
        ("of two.", "of two"),
        ("The sum.", "the sum."),
        ("Reference: ", "Reference:\n    "),
        ("\n\nReturns", "\nReturns"),
        ("Args", "Raises"),
    ]:
        assert old in good
        assert _faults(good.replace(old, new)), new
