"""Prints the account of a run: steps, the `curl` for each call, and checks."""

import json
import time
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table


class Narrator:
    """`failed` counts the checks that did not hold."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.failed = 0
        self._steps = 0
        self._began = time.monotonic()

    def step(self, title: str) -> None:
        self._steps += 1
        clock = f"{time.monotonic() - self._began:5.1f} s"
        self.console.print()
        self.console.rule(f"[bold]{self._steps}. {escape(title)}[/bold]  [dim]{clock}[/dim]", align="left")

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False)

    def command(self, line: str) -> None:
        self.console.print(Syntax(line, "bash", word_wrap=True, background_color="default"))

    def answer(self, status: int, body: Any) -> None:
        text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
        colour = "green" if status < 400 else "yellow"
        shown = text if len(text) <= 400 else text[:400] + " …"
        self.console.print(f"  [{colour}]{status}[/{colour}] [dim]{escape(shown)}[/dim]", highlight=False)

    def check(self, fact: str, holds: bool, found: object = "") -> None:
        """State a fact and whether it holds; what was found is shown when it does not."""
        if holds:
            self.console.print(f"  [green]✓[/green] {escape(fact)}", highlight=False)
        else:
            self.failed += 1
            self.console.print(
                f"  [red]✗ {escape(fact)}[/red]  [dim]{escape(str(found)[:2000])}[/dim]", highlight=False
            )

    def table(self, title: str, columns: list[str], rows: list[list[object]]) -> None:
        table = Table(title=title, title_justify="left", title_style="bold")
        for column in columns:
            table.add_column(column)
        for row in rows:
            table.add_row(*("" if cell is None else str(cell) for cell in row))
        self.console.print(table)
