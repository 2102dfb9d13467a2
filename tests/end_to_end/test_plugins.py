"""A user's own decomposition: the page's joins a search, one that breaks a law is refused with that law's name."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import dedent
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from support.fitting import fit

import lrf_optuna
from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Conv, pointwise, spatial
from lrf_optuna.decompositions import laws
from lrf_optuna.decompositions.base import Decomposition, PreparedDecomposition, factorize
from lrf_optuna.decompositions.intact import Intact
from lrf_optuna.decompositions.registry import DECOMPOSITIONS, chain_of, load_plugins, register
from lrf_optuna.decompositions.svd import matrix_chain, matrix_ranks
from lrf_optuna.decompositions.tt_matrix import TTMatrix
from lrf_optuna.errors import LrfError
from lrf_optuna.models.surgery import materialize
from lrf_optuna.plans.plan import Choice

PAGE = (Path(__file__).parents[2] / "studies" / "README.md").read_text()
SECTION = PAGE.partition("## Your own decomposition\n")[2].partition("\n## ")[0]


@pytest.fixture(autouse=True)
def table() -> Iterator[None]:
    """The table is afterwards what it was before."""
    before = dict(DECOMPOSITIONS)
    yield
    DECOMPOSITIONS.clear()
    DECOMPOSITIONS.update(before)
    load_plugins.cache_clear()


def on_page(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    assert found
    return found[1]


def from_page() -> None:
    """Runs the page's example, as a script of its own."""
    exec(compile(on_page("python"), "studies/README.md", "exec", dont_inherit=True), {"__name__": "__main__"})


@pytest.mark.parametrize("name", DECOMPOSITIONS)
def test_what_is_in_the_table_keeps_the_laws(name: str) -> None:
    laws.check(DECOMPOSITIONS[name])


def test_every_method_applies_to_something_that_the_laws_are_tried_on() -> None:
    for name, method in DECOMPOSITIONS.items():
        assert any(method.applies(op) for op in laws.OPERATIONS.values()), name


def test_the_example_of_the_page_joins_the_table_and_may_be_run_again() -> None:
    from_page()
    assert list(DECOMPOSITIONS)[-1] == "sketch"
    from_page()
    assert list(DECOMPOSITIONS).count("sketch") == 1


def test_the_example_of_the_page_takes_part_in_a_search(fresh_net: Callable[..., Any], images: Array) -> None:
    from_page()
    net = fresh_net()
    proxy = lrf_optuna.Proxy(net, images, methods=["sketch"])
    found = lrf_optuna.search_front(proxy, proxy.table((0.3, 0.6)), trials=6, population=4, seed=0)
    used = [choice for candidate in found for _, choice in candidate.plan if choice.method == "sketch"]
    assert used
    plan = next(c.plan for c in found if any(choice.method == "sketch" for _, choice in c.plan))
    small = materialize(net, plan, {s: proxy.kernels.stages(s, choice) for s, choice in plan})
    assert small.count_params() == proxy.measure(plan).params < net.count_params()
    np.testing.assert_allclose(np.asarray(small(images)), proxy.logits(plan, images), rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("table")
def test_compress_takes_it_by_name(digits_net: Any, digits: Any, tmp_path: Path) -> None:
    from_page()
    settings: dict[str, Any] = {"methods": ("sketch",), "keep": (0.3, 0.6), "calibration": 64, "population": 4}
    settings["time_at_end"] = False
    _, result = lrf_optuna.compress(digits_net, digits, trials=4, tune=False, out=tmp_path, **settings)
    assert {part.method for part in result.layers} <= {"sketch", "intact"}
    assert "sketch" in {part.method for part in result.layers}


@dataclass(frozen=True)
class Good:
    """Keeps every law; the classes below break one each."""

    name: str = "mine"

    def applies(self, op: Conv) -> bool:
        return not op.pointwise

    def ranks(self, op: Conv, keep: float) -> tuple[int, ...]:
        return matrix_ranks(op, keep)

    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        return matrix_chain(op, ranks)

    def factorize(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> tuple[Array, ...]:
        return factorize(DECOMPOSITIONS["channel_svd"], op, kernel, ranks)


class Greedy(Good):
    def ranks(self, op: Conv, keep: float) -> tuple[int, ...]:
        return (2 + super().ranks(op, keep)[0],)


class Shrinking(Good):
    def ranks(self, op: Conv, keep: float) -> tuple[int, ...]:
        return super().ranks(op, 0.3) if keep < 0.6 else (1,)


class Fractional(Good):
    def ranks(self, op: Conv, keep: float) -> Any:
        return (float(super().ranks(op, keep)[0]),)


class Apart(Good):
    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        first, last = super().chain(op, ranks).stages
        return Chain((first, replace(last, cin=max(1, last.cin - 1), cout=last.cout + 1)))


class Unstrided(Good):
    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        return super().chain(replace(op, strides=(1,) * len(op.window)), ranks)


class Undilated(Good):
    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        return super().chain(replace(op, dilation=(1,) * len(op.window)), ranks)


class LooksTwice(Good):
    def ranks(self, op: Conv, keep: float) -> tuple[int, ...]:
        return (1,)

    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        plain = replace(op, strides=(1,) * len(op.window))
        return Chain((spatial(op, op.cin, *ranks), spatial(plain, *ranks, op.cout)))


class EndsGrouped(Good):
    def ranks(self, op: Conv, keep: float) -> tuple[int, ...]:
        return (1,)

    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        return Chain((pointwise(op, op.cin, op.cout), spatial(op, op.cout, op.cout, groups=op.cout)))


class Backwards(TTMatrix):
    def __init__(self) -> None:
        super().__init__("backwards", cores=2)

    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        return Chain(
            tuple(replace(stage, lead=stage.trail, trail=stage.lead) for stage in super().chain(op, ranks).stages)
        )


class Wide(Good):
    def factorize(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> tuple[Array, ...]:
        return tuple(stage.astype(np.float64) for stage in super().factorize(op, kernel, ranks))


class Flat(Good):
    def factorize(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> tuple[Array, ...]:
        return tuple(stage.reshape(-1) for stage in super().factorize(op, kernel, ranks))


class Random(Good):
    def factorize(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> tuple[Array, ...]:
        noise = np.random.default_rng().standard_normal(kernel.shape).astype(kernel.dtype)
        return super().factorize(op, kernel + noise, ranks)


class Scribbling(Good):
    def factorize(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> tuple[Array, ...]:
        kernels = super().factorize(op, kernel, ranks)
        kernel *= 2
        return kernels


class Sharing(Intact):
    def factorize(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> tuple[Array, ...]:
        return (kernel,)


class CutOtherwise(Good):
    def prepare(self, op: Conv, kernel: Array) -> Array:
        return kernel

    def truncate(self, op: Conv, prepared: Array, ranks: tuple[int, ...]) -> tuple[Array, ...]:
        return super().factorize(op, prepared, ranks)


class Worsening(Good):
    def factorize(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> tuple[Array, ...]:
        first, last = super().factorize(op, kernel, ranks)
        return first * ranks[0], last


class Crashing(Good):
    def factorize(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> tuple[Array, ...]:
        raise ZeroDivisionError("by nothing\nat all")


class Homeless(Good):
    def applies(self, op: Conv) -> bool:
        return False


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (Greedy(), "keep * op.params weights"),
        (Shrinking(), "keep * op.params weights|weights grow with keep"),
        (Fractional(), "whole numbers"),
        (Apart(), "join from op.cin to op.cout"),
        (Unstrided(), "strides multiply"),
        (Undilated(), "dilation and padding of the operation"),
        (LooksTwice(), "one stage has the window"),
        (EndsGrouped(), "the last one plain"),
        (Backwards(), "contractions go from the first"),
        (Wide(), "kernel_shape and the input's dtype"),
        (Flat(), "kernel_shape and the input's dtype"),
        (Random(), "equal input gives equal output"),
        (Scribbling(), "arguments are left as they are"),
        (Sharing("mine"), "arguments are left as they are"),
        (CutOtherwise(), "has factorize besides prepare and truncate"),
        (Worsening(), "error does not rise"),
        (Crashing(), "ZeroDivisionError"),
        (Homeless(), "applies to none"),
        (Good("two words"), "plain name"),
        (Good(""), "plain name"),
        (Good("svd"), "already: give yours another name"),
        (Good, "should be an object, but got the class Good"),
        (object(), "plain name"),
    ],
    ids=lambda value: getattr(type(value), "__name__", "") if not isinstance(value, str) else "",
)
def test_what_breaks_a_law_is_refused_with_its_name_in_one_line(method: Decomposition, words: str) -> None:
    before = dict(DECOMPOSITIONS)
    with pytest.raises(LrfError) as refusal:
        register(method)
    assert any(word in str(refusal.value) for word in words.split("|"))
    assert "\n" not in str(refusal.value)
    assert before == DECOMPOSITIONS


def test_each_law_is_broken_by_some_decomposition_above() -> None:
    broken = set()
    for method in (Greedy(), Shrinking(), Fractional(), Apart(), Unstrided(), LooksTwice(), EndsGrouped(), Wide()):
        broken |= {law for law in laws.LAWS if names(method, law)}
    for other in (Backwards(), Random(), Scribbling(), Worsening()):
        broken |= {law for law in laws.LAWS if names(other, law)}
    assert broken == set(laws.LAWS)


def names(method: Decomposition, law: str) -> bool:
    """Whether some operation shows that a law is broken."""
    kept = laws.LAWS[law]
    try:
        return not all(kept(laws.Example(method, op)) for op in laws.OPERATIONS.values() if method.applies(op))
    except (ValueError, TypeError, ZeroDivisionError):
        return True


def test_a_decomposition_that_keeps_the_laws_is_taken_and_lacking_methods_are_named() -> None:
    register(Good())
    assert DECOMPOSITIONS["mine"] == Good()

    class Half:
        name = "half"

        def applies(self, op: Conv) -> bool:
            return True

    with pytest.raises(LrfError, match="'half' lacks ranks, chain, factorize"):
        register(Half())  # type: ignore[arg-type]

    class OldSpelling(Half):
        name = "old"
        ranks, chain, factorise = Good.ranks, Good.chain, Good.factorize

    with pytest.raises(LrfError, match="'old' lacks factorize: it should have"):
        register(OldSpelling())  # type: ignore[arg-type]


ASKED = """
import lrf_optuna.cli.app
from importlib.metadata import entry_points
import sys
assert "mypackage" not in sys.modules
from lrf_optuna.cli.studies import find_study
from lrf_optuna.config import StudySpec
from lrf_optuna.decompositions.registry import DECOMPOSITIONS, applicable_methods
from lrf_optuna.errors import LrfError
from lrf_optuna.pipeline.check_names import check_names
from lrf_optuna.chains.conv import Conv
assert "sketch" not in DECOMPOSITIONS
try:
    check_names(StudySpec.from_toml(find_study("digits")).override({"search.methods": ("sketch",)}))
    print(*applicable_methods(Conv((3, 3), 8, 8, (1, 1), (1, 1))))
except LrfError as reason:
    print("refused:", reason)
"""


def asked_with(folder: Path, code: str) -> str:
    """What a new process says where a package of this code is installed, with the page's entry point."""
    (folder / "mypackage.py").write_text(code)
    info = folder / "mypackage-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mypackage\nVersion: 1.0\n")
    table = on_page("toml").replace('[project.entry-points."lrf_optuna.decompositions"]', "[lrf_optuna.decompositions]")
    (info / "entry_points.txt").write_text(table.replace('"', ""))
    path = f"import sys; sys.path.insert(0, {str(folder)!r})\n"
    process = subprocess.run([sys.executable, "-c", path + ASKED], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def test_an_entry_point_is_found_when_a_study_first_needs_the_table(tmp_path: Path) -> None:
    said = asked_with(tmp_path, on_page("python").replace("lrf_optuna.register(Sketch())", ""))
    assert said.split()[-1] == "sketch"
    assert said.split()[0] == "intact"


def test_a_module_that_registers_itself_may_be_an_entry_point_too(tmp_path: Path) -> None:
    assert asked_with(tmp_path, on_page("python")).split().count("sketch") == 1


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise RuntimeError('no luck')", "cannot be loaded: RuntimeError('no luck')"),
        ("other = 1", "cannot be loaded: AttributeError"),
        ("Sketch = 3", "plain name"),
        (
            """
            from lrf_optuna.decompositions.base import factorize
            from lrf_optuna.decompositions.registry import DECOMPOSITIONS

            class Sketch:
                name = "sketch"
                svd = DECOMPOSITIONS["channel_svd"]
                applies, ranks, chain = map(staticmethod, (svd.applies, svd.ranks, svd.chain))

                def factorize(self, op, kernel, ranks):
                    return factorize(self.svd, op, kernel, ranks)[::-1]
            """,
            "breaks the law that factorize gives",
        ),
    ],
)
def test_a_broken_plug_in_is_one_line_with_its_name_and_the_law(tmp_path: Path, code: str, words: str) -> None:
    (line,) = asked_with(tmp_path, dedent(code)).splitlines()
    assert line.startswith("refused: plug-in sketch (mypackage:Sketch)")
    assert words in line


def test_a_factorize_of_ones_own_is_used_in_a_fit() -> None:
    op = Conv((), 12, 9, (), ())
    kernel = np.random.default_rng(0).standard_normal((12, 9)).astype(np.float32)

    class Ones(Good):
        def factorize(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> tuple[Array, ...]:
            return np.ones((12, *ranks), np.float32), np.ones((*ranks, 9), np.float32)

    assert isinstance(DECOMPOSITIONS["qr"], PreparedDecomposition)
    assert not isinstance(DECOMPOSITIONS["cp"], PreparedDecomposition)
    assert not isinstance(Ones(), PreparedDecomposition)
    with patch.dict(DECOMPOSITIONS, svd=Ones()):
        composed = chain_of(op, Choice("svd", (1,))).compose(fit(op, Choice("svd", (1,)), kernel, None))
    np.testing.assert_allclose(composed, 1, rtol=1e-5)
