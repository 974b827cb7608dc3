"""Tables on a terminal, drawn by rich."""

from __future__ import annotations

from sortal.core.report import Cell, Table


def draw(title: str, table: Table) -> None:
    """Print a table on stdout, as wide as the terminal allows; numbers to the right."""
    from rich.console import Console
    from rich.table import Table as Drawn

    drawn = Drawn(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(table.columns):
        numeric = any(isinstance(row[index], int | float) for row in table.rows)
        drawn.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*map(_text, row))
    Console(markup=False, emoji=False, highlight=False).print(drawn)


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
