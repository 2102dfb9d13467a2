"""Two worker processes on one study beside one: trials a second, and what the study is in the end.

    python benchmarks/cost/workers.py [--networks NAME...] [--trials N] [--rounds N] [--storage URL]
                                 [--work DIR] [--models DIR] [--data DIR]

A network's fits are cached first; then one worker and two of one thread each search in turn, each time in a new study:
in a SQLite file of the work folder, or in the database of `--storage`, where a study of the same name is deleted first.
Writes benchmarks/results/workers.md after each network, of all that is in the work folder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.lib.beside import SHARED, alone, loaded, results
from benchmarks.lib.tables import publish
from lrf_optuna.config import KEEP

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from lrf_optuna.storage.study import StudyStore

NETWORKS, CALIBRATION = ("resnet20_cifar10", "vgg6_cifar10"), 1024
WORKERS = (1, 2)
STARTING = 0.1
"""Share of the trials after which all workers are taken to have begun."""
OBJECTIVES = ("loss", "params", "macs")


def main() -> None:
    """Search on every network with one worker and with two, and write the table after each."""
    args = parsed()
    args.work.mkdir(parents=True, exist_ok=True)
    for network in args.networks:
        alone(cached, network, args)
        rows = [alone(searched, network, workers, args) for _ in range(args.rounds) for workers in WORKERS]
        kind = "sqlite" if args.storage is None else args.storage.partition(":")[0].partition("+")[0]
        found = {"network": network, "database": kind, "trials": args.trials, "rows": rows}
        (args.work / f"{network}-{kind}.json").write_text(json.dumps(found))
        publish("workers", page(results(args.work)))
    print(page(results(args.work)))


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME", help="of the models' models.json")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="times that both search, in turn")
    parser.add_argument("--storage", metavar="URL", help="a database's, in place of a new SQLite file")
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / "workers")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="with the .npz files, or what unpacks them")
    return parser.parse_args()


def cached(network: str, args: argparse.Namespace) -> None:
    """Fit what the workers will need, where it is not cached."""
    from lrf_optuna.scoring.proxy import Proxy

    Proxy(*loaded(network, CALIBRATION, args.models, args.data, args.work), cache=cache(args)).table(KEEP)


def cache(args: argparse.Namespace) -> Path:
    """Where fits are kept."""
    place: Path = args.work / "cache"
    return place


def searched(network: str, workers: int, args: argparse.Namespace) -> dict[str, Any]:
    """One search by a team into a new study: its speed, and what is in the study."""
    from lrf_optuna.search.workers import WorkerPool, WorkerTask
    from lrf_optuna.storage.study import StudyStore

    model, images = loaded(network, CALIBRATION, args.models, args.data, args.work)
    name = f"benchmark-{network}-{workers}"
    url = args.storage or f"sqlite:///{args.work / name}.db"
    emptied(url, name, args)
    record = StudyStore.open(url, name, objectives=OBJECTIVES, identity={})
    task = WorkerTask(url, name, str(cache(args)), {}, KEEP, {"trials": args.trials})
    WorkerPool(workers, args.work, threads=1).search(task, model, images, record)
    return {"workers": workers} | told(record)


def emptied(url: str, name: str, args: argparse.Namespace) -> None:
    """Remove what an earlier run left: the file, or the study of this name in a given database."""
    import optuna

    if args.storage is None:
        for file in args.work.glob(f"{name}.db*"):
            file.unlink()
    elif name in optuna.study.get_all_study_names(url):
        optuna.delete_study(study_name=name, storage=url)


def told(record: StudyStore) -> dict[str, Any]:
    """What a study's trials tell: speeds, whether the numbers are right, plans scored twice, the front's volume."""
    from lrf_optuna.plans.front import Front

    trials, candidates = record.finished(), record.candidates()
    return {
        "whole": speed(trials, 0),
        "steady": speed(trials, STARTING),
        "trials": len(trials),
        "in order": [trial.number for trial in trials] == list(range(len(trials))),
        "twice": len(candidates) - len({candidate.plan for candidate in candidates}),
        "volume": Front.of(candidates).volume,
    }


def speed(trials: Sequence[FrozenTrial], after: float) -> float:
    """Trials a second from the first to the last, by when they were complete, `after` a share of them."""
    ends = sorted(trial.datetime_complete for trial in trials if trial.datetime_complete)
    ends = ends[int(after * len(ends)) :]
    return (len(ends) - 1) / (ends[-1] - ends[0]).total_seconds()


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The table of all that was measured."""
    return "\n".join([*HEAD, *(line for row in rows for line in lines_of(row)), "", ABOUT]) + "\n"


def lines_of(found: dict[str, Any]) -> list[str]:
    """A network's lines: one worker, then two, each the median of its rounds."""
    lines = []
    alone = [row for row in found["rows"] if row["workers"] == WORKERS[0]]
    for workers in WORKERS:
        rows = [row for row in found["rows"] if row["workers"] == workers]
        whole, steady, volume, twice = (
            median(row[key] for row in rows) for key in ("whole", "steady", "volume", "twice")
        )
        ratios = [steady / median(row["steady"] for row in alone), whole / median(row["whole"] for row in alone)]
        right = all(row["trials"] == found["trials"] and row["in order"] for row in rows)
        cells = f"{steady:.1f} | {ratios[0]:.2f} | {whole:.1f} | {ratios[1]:.2f} | {'yes' if right else '**no**'}"
        about = f"{found['network']} | {found['database']} | {found['trials']:,} | {workers}"
        lines.append(f"| {about} | {cells} | {twice:g} | {volume:.4f} |")
    return lines


HEAD = (
    "| network | database | trials | workers | trials/s | times one's | from the first trial on | times one's | "
    "numbers right | scored twice | hypervolume |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)
ABOUT = f"""Workers have one thread each. *Trials/s*: by when the recorded trials were complete, over all but the first
{STARTING:.0%} of them, so that every worker has started, loaded the network and traced its graph; *from the first trial
on*: over all of them, with one worker perhaps still starting. *Numbers right*: the study has just the trials that were
asked for, numbered from 0 without a gap. *Scored twice*: trials whose plan an earlier trial has. *Hypervolume*: of the
front of all trials."""

if __name__ == "__main__":
    main()
