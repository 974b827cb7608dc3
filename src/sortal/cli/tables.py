"""Tables on a terminal, drawn by rich."""

from __future__ import annotations

import sys

from sortal.core.report import Cell, Table

WIDTH = 140


def draw(title: str, table: Table) -> None:
    """Print a table on stdout, as wide as the terminal allows (or 140 columns into a file); numbers to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as Drawn

    drawn = Drawn(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD)
    for index, column in enumerate(table.columns):
        numeric = all(isinstance(row[index], int | float | None) for row in table.rows)
        drawn.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*map(_text, row))
    width = None if sys.stdout.isatty() else WIDTH
    Console(markup=False, emoji=False, highlight=False, width=width).print(drawn)


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
