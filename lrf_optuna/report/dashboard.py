"""What Optuna's dashboard shows of a run: figures, notes on the study and on the chosen trial, files as artifacts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import plotly.graph_objects as go

from lrf_optuna.plans.plan import INTACT
from lrf_optuna.report.content import ReportContent
from lrf_optuna.report.costs import cost_text
from lrf_optuna.report.figures import run_figures
from lrf_optuna.report.headline import headline
from lrf_optuna.report.loading import loading_code

if TYPE_CHECKING:
    import optuna
    from optuna.artifacts import FileSystemArtifactStore

    from lrf_optuna.storage.study import StudyStore

ARTIFACTS = "artifacts"
"""The folder inside a run folder where the dashboard's artifacts are."""
CARD_ROWS = 13
"""Layers that a card of the dashboard has room for: it is 450 pixels high, and a layer takes about 25 of them."""
OURS = "## What lrf_optuna found"
"""The first line of our part of a note. What stands above it is the user's, and stays."""

IS_CHOSEN = "This trial is the chosen point, and its network was built."
WAS_CHOSEN = "The network of this trial was built. Another trial is the chosen point now."
NOTE_KEY = re.compile(r"dashboard:(\d+):note_ver")
"""The study's system attributes that tell which trials, by their ids, have notes."""


@dataclass(frozen=True)
class NotedTrial:
    """What `optuna_dashboard.save_note` reads of a trial: a finished trial of a study is no `optuna.Trial`."""

    storage: Any
    study: optuna.Study
    _trial_id: int


def save_to_study(store: StudyStore, content: ReportContent, folder: Path, files: Iterable[Path]) -> None:
    """Save figures, notes and the `files` that are there into a study; what is there of the same name is replaced."""
    save_figures(store.study, run_figures(content))
    save_notes(store, content)
    save_artifacts(store.study, folder, (file for file in files if file.exists()))


def save_figures(study: optuna.Study, figures: Mapping[str, go.Figure]) -> None:
    """Save figures into a study; one of the same id is replaced."""
    from optuna_dashboard import save_plotly_graph_object

    for name, figure in figures.items():
        save_plotly_graph_object(study, for_card(figure), graph_object_id=name)


def for_card(figure: go.Figure) -> go.Figure:
    """The figure for a card of the dashboard: as high as the card, and a long list of layers is moved by dragging."""
    card = go.Figure(figure).update_layout(height=None)
    rows = len(figure.layout.yaxis.tickvals or ()) if any(trace.type == "bar" for trace in figure.data) else 0
    if rows > CARD_ROWS:
        card.update_yaxes(range=[CARD_ROWS - 0.4, -0.6]).update_xaxes(fixedrange=True)
        card.update_layout(dragmode="pan", title_text=f"Layers: drag to see all {rows}")
    return card


def save_notes(store: StudyStore, content: ReportContent) -> None:
    """Save our part of the notes on the study and on the chosen trial."""
    save_own_note(store.study, study_note(content))
    with store.database.calling() as storage:
        number = content.result.chosen.trial
        trial_id = storage.get_trial_id_from_study_id_trial_number(store.trials.study_id, number)
        save_own_note(NotedTrial(storage, store.study, trial_id), trial_note(content))
        for key in storage.get_study_system_attrs(store.trials.study_id):
            found = NOTE_KEY.fullmatch(key)
            if found and int(found[1]) != trial_id:
                say_not_chosen(NotedTrial(storage, store.study, int(found[1])))


def say_not_chosen(trial: NotedTrial) -> None:
    """Say in the note of a trial that was chosen before that another one is the chosen point now."""
    from optuna_dashboard import get_note, save_note

    noted = cast(Any, trial)
    before = get_note(noted)
    if IS_CHOSEN in before:
        save_note(noted, before.replace(IS_CHOSEN, WAS_CHOSEN))


def save_own_note(of: optuna.Study | NotedTrial, text: str) -> None:
    """Save our part of a note below what the user has written."""
    from optuna_dashboard import get_note, save_note

    noted = cast(Any, of)
    before = get_note(noted)
    own, _, _ = before.partition(OURS)
    note = f"{own.rstrip()}\n\n{text}".lstrip()
    if note != before:
        save_note(noted, note)


def study_note(content: ReportContent) -> str:
    """What came out, which trial is chosen and why, how the model is loaded, as Markdown."""
    result = content.result
    found = headline(result)
    numbers = [f"- {name}: **{number}** ({about})" for name, number, about in found.numbers]
    chosen = f"**Trial {result.chosen.trial}** is the chosen point" + (f": {result.why}." if result.why else ".")
    code = ["```python", loading_code(content.facts).rstrip(), "```"] if content.facts and found.numbers else []
    where = "The report, the plan and the model card are artifacts of this study, if the dashboard was started with "
    return "\n".join([OURS, found.sentence, "", *numbers, "", chosen, "", *code, "", f"{where}`lrf-optuna dashboard`."])


def trial_note(content: ReportContent) -> str:
    """Costs and metrics of the chosen trial, and its plan as a table, as Markdown."""
    result = content.result
    costs = ", ".join(cost_text(name, cost) for name, cost in result.chosen.costs.items())
    rows = [
        f"- {name} ({result.metric} on validation images): {value:.2%}"
        for name, value in content.metrics.get(result.chosen.trial, {}).items()
    ]
    if result.final is not result.original:
        rows.append(f"- test {result.metric}, {result.final_state}: {result.final.test_metric:.2%}")
    plan = [f"| {site} | {choice} |" for site, choice in result.chosen.plan.changed.items()]
    kept = sum(choice == INTACT for _, choice in result.chosen.plan)
    others = [f"| {'1 other' if kept == 1 else f'{kept} others'} | {INTACT} |"] if kept else []
    table = ["| layer | method (ranks) |", "|---|---|", *plan, *others]
    head = f"{IS_CHOSEN} {costs[0].upper()}{costs[1:]}."
    return "\n".join([OURS, head, "", *rows, "", *table])


def artifact_store(folder: Path) -> FileSystemArtifactStore:
    """The store of the artifacts inside a run folder."""
    from optuna.artifacts import FileSystemArtifactStore

    return FileSystemArtifactStore(folder / ARTIFACTS)


def save_artifacts(study: optuna.Study, folder: Path, files: Iterable[Path]) -> None:
    """Keep files as artifacts of a study, inside a run folder; one of the same name is replaced."""
    from optuna.artifacts import get_all_artifact_meta, upload_artifact

    (folder / ARTIFACTS).mkdir(parents=True, exist_ok=True)
    store = artifact_store(folder)
    known = {meta.filename: meta.artifact_id for meta in get_all_artifact_meta(study)}
    for file in files:
        if file.name in known:
            with file.open("rb") as content:
                store.write(known[file.name], content)
        else:
            upload_artifact(artifact_store=store, file_path=str(file), study_or_trial=study)
