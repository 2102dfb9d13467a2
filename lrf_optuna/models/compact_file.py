"""Small .keras files: a zip file whose members are compressed, of the network alone without its optimizer.

Keras writes the members as they are. HDF5 takes about two kilobytes for every array, mostly zeros, and config.json
repeats itself: of ResNet-20 at 29 % of its parameters 60 % of the file was neither weights nor needed.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

CONFIG, WEIGHTS, METADATA = "config.json", "model.weights.h5", "metadata.json"
"""Members of a .keras file."""
SHARED_ID = re.compile(r'("shared_object_id": )(\d+)')
LEVEL = 6
"""Level of zlib, its own default. Weights are compressed by about 8 % at any level, zeros by nearly all."""


def save_compact(model: Any, path: Path) -> None:
    """Write a model as a .keras file that `keras.models.load_model` reads, uncompiled and compressed."""
    with TemporaryDirectory(dir=path.parent, prefix=".compact-") as folder:
        plain = Path(folder, "plain.keras")
        model.save(plain)
        with (
            zipfile.ZipFile(plain) as source,
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as target,
        ):
            config = json.loads(source.read(CONFIG))
            is_compiled = bool(config.get("compile_config"))
            for name in source.namelist():
                if name == CONFIG:
                    target.writestr(name, numbered(json.dumps({**config, "compile_config": None})))
                elif name == METADATA:  # not compressed: equal models have equal sizes, whatever the date in it
                    target.writestr(name, source.read(name), zipfile.ZIP_STORED)
                elif name == WEIGHTS and is_compiled:
                    source.extract(name, folder)
                    target.write(without_optimizer(Path(folder, name)), name)
                else:
                    with source.open(name) as member, target.open(name, "w", force_zip64=True) as place:
                        shutil.copyfileobj(member, place)


def numbered(config: str) -> str:
    """A configuration whose ids of shared objects are their order, so that equal models have files of equal size."""
    ids: dict[str, int] = {}
    return SHARED_ID.sub(lambda found: f"{found[1]}{ids.setdefault(found[2], len(ids) + 1)}", config)


def without_optimizer(weights: Path) -> Path:
    """A copy beside a file of weights that lacks the optimizer's arrays, which are twice the weights for Adam."""
    import h5py

    copy = weights.with_name("weights_alone.h5")
    with h5py.File(weights) as source, h5py.File(copy, "w") as target:
        target.attrs.update(source.attrs)
        for name in source:
            if name != "optimizer":
                source.copy(name, target)
    return copy
