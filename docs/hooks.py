"""Hooks of MkDocs: the reference follows from the public names, and pages may link to files outside docs/."""

import inspect
import pathlib
import posixpath
import re
import types

from mkdocs.structure.files import File

import mdlm_jax as mj

ROOT = pathlib.Path(__file__).parents[1]
LINK = re.compile(r"(\]\()((?:\.\./)[^)#\s]+)((?:#[^)]*)?\))")


def on_files(files, config):
    for path, text in _reference().items():
        files.append(File.generated(config, path, content=text))
    for page in [file for file in files if file.src_uri.endswith(".md")]:
        for _, target, _ in LINK.findall(page.content_string):
            path = _outside(page.src_uri, target)
            if path and files.get_file_from_path(_published(path)) is None:
                source = ROOT / _published(path).removeprefix("repository/")
                files.append(File.generated(config, _published(path), abs_src_path=str(source)))
    return files


def on_page_markdown(markdown, page, config, files):
    def rewritten(match):
        path = _outside(page.file.src_uri, match[2])
        if path is None:
            return match[0]
        return match[1] + posixpath.relpath(_published(path), posixpath.dirname(page.file.src_uri)) + match[3]

    return LINK.sub(rewritten, markdown)


def _reference() -> dict[str, str]:
    """A page for `mj` itself and one for each room, with an entry for every public name."""
    rooms = {name: getattr(mj, name) for name in mj.__all__ if isinstance(getattr(mj, name), types.ModuleType)}
    own = [name for name in mj.__all__ if name not in rooms and name != "__version__"]
    pages = {"reference/mj.md": _page("mj", mj, own)}
    for name, room in rooms.items():
        pages[f"reference/{name}-room.md"] = _page(f"mj.{name}", room, _public(room))
    return pages


def _public(room: types.ModuleType) -> list[str]:
    """`__all__`, or what a module of one file defines itself."""
    defined = [name for name, value in vars(room).items() if getattr(value, "__module__", "") == room.__name__]
    return getattr(room, "__all__", [name for name in defined if not name.startswith("_")])


def _page(title: str, room: types.ModuleType, names: list[str]) -> str:
    entries = [f"# {title}", inspect.getdoc(room) or ""]
    for name in names:
        value = getattr(room, name)
        if isinstance(value, types.ModuleType):
            entries.append(f"## {title}.{name}\n\n{inspect.getdoc(value)}")
            entries += [_entry(f"{title}.{name}.{inner}", getattr(value, inner), value, 3) for inner in _public(value)]
        else:
            entries.append(_entry(f"{title}.{name}", value, room, 2))
    return "\n\n".join(entries) + "\n"


def _entry(shown: str, value, room: types.ModuleType, level: int) -> str:
    """A name with its docstring. A constant has none: it shows its type and, if it is a number or text, its value."""
    if not (inspect.isfunction(value) or inspect.isclass(value)):
        what = f"`{value!r}`" if isinstance(value, int | float | str) else f"A `{type(value).__name__}`"
        return f"{'#' * level} {shown}\n\n{what}."
    options = f"    options:\n      heading: {shown}\n      heading_level: {level}\n      show_root_toc_entry: true"
    return f"::: {value.__module__}.{value.__qualname__}\n{options}"


def _outside(page: str, target: str) -> str | None:
    """The path in the repository of a link that leaves docs/; None for any other link and for what does not exist."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    return path if not path.startswith("docs/") and (ROOT / path).exists() else None


def _published(path: str) -> str:
    """Where a file of the repository lies on the site. A folder is its README."""
    return f"repository/{path}/README.md" if (ROOT / path).is_dir() else f"repository/{path}"
