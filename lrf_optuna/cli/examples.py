"""The examples in the help of every command. Each of them is a command line that the parser takes."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "run": (
        "lrf-optuna run",
        "lrf-optuna run --model net.keras --data net.npz --divide 255 --target params=0.4",
        "lrf-optuna run STUDY.toml --trials 500 --dry-run",
    ),
    "layers": ("lrf-optuna layers net.keras", "lrf-optuna layers keras:ResNet50 --json"),
    "front": ("lrf-optuna front net", "lrf-optuna front net --all", "lrf-optuna front net --csv"),
    "select": ("lrf-optuna select net --max-drop 1", "lrf-optuna select net --trial 42"),
    "build": ("lrf-optuna build net", "lrf-optuna build net --trial 42"),
    "tune": ("lrf-optuna tune net --epochs 10", "lrf-optuna tune net --trial 42"),
    "compare": ("lrf-optuna compare net --budgets 0.5,0.3", "lrf-optuna compare net --cost macs --json"),
    "export": (
        "lrf-optuna export net --to litert,onnx",
        "lrf-optuna export net.keras --to litert --int8 --data net.npz",
    ),
    "latency": ("lrf-optuna latency net", "lrf-optuna latency net --runtime litert --batch 1 --threads 1,all"),
    "dashboard": ("lrf-optuna dashboard net --port 8081",),
    "cache": ("lrf-optuna cache", "lrf-optuna cache --clear"),
}
"""Command -> example calls of it."""


def epilog(command: str) -> str:
    """The examples as the end of a command's help; an empty line between two keeps each on its own."""
    examples = EXAMPLES[command]
    return "\n\n".join(["Example:" if len(examples) == 1 else "Examples:", *examples])
