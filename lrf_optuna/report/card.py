"""The model card beside a model, in Hugging Face's format: metadata as YAML, then what the model is, for its users.

The metadata are written as JSON values, which are YAML, so that no package is needed for them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lrf_optuna.plans.result import STATES, Result
from lrf_optuna.report.facts import Facts
from lrf_optuna.report.headline import headline, left_out_layers
from lrf_optuna.report.loading import loading_code
from lrf_optuna.report.tables import NONE, Table, evaluation_table, layer_table

TAGS = ("keras", "low-rank-factorization", "model-compression", "lrf_optuna")


def model_card(result: Result, facts: Facts) -> str:
    """The card of the last network of a result, as the README.md of a repository on Hugging Face."""
    name = f"{result.study}, compressed by low-rank factorization"
    parts = [
        f"# {name}",
        headline(result).sentence,
        f"It was made from `{model_name(facts)}` by `lrf_optuna`: convolutions "
        "and dense layers are replaced by chains of smaller ones. It is an ordinary Keras model.",
        "## Use",
        f"```python\n{loading_code(facts)}```",
        *([f"{facts.recipe.needs}."] if facts.recipe.needs else []),
        "## Figures",
        markdown_table(evaluation_table(result)),
        "## How it was made",
        "\n".join(how_it_was_made(result, facts)),
        markdown_table(layer_table(result.layers)),
        "## Limits",
        "\n".join(limits(result)),
        "## Provenance",
        "\n".join(provenance(facts)),
    ]
    return f"---\n{metadata(result, facts, name)}---\n\n" + "\n\n".join(parts) + "\n"


def model_name(facts: Facts) -> str:
    """The name of the original without the folders of the machine that it was on."""
    path = facts.provenance.model
    return path if ":" in path and "/" not in path else path.replace("\\", "/").rpartition("/")[2]


def metadata(result: Result, facts: Facts, name: str) -> str:
    """The metadata that Hugging Face reads: library, tags, task, metrics and figures, one key a line."""
    metric = result.metric.lower().replace(" ", "_")
    task = {"type": facts.task, "name": facts.task.replace("-", " ")} if facts.task else {"type": "other"}
    data = facts.provenance.data
    dataset = {"type": data, "name": data, "split": "test"}
    figure = {"type": metric, "name": f"test {result.metric}", "value": round(result.final.test_metric, 6)}
    keys: dict[str, Any] = {
        "library_name": "keras",
        "tags": list(TAGS),
        **({"pipeline_tag": facts.task} if facts.task else {}),
        "metrics": [metric],
        "model-index": [{"name": name, "results": [{"task": task, "dataset": dataset, "metrics": [figure]}]}],
    }
    return "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in keys.items())


def how_it_was_made(result: Result, facts: Facts) -> Iterator[str]:
    """The steps from the original to this model, a point each."""
    yield f"- {result.trials:,} trials of a search for the Pareto front of {', '.join(result.chosen.costs)}."
    yield f"- The point is trial {result.chosen.trial}" + (f": {result.why}." if result.why else ".")
    if result.outcome:
        yield f"- {result.outcome[0].upper()}{result.outcome[1:]}."
    states = [name for name in STATES if getattr(result, name)]
    yield f"- States that were measured: {', '.join(states)}. This is the last one."
    for name, use in facts.uses.items():
        yield f"- {name.capitalize()} images: {use.count:,}, {use.source}."


def limits(result: Result) -> Iterator[str]:
    """What a user should know before the model is used, a point each."""
    yield "- It answers differently from the original for some inputs: measure it on your own data before you use it."
    yield "- Whatever limits the original has, by its training data or its license, this model has as well."
    for text in (*result.warnings, *(sentence.rstrip(".") for sentence in left_out_layers(result))):
        yield f"- {text}."


def provenance(facts: Facts) -> Iterator[str]:
    """Where the model came from, a point each."""
    origin = facts.provenance
    versions = ", ".join(f"{name} {number}" for name, number in origin.versions.items())
    rows = {"Model": model_name(facts), "Data": origin.data, "Seed": origin.seed, "Date": origin.date}
    for name, value in {**rows, "Versions": versions, "Machine": origin.machine}.items():
        yield f"- {name}: {value}"


def markdown_table(table: Table) -> str:
    """A table in Markdown, with its caption below."""
    heads = [cell(column.head) or " " for column in table.columns]
    lines = ["---:" if column.number else "---" for column in table.columns]
    rows = [heads, lines, *([cell(text) or NONE for text in texts] for texts, _ in table.rows)]
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return text + (f"\n\n{table.caption}" if table.caption else "")


def cell(text: str) -> str:
    """Text as a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
