"""The pages of this room, from their templates."""

import pathlib
from typing import Any

import jinja2


def rendered(name: str, **values: Any) -> str:
    """The HTML of a page.

    Args:
        name: Of its template.
        values: What the template shows.
    """
    loader = jinja2.FileSystemLoader(pathlib.Path(__file__).parent, encoding="utf-8")
    pages = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return pages.get_template(name).render(**values)
