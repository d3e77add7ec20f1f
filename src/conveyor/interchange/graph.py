"""A network as nodes, each of the outputs of earlier ones: what the runtime computes, and what is written as ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Kind = Literal["relu", "tanh", "sigmoid", "softmax", "log_softmax"]
Pool = Literal["mean", "max", "ends"]
MATRICES = ("weight", "w_ih", "w_hh", "w_hr")
"""Arrays that are held in fewer bits if asked for."""


@dataclass
class Node:
    """op: "embedding", "linear", "recurrent", "norm", "scale", "activation", "add", "concat" or "pool"; of: the nodes
    it reads, of which 0 is the input; fields: what else it says; arrays: its weights, of a recurrent node a set a
    direction."""

    op: str
    of: tuple[int, ...]
    width: int
    fields: dict[str, Any] = field(default_factory=dict)
    arrays: list[dict[str, np.ndarray]] = field(default_factory=list)


class Graph:
    """A network that reads `tokens`, whole numbers below it, or rows of `features` numbers.

    Every method adds a node that reads node x, and gives its number. The last node is the output. Weights are float32:

        embedding  [tokens, E]      linear  y = W x + b, W [N, K]       norm   over the features, w (x - μ)/σ + b
        scale      y = w x + b      add     the sum of several          concat several behind one another
        recurrent  `cell` as the kernels know it: a set of w_ih [G H, I], w_hh [G H, R], b_ih, b_hh, w_hr, vectors for
                   one direction or both; R is P, or of gate recurrence P and the gates

    >>> graph = Graph(features=3)
    >>> graph.linear(0, np.ones((2, 3), np.float32))
    1
    >>> graph.nodes[1].width
    2
    """

    def __init__(
        self, *, tokens: int = 0, features: int = 0, task: str = "", facts: Mapping[str, Any] | None = None
    ) -> None:
        self.tokens, self.features, self.task, self.facts = tokens, features, task, dict(facts or {})
        self.nodes = [Node("input", (), 1 if tokens else features)]

    def embedding(self, table: np.ndarray) -> int:
        """The row of each token."""
        return self._add("embedding", (0,), table.shape[1], {}, [{"weight": table}])

    def linear(self, x: int, weight: np.ndarray, bias: np.ndarray | None = None) -> int:
        """W x + b."""
        arrays = {"weight": weight} | ({} if bias is None else {"bias": bias})
        return self._add("linear", (x,), len(weight), {}, [arrays])

    def recurrent(
        self, x: int, cell: str, directions: Sequence[Mapping[str, np.ndarray]], hidden_size: int,
        options: Sequence[float] = (), rates: Sequence[float] = (), reverse: bool = False, variant: Any = None,
    ) -> int:  # fmt: skip
        """A recurrent layer, one direction or both; `variant` is a `conveyor.Variant` where the cell is one."""
        size = len(directions[0]["w_hr"]) if "w_hr" in directions[0] else hidden_size
        fields = {
            "cell": cell, "options": [*options], "rates": [*rates], "reverse": reverse, "hidden_size": hidden_size,
            "variant": variant,
        }  # fmt: skip
        return self._add("recurrent", (x,), size * len(directions), fields, [dict(one) for one in directions])

    def norm(self, x: int, weight: np.ndarray, bias: np.ndarray) -> int:
        """Mean 0 and deviation 1 over the features, with ε = 1e-5, then w y + b."""
        return self._add("norm", (x,), len(weight), {}, [{"weight": weight, "bias": bias}])

    def scale(self, x: int, weight: np.ndarray, bias: np.ndarray) -> int:
        """w x + b, a number of each a feature."""
        return self._add("scale", (x,), len(weight), {}, [{"weight": weight, "bias": bias}])

    def activation(self, x: int, kind: Kind) -> int:
        """What it is called."""
        return self._add("activation", (x,), self.nodes[x].width, {"kind": kind})

    def pool(self, x: int, kind: Pool) -> int:
        """Of all steps so far: their mean, the largest of each feature, or of two directions the output where each
        ended; what is wanted stands at the last step."""
        return self._add("pool", (x,), self.nodes[x].width, {"kind": kind})

    def add(self, *x: int) -> int:
        """The sum of nodes of one width."""
        return self._add("add", x, self.nodes[x[0]].width)

    def concat(self, *x: int) -> int:
        """Nodes behind one another."""
        return self._add("concat", x, sum(self.nodes[one].width for one in x))

    @property
    def streams(self) -> bool:
        """Whether it can be read a step at a time."""
        return all(
            len(node.arrays) == 1 and not node.fields["reverse"] for node in self.nodes if node.op == "recurrent"
        )

    def _add(
        self, op: str, of: tuple[int, ...], width: int, fields: dict[str, Any] | None = None,
        arrays: Sequence[dict[str, np.ndarray]] = (),
    ) -> int:  # fmt: skip
        own = [{name: np.ascontiguousarray(array, np.float32) for name, array in one.items()} for one in arrays]
        self.nodes.append(Node(op, of, width, fields or {}, own))
        return len(self.nodes) - 1
