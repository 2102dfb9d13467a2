"""What to do where training takes more memory than there is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

from lrf_optuna.errors import LrfError


@contextmanager
def enough_memory(work: str, remedy: str) -> Iterator[None]:
    """Raises LrfError, with what to give, where there is not enough memory for the work of the block."""
    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError):
        raise LrfError(f"there is not enough memory for {work}: give {remedy}") from None
