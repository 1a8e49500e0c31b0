"""Tables for a terminal."""

from rich.cells import cell_len
from rich.table import Table


def show(table: Table) -> None:
    """Prints a table at its full width, even if the terminal is narrower, so that no number is cut off.

    Rich would take seconds for thousands of rows.
    """
    columns = []
    for column in table.columns:
        cells = [
            " ".join(str(cell).splitlines())
            for cell in (column.header, *column.cells, *[column.footer] * table.show_footer)
        ]
        width, right = max(map(cell_len, cells)), column.justify == "right"
        pads = [" " * (width - cell_len(cell)) for cell in cells]
        columns.append([pad + cell if right else cell + pad for cell, pad in zip(cells, pads, strict=True)])
    print("\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True)))
