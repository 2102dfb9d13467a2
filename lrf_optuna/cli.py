"""The command line: parse, call, print. What a command does, the library does."""

from __future__ import annotations

import csv
import functools
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrf_optuna.errors import LrfError

if TYPE_CHECKING:
    from lrf_optuna.config import StudySpec

app = typer.Typer(
    name="lrf-optuna",
    help="The Pareto front of low-rank factorizations of a trained Keras CNN, and one smaller, fine-tuned model off it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `python -m lrf_optuna run`: it needs no file and no network.",
)

Name = Annotated[str, typer.Argument(help="The study: its name under runs/, or its run folder.")]
Storage = Annotated[
    str | None, typer.Option(help="Database URL of the study.", show_default="sqlite in the run folder")
]
Out = Annotated[Path | None, typer.Option(help="The run folder.", show_default="runs/NAME")]
Targets = Annotated[
    list[str] | None,
    typer.Option("--target", help="Most that may be left, e.g. params=0.4; may be repeated.", metavar="COST=SHARE"),
]
MaxDrop = Annotated[
    float | None, typer.Option(help="Most points of validation accuracy that the choice may lose before tuning.")
]
Knee = Annotated[bool, typer.Option("--knee", help="Choose the knee of the front (the default).")]
Tuning = "Fine-tuning"
Data = "Data"
Searching = "Search"


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose user mistakes are one line and exit code 2, and whose Ctrl-C loses nothing."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except LrfError as mistake:
            typer.secho(f"error: {mistake}", err=True, fg="red")
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.secho(
                "stopped: every finished trial is kept, the same command goes on from there", err=True, fg="yellow"
            )
            raise typer.Exit(130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None

    return run


@app.command()
@guarded
def run(
    study: Annotated[
        str | None, typer.Argument(help="A study file (.toml), or the name of an embedded one.", show_default="digits")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="FILE.keras, FILE.h5, keras:NAME, zoo:NAME or package.module:function.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="FILE.npz, a FOLDER of class folders, keras:NAME or digits.")] = None,
    name: Annotated[str | None, typer.Option(help="The study's name.", show_default="the model's")] = None,
    out: Out = None,
    storage: Storage = None,
    trials: Annotated[
        int | None,
        typer.Option(help="Trials in all: those that are there count.", rich_help_panel=Searching, show_default="300"),
    ] = None,
    target: Targets = None,
    max_drop: MaxDrop = None,
    knee: Knee = False,
    seed: Annotated[
        int | None, typer.Option(help="Seed of everything random.", rich_help_panel=Searching, show_default="0")
    ] = None,
    calibration: Annotated[
        int | None,
        typer.Option(
            help="Training images that layers are fitted to and plans scored on.",
            rich_help_panel=Searching,
            show_default="1024",
        ),
    ] = None,
    population: Annotated[
        int | None, typer.Option(help="NSGA-II's population.", rich_help_panel=Searching, show_default="50")
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(help="Decompositions to choose from, with commas.", rich_help_panel=Searching, show_default="all"),
    ] = None,
    objectives: Annotated[
        str | None,
        typer.Option(
            help="Costs to minimise, with commas.", rich_help_panel=Searching, show_default="loss,params,macs"
        ),
    ] = None,
    similarity: Annotated[
        str | None,
        typer.Option(
            help="Of feature maps: cosine, cka, explained, agreement.", rich_help_panel=Searching, show_default="cosine"
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(help="The grid of shares that a layer may keep, with commas.", rich_help_panel=Searching),
    ] = None,
    divide: Annotated[
        float | None,
        typer.Option(help="The network takes (pixel / divide - mean) / std.", rich_help_panel=Data, show_default="1"),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(help="One number, or one a channel, with commas.", rich_help_panel=Data, show_default="0"),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(help="One number, or one a channel, with commas.", rich_help_panel=Data, show_default="1"),
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            help="As in the network's training: none, flip, crop, flip-crop.", rich_help_panel=Data, show_default="none"
        ),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(
            help="Share of the training images to split off where there is no x_val.",
            rich_help_panel=Data,
            show_default="0.1",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes of the one fine-tune.", rich_help_panel=Tuning, show_default="5")
    ] = None,
    no_tune: Annotated[
        bool, typer.Option("--no-tune", help="Leave the built model as it is.", rich_help_panel=Tuning)
    ] = False,
    rate: Annotated[
        str | None,
        typer.Option(
            help="Learning rate, or auto to find it from the data.", rich_help_panel=Tuning, show_default="auto"
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Images a step.", rich_help_panel=Tuning, show_default="128")
    ] = None,
    distil: Annotated[
        float | None, typer.Option(help="Weight of the distillation from the original.", rich_help_panel=Tuning)
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="adamw or sgd.", rich_help_panel=Tuning, show_default="adamw")
    ] = None,
) -> None:
    """Search, choose one point, build it, fine-tune it once.

    Without arguments: a small CNN on scikit-learn's digits, offline, in a few minutes. Options win over the study file.
    The same command again repeats nothing, and goes on after an interruption.
    """
    options = {
        "name": name, "model.path": model, "data.path": data, "data.divide": divide, "data.mean": numbers("--mean", mean),
        "data.std": numbers("--std", std), "data.augment": augment, "data.validation": validation,
        "search.trials": trials, "search.calibration": calibration, "search.population": population, "search.seed": seed,
        "search.methods": words(methods), "search.objectives": words(objectives), "search.similarity": similarity,
        "search.keep": numbers("--keep", keep), "search.storage": storage,
        "search.targets": shares(target), "search.max_drop": max_drop,
        "tune.epochs": 0 if no_tune else epochs, "tune.rate": rate_of(rate), "tune.batch": batch, "tune.distil": distil,
        "tune.optimizer": optimizer,
    }  # fmt: skip
    spec = chosen_as_asked(asked(study, options), target, max_drop, knee)
    folder = out or Path("runs") / spec.name
    with console(folder) as shown:
        from lrf_optuna.compress import Run
        from lrf_optuna.console import layers_table, standing_table

        work = Run.open(spec, folder, progress=shown)
        result = work.finish(work.search())
        shown.console.print("", layers_table(result.layers), "", standing_table(result), sep="\n")
        shown.console.print(
            f"\n{folder / 'model.keras'}, report: {folder / 'report.html'}", style="bold", highlight=False
        )


@app.command()
@guarded
def layers(
    model: Annotated[str, typer.Argument(help="FILE.keras, FILE.h5, keras:NAME, zoo:NAME or package.module:function.")],
    size: Annotated[
        str | None, typer.Option(help="H,W,C where the model leaves its input open, e.g. 224,224,3.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List every layer: its share of parameters and MACs, and whether it can be factorized or why not."""
    from rich.console import Console

    with quiet():
        from lrf_optuna.console import inventory_table
        from lrf_optuna.layers import described, find_sites
        from lrf_optuna.zoo import ZOO, load_model
    network = ZOO[model[4:]]() if model[4:] in ZOO and model.startswith("zoo:") else load_model(model)  # type: ignore[call-arg]
    found = find_sites(network, tuple(int(n) for n in numbers("--size", size) or ()) or None)
    rows = described(found)
    if as_json:
        print(json.dumps({"params": found.params, "macs": found.macs, "layers": rows}, indent=2))
        return
    shown = Console()
    shown.print(inventory_table(rows))
    counted = sum(row.params for row in found.rows if row.site)
    shown.print(
        f"\n{len(found.sites)} of {len(found.rows)} layers can be factorized: they hold {counted / max(found.params, 1):.1%} "
        f"of {found.params:,} parameters; {found.macs:,} MACs an image",
        highlight=False,
    )


@app.command()
@guarded
def front(
    name: Name,
    storage: Storage = None,
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Print the Pareto points of a study."""
    from rich.console import Console

    from lrf_optuna.console import front_table, methods
    from lrf_optuna.search import front as best
    from lrf_optuna.study import chosen_in, locate

    found = locate(name, storage, out)
    points = best(found.record.candidates())
    if as_json:
        print(json.dumps([{"trial": p.trial, **p.costs, "plan": p.plan.to_dict()} for p in points], indent=2))
    elif as_csv:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["trial", *found.record.objectives, "methods", "plan"])
        writer.writerows([p.trial, *p.costs.values(), methods(p.plan), p.plan.to_json()] for p in points)
        print(text.getvalue(), end="")
    else:
        there = chosen_in(found.folder)
        Console().print(front_table(points, there[0].trial if there else None))


@app.command()
@guarded
def select(
    name: Name,
    target: Targets = None,
    max_drop: MaxDrop = None,
    knee: Knee = False,
    storage: Storage = None,
    out: Out = None,
) -> None:
    """Choose one point off the front, say why, and keep it in plan.json."""
    from lrf_optuna.study import locate

    found = locate(name, storage, out)
    spec = chosen_as_asked(
        found.spec.override({"search.targets": shares(target), "search.max_drop": max_drop}), target, max_drop, knee
    )
    with console(found.folder) as shown:
        from lrf_optuna.compress import choose_from
        from lrf_optuna.console import front_table
        from lrf_optuna.study import keep_choice

        chosen, why = choose_from(found.record, spec, found.folder, shown)
        keep_choice(found.folder, found.record.name, chosen, why)
        shown.console.print(front_table([chosen], chosen.trial))


@app.command()
@guarded
def build(name: Name, storage: Storage = None, out: Out = None) -> None:
    """Build the selected point (or the one that the study asks for) as model.keras, without tuning."""
    from lrf_optuna.study import locate

    made(locate(name, storage, out), {"tune.epochs": 0})


@app.command()
@guarded
def tune(
    name: Name,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training images.", show_default="the study's")
    ] = None,
    rate: Annotated[str | None, typer.Option(help="Learning rate, or auto to find it from the data.")] = None,
    storage: Storage = None,
    out: Out = None,
) -> None:
    """Fine-tune the selected point's model once, as model.keras."""
    from lrf_optuna.study import locate

    found = locate(name, storage, out)
    made(found, {"tune.epochs": epochs or found.spec.tune.epochs or 5, "tune.rate": rate_of(rate)})


@app.command()
@guarded
def dashboard(
    name: Name,
    storage: Storage = None,
    out: Out = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8080,
) -> None:
    """Start Optuna Dashboard on a study."""
    from lrf_optuna.study import locate

    url = locate(name, storage, out).record.url
    from optuna_dashboard import run_server

    try:
        run_server(url, host=host, port=port)
    except OSError as reason:
        raise LrfError(f"cannot listen on {host}:{port} ({reason.strerror}): give another --port") from None


def made(found: Any, options: dict[str, object]) -> None:
    """Build, and tune if the options say so, the point that plan.json has or else the study asks for."""
    with console(found.folder) as shown:
        from lrf_optuna.compress import Run
        from lrf_optuna.console import layers_table, standing_table
        from lrf_optuna.study import chosen_in

        work = Run.open(found.spec.override(options), found.folder, progress=shown)
        result = work.finish(work.record.candidates(), chosen_in(found.folder))
        shown.console.print("", layers_table(result.layers), "", standing_table(result), sep="\n")


def asked(study: str | None, options: Mapping[str, object]) -> StudySpec:
    """The study file's specification, or the digits', or one of options alone, with the options over it."""
    from lrf_optuna.config import DataSpec, ModelSpec, StudySpec, find_study, name_for

    model, data = options["model.path"], options["data.path"]
    if study is None and (model or data):
        if not (model and data):
            given, missing = ("--model", "--data") if model else ("--data", "--model")
            raise LrfError(f"{given} without {missing}: give both, or a study file that has the other")
        plain = StudySpec(name="study", model=ModelSpec(path=str(model)), data=DataSpec(path=str(data)))
        return plain.override(
            {"name": name_for(str(model), str(data))} | {k: v for k, v in options.items() if v is not None}
        )
    spec = StudySpec.from_toml(find_study(study)) if study else StudySpec.default()
    return spec.override(options)


def chosen_as_asked(spec: StudySpec, target: list[str] | None, max_drop: float | None, knee: bool) -> StudySpec:
    """The specification with one way of choosing: what options ask for takes the place of the file's."""
    if knee and (target or max_drop is not None):
        raise LrfError("--knee goes with neither --target nor --max-drop: give one way to choose")
    return spec.choosing({}, None) if knee else spec


def numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """Numbers with commas. Raises LrfError for other text."""
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise LrfError(f"{option} should be numbers with commas, but got {text!r}") from None


def words(text: str | None) -> tuple[str, ...] | None:
    """Names with commas."""
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def shares(texts: list[str] | None) -> dict[str, float] | None:
    """Targets of the form cost=share. Raises LrfError for other text."""
    if not texts:
        return None
    found = {}
    for text in texts:
        cost, _, share = text.partition("=")
        try:
            found[cost.strip()] = float(share)
        except ValueError:
            raise LrfError(f"--target should be COST=SHARE such as params=0.4, but got {text!r}") from None
    return found


def rate_of(text: str | None) -> float | str | None:
    """A learning rate: a number, or the word auto."""
    if text in (None, "auto"):
        return text
    (number,) = numbers("--rate", text) or (0.0,)
    return number


@contextmanager
def console(folder: Path) -> Iterator[Any]:
    """Progress bars on the terminal, and log.txt in the run folder once there is one."""
    from rich.console import Console

    from lrf_optuna.console import Bars

    with quiet():
        import lrf_optuna.compress  # noqa: F401  TensorFlow's greetings are not for the user
    with logged(folder):
        yield Bars(Console())


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """What the library logs goes to log.txt in the run folder, once something has made the folder."""
    log = logging.getLogger("lrf_optuna")
    log.setLevel(logging.INFO)
    log.propagate = False
    handler = LogFile(folder / "log.txt")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield
    except LrfError as mistake:
        log.error("%s", mistake)
        raise
    except KeyboardInterrupt:
        log.warning("stopped by the user")
        raise
    except Exception:
        log.exception("stopped by an error")
        raise
    finally:
        log.removeHandler(handler)
        handler.close()


class LogFile(logging.Handler):
    """Appends to a file whose folder may not be there yet: until then lines wait, and a run that is refused leaves none."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.waiting: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.waiting.append(self.format(record))
        if self.path.parent.is_dir():
            with self.path.open("a") as file:
                file.writelines(line + "\n" for line in self.waiting)
            self.waiting.clear()


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing of what libraries write to the terminal while they load."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def main() -> None:
    """The console script."""
    app()
