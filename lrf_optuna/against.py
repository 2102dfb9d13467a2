"""The report's section on a comparison: our front against other ways to choose ranks."""

from __future__ import annotations

from html import escape

from lrf_optuna.comparison import OURS, WORDS, Block, Comparison, Row
from lrf_optuna.markup import cells, table


def against(compared: Comparison, figure: str) -> str:
    """The section: the verdict, the figure, a table, and what a fair reader should know."""
    said = "".join(f"<p>{escape(note)}</p>" for note in compared.notes)
    return "\n".join(
        [
            "<h2>Against other ways to choose ranks</h2>",
            f"<p>{escape(compared.verdict)} The front is that of {compared.trials:,} trials.</p>",
            figure,
            accuracies(compared),
            f'<div class="soft">{said}</div>',
        ]
    )


def accuracies(compared: Comparison) -> str:
    """Validation accuracy with fitted kernels (as published, in brackets), a row a rule and a column a budget."""
    budgets = "".join(f'<th class="number" scope="col">{block.budget:.0%}</th>' for block in compared.blocks)
    words = f"Validation accuracy at a share of {WORDS[compared.cost]}, fitted to data (as published)"
    head = f'<tr><th rowspan="2">Rule</th><th class="number" colspan="{len(compared.blocks)}">{words}</th></tr>'
    body = []
    for row in compared.blocks[0].rows:
        mark = ' class="best"' if row.name == OURS else ""
        texts = (cell(block, block.row(row.name)) for block in compared.blocks)
        body.append(f'<tr{mark}><th scope="row">{escape(row.name)}</th>{cells(*texts)}</tr>')
    finals = (
        "<br>".join(f"{escape(name)} {score.val:.2%}" for name, score in b.finals) or "–" for b in compared.blocks
    )
    body.append(f'<tr><th scope="row">as built, refitted in layer order</th>{cells(*finals)}</tr>')
    return table(f"{head}\n<tr>{budgets}</tr>", "\n".join(body))


def cell(block: Block, row: Row) -> str:
    """The accuracies of a row, the best of its budget in bold."""
    if row.best is None:
        return f'<span title="{escape(row.reason)}">–</span>'
    best = max(other.best.val for other in block.rows if other.best)
    fitted = f"{row.fitted.val:.2%}" if row.fitted else "–"
    text = f"{fitted} ({row.plain.val:.2%})" if row.plain else fitted
    return f"<strong>{text}</strong>" if row.best.val == best else text
