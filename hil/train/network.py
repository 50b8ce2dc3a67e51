"""A small feed-forward network in numpy: trained on the CPU in seconds, the same from the same seed, exported to ONNX.

Rectified units, Huber loss, Adam (Kingma and Ba 2015, arXiv:1412.6980) with a cosine schedule of its step.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array32 = NDArray[np.float32]

HIDDEN: Final = (48, 24)
EPOCHS: Final = 12
BATCH: Final = 2048
STEP: Final = 2e-3
DECAY: Final = 1e-5  # of the weights
_B1, _B2, _TINY = 0.9, 0.999, 1e-8


@dataclass(frozen=True, slots=True)
class Network:
    """What is added to the column `base` of a row; the sum is never below zero."""

    mean: Array32  # of each column, in training
    spread: Array32
    weights: list[Array32]
    biases: list[Array32]
    base: int

    def __call__(self, rows: Array32) -> Array32:
        """(n, features) -> (n,)."""
        found: Array32 = np.maximum(
            0.0, rows[:, self.base] + _forward(self.weights, self.biases, (rows - self.mean) / self.spread)[-1][:, 0]
        )
        return found


def train(rows: Array32, targets: Array32, *, base: int, delta: float, seed: int) -> Network:
    """Fits a network to targets (n,). delta: where the Huber loss goes from square to absolute."""
    random = np.random.default_rng(seed)
    mean, spread = rows.mean(axis=0), rows.std(axis=0) + np.float32(1e-6)
    inputs, wanted = (rows - mean) / spread, targets - rows[:, base]
    sizes = (rows.shape[1], *HIDDEN, 1)
    weights = [(random.standard_normal((a, b)) * np.sqrt(2 / a)).astype(np.float32) for a, b in pairwise(sizes)]
    weights[-1] *= np.float32(0.1)
    biases = [np.zeros(size, np.float32) for size in sizes[1:]]
    parameters = weights + biases
    first, second = [np.zeros_like(p) for p in parameters], [np.zeros_like(p) for p in parameters]
    steps, step = EPOCHS * (len(rows) // BATCH), 0
    for _ in range(EPOCHS):
        order = random.permutation(len(rows))
        for begin in range(0, len(rows) - BATCH + 1, BATCH):
            chosen = order[begin : begin + BATCH]
            step += 1
            rate = STEP * 0.5 * (1 + np.cos(np.pi * step / steps))
            gradients = _gradients(weights, biases, inputs[chosen], wanted[chosen], delta)
            for i, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
                gradient = gradient + DECAY * parameter
                first[i] = _B1 * first[i] + (1 - _B1) * gradient
                second[i] = _B2 * second[i] + (1 - _B2) * gradient * gradient
                moved = first[i] / (1 - _B1**step) / (np.sqrt(second[i] / (1 - _B2**step)) + _TINY)
                parameter -= (rate * moved).astype(np.float32)
    return Network(mean, spread, weights, biases, base)


def _forward(weights: list[Array32], biases: list[Array32], inputs: Array32) -> list[Array32]:
    """The inputs, and each layer's outputs."""
    found = [inputs]
    for number, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
        summed = found[-1] @ weight + bias
        found.append(np.maximum(summed, 0) if number < len(weights) else summed)
    return found


def _gradients(
    weights: list[Array32], biases: list[Array32], inputs: Array32, wanted: Array32, delta: float
) -> list[Array32]:
    """Of the mean loss by each weight matrix, then by each bias."""
    layers = _forward(weights, biases, inputs)
    back = np.clip((layers[-1][:, 0] - wanted) / delta, -1, 1)[:, None].astype(np.float32) / len(inputs)
    of_weights: list[Array32] = []
    of_biases: list[Array32] = []
    for layer in reversed(range(len(weights))):
        of_weights.insert(0, layers[layer].T @ back)
        of_biases.insert(0, back.sum(axis=0))
        if layer:
            back = (back @ weights[layer].T) * (layers[layer] > 0)
    return of_weights + of_biases
