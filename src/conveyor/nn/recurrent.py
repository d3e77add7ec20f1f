"""What the recurrent layers share: their options and parameters, and the run of layers and directions."""

from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from conveyor import ops
from conveyor.equations import Gates
from conveyor.nn import checks, noise, packing, parameters
from conveyor.nn.precision import brought, precision
from conveyor.variant import Variant

Lengths: TypeAlias = Tensor | list[int] | int | None
States: TypeAlias = dict[str, Tensor | None]
"""The initial states by the names that error texts give them, h_0 and for the LSTM c_0; None is zero."""


class Run(NamedTuple):
    """What a network gives, in the layout of its input: final states as many as initial ones, gates if asked for."""

    output: Tensor
    states: list[Tensor]
    gates: list[Gates]


class Recurrent(nn.Module):
    """The parameters of a recurrent network of `gates` gates, and its run; subclasses bring the cell."""

    def __init__(
        self, gates: int, input_size: int, hidden_size: int, num_layers: int, bias: bool, batch_first: bool,
        dropout: float, bidirectional: bool, proj_size: int, checkpoint_every: int,
        device: torch.device | str | None, dtype: torch.dtype | None, variant: Variant | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        checks.sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        checks.sizes(checkpoint_every=checkpoint_every)
        checks.dtype(dtype)
        checks.projection(proj_size, hidden_size)
        checks.flags(bias=bias, batch_first=batch_first, bidirectional=bidirectional)
        checks.dropout(dropout, num_layers)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self.checkpoint_every = checkpoint_every
        self._directions = D = 2 if bidirectional else 1
        self._variant = variant
        self._variants = None if variant is None else (variant.in_evaluation, variant)  # by self.training
        self._weights = parameters.layers(gates, input_size, hidden_size, proj_size, bias, num_layers, D, variant)
        for part in self._weights:
            parameters.register(self, part, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every parameter from U(-1/√H, 1/√H), in torch's order: the same seed gives torch's numbers."""
        parameters.reset(self, self.hidden_size)

    def flatten_parameters(self) -> None:
        """Do nothing: the kernels pack the weights themselves. Programs written for torch call it."""

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters of each layer and direction, in torch's order."""
        return [parameters.at_hand(self, part) for part in self._weights]

    def _run(
        self, cell: str, input: Tensor | PackedSequence, states: States, lengths: Lengths, resets: Tensor | None,
        gates: bool = False,
    ) -> tuple[Tensor | PackedSequence, Run]:  # fmt: skip
        """The output as the input came, padded or packed, and the run."""
        if not gates and self._variant is None and self.checkpoint_every == 1 and ops.unobserved():
            plain = self._plain(cell, input, states, lengths, resets)
            if plain is not None:
                return plain.output, plain
        if not isinstance(input, PackedSequence):
            run = self._padded(cell, input, states, lengths, resets, gates, self.batch_first)
            return run.output, run
        batch = checks.packed(self._get_name(), input, self.input_size, lengths, states["h_0"])
        x, lengths, places = packing.padded(input, batch)
        run = self._padded(cell, x, states, lengths, resets, gates, False)
        return packing.repacked(run.output, places, input), run

    def _plain(self, cell: str, input: Any, states: States, lengths: Lengths, resets: Tensor | None) -> Run | None:
        """The run of a call that needs neither checks nor changes but of its layout, past all of them; else None."""
        D, L, H, P = self._directions, self.num_layers, self.hidden_size, self.proj_size or self.hidden_size
        given = [state for state in states.values() if state is not None]
        # Those that are computed, by parametrizations, are so once a call: not here. No layer above the first may be
        # declined: what is dropped out below it would be drawn again.
        weights = [[self._parameters.get(of.name) for of in part] for part in self._weights]
        if len(weights) != D * L or not all(map(_is_plain, (input, *given))):
            return None
        if not all(_fit(own, part) for own, part in zip(weights, self._weights, strict=True)):
            return None
        if L > 1 and any(len(state) != L * D for state in given):
            return None
        if resets is not None and (type(resets) is not Tensor or resets.dim() != 2):
            return None
        lengths = None if lengths is None else checks.lengths(self._get_name(), lengths)
        resets = None if resets is None else _steps_first(resets, False, self.batch_first)
        x, I, first = _steps_first(input, False, self.batch_first), self.input_size, [*states.values()]
        last: list[list[Tensor]] = []
        for layer in range(L):
            here = slice(layer * D, (layer + 1) * D)
            if L > 1:
                first = [None if state is None else state[here] for state in states.values()]
            x = self._between(x) if layer else x
            own: list[Any] = [w for part in weights[here] for w in part]
            done = ops.plain(cell, (D, I, H, P), x, *first, weights=own, lengths=lengths, resets=resets)
            if done is None:
                return None
            x, *ends = done
            last.append(ends)
            I = D * P
        ends = last[0] if L == 1 else [torch.cat(parts) for parts in zip(*last, strict=True)]
        return Run(_as_given(x, False, self.batch_first), ends, [])

    def _padded(
        self, cell: str, input: Tensor, states: States, lengths: Lengths, resets: Tensor | None, gates: bool,
        batch_first: bool,
    ) -> Run:  # fmt: skip
        """Bring the input to [T, B, I], run the layers, and bring the results back to its layout."""
        weights = self.all_weights
        lengths = None if lengths is None else checks.lengths(self._get_name(), lengths)
        if not checks.tracing():
            self._check(input, states, lengths, resets, weights, batch_first)
        single = input.dim() == 2
        x = _steps_first(input, single, batch_first)
        resets = None if resets is None else _steps_first(resets, single, batch_first)
        lengths = None if lengths is None else lengths.to(x.device, torch.int64).reshape(-1)
        layers = self._stack(cell, x, states, weights, lengths=lengths, resets=resets, gates=gates)
        output = _as_given(layers[-1].output, single, batch_first)
        last = [_final(layers, state, single) for state in ("h_n", "c_n")[: len(states)]]
        shown = [gate for layer in layers for gate in _gates(layer, single, batch_first)] if gates else []
        return Run(output, last, shown)

    def _check(
        self, input: Tensor, states: States, lengths: Tensor | None, resets: Tensor | None,
        weights: list[list[Tensor]], batch_first: bool,
    ) -> None:  # fmt: skip
        where, like = self._get_name(), weights[0][0]
        checks.input(where, input, self.input_size, batch_first, like)
        batch = () if input.dim() == 2 else (input.shape[0 if batch_first else 1],)
        for name, state in states.items():
            if state is not None:
                size, symbol = self._features(name)
                symbols = f"[L*D, B, {symbol}]" if batch else f"[L*D, {symbol}]"
                checks.tensor(where, name, state, (len(weights), *batch, size), symbols, like)
        if lengths is not None:
            checks.shape(where, "lengths", lengths, batch, "[B]" if batch else "one number, a tensor []")
            checks.within(where, lengths, input.shape[1 if batch and batch_first else 0], like)
        if resets is not None:
            symbols = "[T]" if not batch else "[B, T]" if batch_first else "[T, B]"
            checks.resets(where, resets, input.shape[:-1], symbols, like)
        for part, tensors in zip(self._weights, weights, strict=True):
            checks.weights(where, part, tensors, like)

    def _features(self, state: str) -> tuple[int, str]:
        """How many a state has, and their symbol."""
        H, P, seen = self.hidden_size, self.proj_size, self._seen
        if state != "h_0":
            return H, "H"
        return (P or H) + seen, f"{'P' if P else 'H'}{f' + {seen // H}H' if seen else ''}"

    @property
    def _seen(self) -> int:
        """How many values of gates the state holds behind h."""
        return self._variant.seen(self.hidden_size) if self._variant else 0

    def _stack(
        self, cell: str, x: Tensor, states: States, weights: list[list[Tensor]], **options: Any
    ) -> list[ops.Layer]:
        """Each layer over the output of the one below it."""
        D, L, dtype = self._directions, self.num_layers, precision(weights[0][0])
        x = brought(x, dtype)
        h_0, c_0 = self._first(x, states)
        layers: list[ops.Layer] = []
        for layer in range(L):
            x = self._between(x) if layer else x
            here = slice(layer * D, (layer + 1) * D)
            part = [parameters.named(tensors, self.bias, self._variant) for tensors in weights[here]]
            if self._variants:
                variant = self._variants[self.training]
                options["noise"] = noise.draw(variant, x, D, self.hidden_size, self.training)
                part = [noise.dropped(w, variant.weight_dropout) if variant.weight_dropout else w for w in part]
            h, c = (h_0, c_0) if L == 1 else (h_0[here], None if c_0 is None else c_0[here])
            layers.append(ops.layer(cell, x, h, c, part, every=self.checkpoint_every, **options))
            x = layers[-1].output
        return layers

    def _between(self, x: Tensor) -> Tensor:
        """What a layer reads of the output of the one below it."""
        return functional.dropout(x, self.dropout) if self.training and self.dropout else x

    def _first(self, x: Tensor, states: States) -> tuple[Tensor, Tensor | None]:
        """The initial states h_0 [L*D, B, P or H] and c_0 [L*D, B, H], of the dtype of x [T, B, I]."""
        H, of_h, of_c = self.hidden_size, states["h_0"], states.get("c_0")
        R = (self.proj_size or H) + self._seen
        h_0 = self._zeros(x, R) if of_h is None else _layered(of_h, x.dtype)
        if "c_0" not in states or (of_c is None and of_h is None and R == H):  # the same zeros
            return h_0, h_0 if "c_0" in states else None
        return h_0, self._zeros(x, H) if of_c is None else _layered(of_c, x.dtype)

    def _zeros(self, x: Tensor, size: int) -> Tensor:
        return x.new_zeros(len(self._weights), x.shape[1], size)

    def extra_repr(self) -> str:
        """The sizes, and what is not as usual; as torch shows it."""
        usual = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0,
                 "bidirectional": False, "checkpoint_every": 1}  # fmt: skip
        unusual = [f", {name}={getattr(self, name)}" for name in usual if getattr(self, name) != usual[name]]
        return f"{self.input_size}, {self.hidden_size}{''.join(unusual)}"


def _is_plain(t: Any) -> bool:
    return (
        type(t) is Tensor
        and t.dtype is torch.float32
        and t.layout is torch.strided
        and not (t.is_nested or t.is_neg())
        and t.dim() == 3
    )


def _fit(weights: list[Any], part: list[parameters.Weight]) -> bool:
    """Whether a layer's weights of one direction are all there, as the kernels take them."""
    return all(
        type(w) in (nn.Parameter, Tensor)
        and w.dtype is torch.float32
        and w.layout is torch.strided
        and w.shape == of.shape
        and w.is_cpu
        and w.is_contiguous()
        and not w.is_neg()
        for w, of in zip(weights, part, strict=True)
    )


def _steps_first(t: Tensor, single: bool, batch_first: bool) -> Tensor:
    return t.unsqueeze(1) if single else t.transpose(0, 1) if batch_first else t


def _layered(state: Tensor, dtype: torch.dtype) -> Tensor:
    """[L*D, B, ·], of a single sequence [L*D, ·]."""
    return brought(state if state.dim() == 3 else state.unsqueeze(1), dtype)


def _as_given(t: Tensor, single: bool, batch_first: bool) -> Tensor:
    return t.squeeze(1) if single else t.transpose(0, 1) if batch_first else t


def _final(layers: list[ops.Layer], name: str, single: bool) -> Tensor:
    states: list[Tensor] = [getattr(layer, name) for layer in layers]
    state = torch.cat(states) if len(states) > 1 else states[0]
    return state.squeeze(1) if single else state


def _gates(layer: ops.Layer, single: bool, batch_first: bool) -> list[Gates]:
    """Of each direction, as views of what the layer kept: gates [D, T, B, 4, H] and cells [D, T, B, H]."""
    return [
        Gates(*(_as_given(gate, single, batch_first) for gate in (*gates.unbind(2)[:4], cells)))
        for gates, cells in zip(layer.gates, layer.cells, strict=True)
    ]
