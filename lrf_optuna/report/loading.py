"""How the model of a run is loaded and fed, as code to copy: the page, the card and the dashboard have the same."""

from __future__ import annotations

from lrf_optuna.report.facts import Facts, Usage


def loading_code(facts: Facts, file: str = "model.keras") -> str:
    """Lines of Python that load the model in `file` and give its outputs for raw `pixels`."""
    recipe = facts.recipe
    imports = ["import keras", *(["import numpy as np"] if "np." in recipe.prepare else [])]
    lines = [*imports, "", f'model = keras.saving.load_model("{file}")', f"# {pixels_comment(recipe)}"]
    lines += [recipe.prepare, "outputs = model.predict(x)", *filter(None, [recipe.read])]
    return "\n".join(lines) + "\n"


def pixels_comment(recipe: Usage) -> str:
    """What `pixels` should be."""
    if len(recipe.shapes) == 1:
        (shape,) = recipe.shapes.values()
        return f"pixels: raw inputs of the shape {shape}, as the data of the study had them"
    shapes = ", ".join(f"{name} {shape}" for name, shape in recipe.shapes.items())
    return f"pixels: a dict of raw inputs, as the data of the study had them: {shapes}"
