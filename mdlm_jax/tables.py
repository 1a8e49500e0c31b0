"""Tables for a terminal."""

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table


def show(table: Table) -> None:
    """Prints a table at its full width, even if the terminal is narrower, so that no number is cut off."""
    for column in table.columns:  # rich measures thousands of cells in seconds, unless their width is given
        column.width = max(cell_len(str(cell)) for cell in (column.header, column.footer, *column.cells))
    console = Console()
    needed = console.measure(table, options=console.options.update(max_width=1000)).maximum
    console.width = max(console.width, needed)
    console.print(table)
