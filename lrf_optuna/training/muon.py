"""Muon: the optimizer that trains the stages of chains; all other variables are trained by Adam.

A chain is a product of stages, so a gradient of one stage is large along the directions in which the other stages are
large. A step along the orthogonal factor of the gradient's average has the same length in all directions, so it needs
no rate of its own for each stage (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks").
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from lrf_optuna.models.layer_kinds import walk_layers

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of x, x^3 and x^5 in the iteration of Jordan et al. (2024), which bring singular values close to 1."""
ITERATIONS = 5
"""Iterations of the quintic, as in Jordan et al. (2024): singular values are between .7 and 1.2 then."""
STEP_SIZE = 0.2
"""Root mean square of a step at rate 1, as Adam's steps have it (Liu et al. 2025, arXiv 2502.16982, section 2.2)."""
LONGEST_SHORT_SIDE = 256
"""The shorter side of a kernel at most. By multiplications the iterations cost 10 sides / (3 images) times the rest of
a Dense layer's step, seven times it at 256 and 128 images. A convolution has many positions for each image."""
TRAINED_CONVOLUTIONS = (
    *(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D),
    *(keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose),
)


class Muon(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Muon for the kernels `matrices`, each flattened to a matrix (all axes but the last, last); Adam for the others.

    `momentum`: of Muon, with Nesterov's correction; `beta_1`, `beta_2`, `epsilon`: of Adam. Further keywords, such as
    `weight_decay`, are those of Keras' optimizers.
    """

    def __init__(
        self,
        learning_rate: Any,
        matrices: list[Any],
        *,
        momentum: float = 0.95,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **settings: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **settings)
        self.matrix_ids = {id(variable) for variable in matrices}
        self.momentum, self.beta_1, self.beta_2, self.epsilon = momentum, beta_1, beta_2, epsilon

    def build(self, variables: list[Any]) -> None:
        """Averages of all gradients, and of their squares where Adam trains."""
        if self.built:
            return
        super().build(variables)
        first, second = ("average", "average_square")
        self.averages = [self.add_variable_from_reference(one, first) for one in variables]
        self.squares = [
            None if id(one) in self.matrix_ids else self.add_variable_from_reference(one, second) for one in variables
        ]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Change a variable by one step."""
        index = self._get_variable_index(variable)
        average, square = self.averages[index], self.squares[index]
        rate, gradient = ops.cast(learning_rate, variable.dtype), ops.cast(gradient, variable.dtype)
        if square is None:
            average.assign(self.momentum * average + gradient)
            step = scaled_orthogonal(gradient + self.momentum * average)
        else:
            step = self.adam_step(average, square, gradient)
        variable.assign(variable - rate * step)

    def adam_step(self, average: Any, square: Any, gradient: Any) -> Any:
        """Adam's step at rate 1 (Kingma and Ba 2015, algorithm 1)."""
        average.assign(self.beta_1 * average + (1 - self.beta_1) * gradient)
        square.assign(self.beta_2 * square + (1 - self.beta_2) * ops.square(gradient))
        count = ops.cast(self.iterations + 1, gradient.dtype)
        first, second = (1 - ops.power(ops.cast(beta, count.dtype), count) for beta in (self.beta_1, self.beta_2))
        return average / first / (ops.sqrt(square / second) + self.epsilon)


def scaled_orthogonal(kernel: Any) -> Any:
    """The orthogonal factor of a kernel flattened to a matrix, with a root mean square of about `STEP_SIZE`."""
    matrix = ops.reshape(kernel, (-1, kernel.shape[-1]))
    rows, columns = matrix.shape
    x = ops.transpose(matrix) if rows > columns else matrix
    x = x / (ops.norm(x) + 1e-7)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        gram = ops.matmul(x, ops.transpose(x))
        x = a * x + ops.matmul(b * gram + c * ops.matmul(gram, gram), x)
    found = ops.transpose(x) if rows > columns else x
    return ops.reshape(STEP_SIZE * max(rows, columns) ** 0.5 * found, kernel.shape)


def matrices_of(model: Any) -> list[Any]:
    """The trainable kernels of Dense layers and of convolutions without groups that Muon can train."""
    kernels = [layer.kernel for _, layer in walk_layers(model) if is_matrix(layer)]
    return [one for one in kernels if one.trainable and 1 < shorter_side(one) <= LONGEST_SHORT_SIDE]


def is_matrix(layer: Any) -> bool:
    """Whether a layer multiplies its inputs, or windows of them, by one matrix."""
    dense = isinstance(layer, keras.layers.Dense)
    return dense or (isinstance(layer, TRAINED_CONVOLUTIONS) and getattr(layer, "groups", 1) == 1)


def shorter_side(kernel: Any) -> int:
    """The shorter side of a kernel flattened to a matrix."""
    last = int(kernel.shape[-1])
    return min(last, int(ops.size(kernel)) // last)
