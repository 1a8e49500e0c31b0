"""Tables for a terminal."""

from rich.console import Console
from rich.table import Table


def show(table: Table) -> None:
    """Prints a table at its full width, even if the terminal is narrower, so that no number is cut off."""
    console = Console()
    needed = console.measure(table, options=console.options.update(max_width=1000)).maximum
    console.width = max(console.width, needed)
    console.print(table)
