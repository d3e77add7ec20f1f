"""Protein structure: helix, strand or coil for each residue, from a protein's sequence and the profiles of its family.

The task, as in D. T. Jones 1999 (PSIPRED), A. Drozdetskiy et al. 2015 (JPred4, doi 10.1093/nar/gkv332) and R. Heffernan
et al. 2017 (SPIDER3, a bidirectional LSTM): give each residue one of three states (helix H, strand E, coil C), and
one of eight (DSSP's H G I E B T S, and C). What stands at its place in related proteins tells most of it; so profiles
of the family (PSI-BLAST, HHblits, HMMER) are read where they are there. `conveyor.data.proteins` says from which files.

    conveyor train protein-structure --data proteins.fasta
    conveyor evaluate runs/protein-structure/TIME
    conveyor predict runs/protein-structure/TIME new.fasta -o new.csv

JPred4's set, 1,348 chains to train, 149 blind ones (upstream's 150 without d3arcz_, as published):

    conveyor train protein-structure --data jpred --seeds 5

comes to q3 84.8 on the blind chains (84.65 to 84.93 over five seeds), and the ensemble of the five to 85.0; a network
takes three to five minutes on one core. JPred4 itself reports 82.0.

Scores: `loss`, cross-entropy of three states in nats a residue; `q3`, per cent of residues whose state of three is
right, over all residues; `q3_chain`, the mean of that over chains; `q8`, as q3 of eight states, over the residues of
chains that have them; `sov99`, the mean over chains of the segment overlap of Zemla et al. 1999. JPred takes H alone as
helix, E and B as strand (G and I are coil), which is how its labels of three states come; most others count H, G
and I as helix, as --helices does where the data have eight states alone. Scores of the two are not to be compared.

Chains to validate and test on are drawn at random where the data do not name them. Relatives in both make scores look
better than they are: reduce the redundancy of your own chains first, below 25 or 30 per cent identity.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from conveyor.data import profiles, proteins
from conveyor.data.batches import Batches, pad
from conveyor.data.proteins import EIGHT, RESIDUES, THREE, UNKNOWN, Chain
from conveyor.data.records import BadRecords
from conveyor.data.streams import IGNORE
from conveyor.data.structures import Structure, written
from conveyor.errors import ConveyorError
from conveyor.interchange import modules
from conveyor.interchange.graph import Graph
from conveyor.nn import LSTM
from conveyor.training import files, scoring
from conveyor.training import structure_picture as picture
from conveyor.training.options import (
    Count,
    Depth,
    NotNegative,
    ReadingOptions,
    Share,
    Size,
    TrainingOptions,
    VariantName,
    Whole,
    check,
)
from conveyor.training.segment_overlap import sum_over_chains
from conveyor.training.task import Data, Model, Outcome, Smoke, Steps, Sums

UNIT = "residues"
ENDINGS: tuple[str, ...] = (".csv", ".json", ".ss3", ".ss", ".ss8", ".fasta", ".fa", ".txt")
TRAINING: dict[str, Any] = {
    "batch_size": 16,
    "epochs": 9,
    "learning_rate": 0.004,
    "schedule": "cosine",
    "weight_decay": 0.05,
    "average": "ema",
    "average_decay": 0.98,
}
"""Defaults of the options of training that are not those of every task."""
CENTRES = {"pssm": 0.0, "hhm": 0.1, "hmm": 0.1, "jnet": 0.3}
SPREADS = {"pssm": 2.5, "hhm": 0.25, "hmm": 0.25, "jnet": 0.3}
"""What a profile's numbers are about, and how far from it: the network gets them as about 0 ± 1."""


@dataclass(kw_only=True)
class Config:
    """Train a predictor of secondary structure."""

    profiles: Literal["given", "none"] = "given"
    """Read the profiles that every chain has beside it, or the sequence alone."""
    helices: Literal["HGI", "H"] = "HGI"
    """Which of the eight states are helix among the three, where only eight are given; E and B are strand."""
    hidden_size: Size = 128
    """Units in a layer and direction."""
    layers: Depth = 2
    """Layers, one upon the other, each reading from both ends."""
    variant: VariantName = "lstm"
    """Which LSTM: a name in `conveyor.VARIANTS` (docs/variants.md)."""
    convolutions: Whole = 2
    """Convolutions in front of the layers; 0 for none."""
    window: Count = 7
    """Residues that a convolution sees at once."""
    filters: Size = 96
    """Numbers a residue that come out of a convolution."""
    dropout_input: Share = 0.25
    """Share of the input's numbers dropped."""
    dropout_between: Share = 0.5
    """Share dropped between layers, and behind the convolutions."""
    dropout_output: Share = 0.5
    """Share dropped before the output."""
    profile_noise: NotNegative = 0.3
    """Standard deviation of the noise added in training to the profiles, which are about 0 ± 1."""
    eight_weight: NotNegative = 0.5
    """Weight of the loss of eight states, where they are given, beside that of three."""
    label_smoothing: Share = 0.0
    """Share of each label spread over all states in training."""
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    training: TrainingOptions = field(default_factory=lambda: TrainingOptions(**TRAINING))

    def __post_init__(self) -> None:
        check(self, self._conflicts)

    def _conflicts(self) -> Iterator[str]:
        if self.window % 2 == 0:
            yield f"--window: expected an odd number of residues, as many to both sides, got {self.window}"


# Reading


class Batch(NamedTuple):
    """Chains side by side; behind a chain's end x is zero and the labels are IGNORE, as where they are not known."""

    x: Tensor  # [T, B, F]
    lengths: Tensor  # [B]
    ss3: Tensor  # [T, B]
    ss8: Tensor  # [T, B]


class Collate:
    """Makes batches of chains."""

    def __init__(self, chains: Sequence[Chain], facts: dict[str, Any]) -> None:
        self.chains, self.kinds = chains, kinds_of(facts)

    def __call__(self, rows: np.ndarray | Sequence[int]) -> Batch:
        chains = [self.chains[n] for n in rows]
        x = pad([features(chain, self.kinds) for chain in chains])
        ss3, ss8 = (
            pad([labels(getattr(chain, kind), states, len(chain.sequence)) for chain in chains], IGNORE)
            for kind, states in (("ss3", THREE), ("ss8", EIGHT))
        )
        lengths = torch.tensor([len(chain.sequence) for chain in chains])
        return Batch(torch.from_numpy(x), lengths, torch.from_numpy(ss3), torch.from_numpy(ss8))


def features(chain: Chain, kinds: Sequence[str]) -> np.ndarray:
    """[T, F]: which residue it is, and its profiles."""
    one_hot = np.eye(len(RESIDUES), dtype=np.float32)[[RESIDUES.index(letter) for letter in chain.sequence]]
    return np.hstack([one_hot, *((chain.profiles[kind] - CENTRES[kind]) / SPREADS[kind] for kind in kinds)])


def check_profiles(chain: Chain, kinds: Sequence[str]) -> None:
    """Raise if the chain has not all that the network reads."""
    missing = [kind for kind in kinds if kind not in chain.profiles]
    if missing:
        raise ConveyorError(
            f"[proteins] {chain.where}: {chain.name}: expected the profiles {', '.join(kinds)}, but there is no "
            f"{', '.join(missing)}; put it beside the FASTA file under the chain's name, or train with --profiles none"
        )


def labels(structure: str, states: str, length: int) -> np.ndarray:
    """[T]: numbers of states, IGNORE where nothing is known."""
    numbers = {state: number for number, state in enumerate(states)}
    return np.array([numbers.get(state, IGNORE) for state in structure or UNKNOWN * length])


def kinds_of(facts: dict[str, Any]) -> list[str]:
    """The kinds of profile that the network reads."""
    kinds = facts.get("profiles")
    if not isinstance(kinds, list) or not all(str(kind) in profiles.WIDTHS for kind in kinds):
        raise ConveyorError(f"[bundle] profiles: expected a list of {', '.join(profiles.WIDTHS)}, got {kinds!r}")
    return kinds


def read(config: Config, facts: dict[str, Any] | None = None) -> Data:
    """Read the chains and split them; the profiles to read are those that all have, or those of `facts`."""
    bad = BadRecords(config.reading.skip_bad)
    if not config.reading.data:
        raise ConveyorError("[data] no chains to learn from; give --data a FASTA file, a folder of them, or jpred")
    kinds, chains = read_chains(config, config.reading.data, bad, facts)
    parts = proteins.split(chains, config.reading.valid_share, config.reading.test_share)
    parts = {name: part[: config.reading.limit] for name, part in parts.items()}
    chains = [chain for part in parts.values() for chain in part]
    digest = proteins.digest(chains)
    if facts is None:
        facts = {"profiles": kinds, "eight": any(chain.ss8 for chain in parts["train"]), "sha256": digest}
    elif facts.get("sha256") != digest:
        raise ConveyorError("[data] the chains are not those this run was trained on; restore them, or start a new run")
    train, valid, test = (
        batches(config, part, facts, config.training.seed if name == "train" else None) for name, part in parts.items()
    )
    count = " + ".join(f"{len(part):,}" for part in parts.values())
    residues = sum(len(chain.sequence) for chain in chains)
    seen = ", ".join(["sequence", *kinds])
    summary = f"{count} chains to train, validate, test; {residues:,} residues; reading {seen}{bad.summary()}"
    return Data(train, valid, test, facts, summary)


def read_test(config: Config, facts: dict[str, Any], data: Sequence[str], bad: BadRecords) -> Batches:
    """Other chains, or those to test on where the data say which these are."""
    _, chains = read_chains(config, data, bad, facts)
    return batches(config, [chain for chain in chains if chain.part == "test"] or chains, facts)


def read_chains(
    config: Config, data: Sequence[str], bad: BadRecords, facts: dict[str, Any] | None
) -> tuple[list[str], list[Chain]]:
    """The kinds of profile there are, and the chains, with their structure in three states at least."""
    chains, known = proteins.read([Path(path) for path in data], bad), []
    kinds = [kind for kind in profiles.WIDTHS if any(kind in chain.profiles for chain in chains)]
    kinds = kinds_of(facts) if facts else kinds if config.profiles == "given" else []
    for chain in chains:
        with bad.record():
            if not chain.ss3 + chain.ss8:
                raise ConveyorError(
                    f"[proteins] {chain.where}: {chain.name}: no structure to learn from; put it beside the sequences, "
                    "in a file of the same name that ends in .ss"
                )
            check_profiles(chain, kinds)
            chain.ss3 = chain.ss3 or proteins.three_of(chain.ss8, config.helices)
            known.append(chain)
    return kinds, known


def batches(config: Config, chains: list[Chain], facts: dict[str, Any], seed: int | None = None) -> Batches:
    """Chains of like length side by side."""
    collate = Collate(chains, facts)
    return Batches([len(chain.sequence) for chain in chains], config.training.batch_size, collate, seed)


# Network and loss


class Network(nn.Module):
    """Bidirectional LSTM layers, perhaps behind a convolution, and an output for three states and one for eight."""

    def __init__(self, config: Config, facts: dict[str, Any]) -> None:
        super().__init__()
        kinds, H = kinds_of(facts), config.hidden_size
        size = len(RESIDUES) + sum(profiles.WIDTHS[kind] for kind in kinds)
        self.noise = config.profile_noise
        self.dropout_input = nn.Dropout(config.dropout_input)
        self.dropout_between = nn.Dropout(config.dropout_between)
        widths = [size] + [config.filters] * config.convolutions
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, config.window, padding="same") for before, after in pairwise(widths)
        )
        dropout = config.dropout_between if config.layers > 1 else 0.0
        size += config.filters if config.convolutions else 0
        self.lstm = LSTM(size, H, config.layers, dropout=dropout, bidirectional=True, variant=config.variant)
        self.dropout_output = nn.Dropout(config.dropout_output)
        self.three = nn.Linear(2 * H, len(THREE))
        self.eight = nn.Linear(2 * H, len(EIGHT)) if facts.get("eight") else None

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None]:
        """Chains [T, B, F] of `lengths` [B] to logits [T, B, 3] and [T, B, 8], or None without eight states."""
        x = self.dropout_input(self.disturbed(x, lengths) if self.training and self.noise else x)
        if self.convolutions:
            x = torch.cat([x, self.dropout_between(self.convolved(x, lengths))], -1)
        hidden = self.dropout_output(self.lstm(x, lengths=lengths)[0])
        return self.three(hidden), None if self.eight is None else self.eight(hidden)

    def disturbed(self, x: Tensor, lengths: Tensor) -> Tensor:
        """With noise on the profiles."""
        noise = self.noise * torch.randn_like(x)
        noise[..., : len(RESIDUES)] = 0
        return (x + noise) * self.within(x, lengths).t().unsqueeze(-1)

    def within(self, x: Tensor, lengths: Tensor) -> Tensor:
        """[B, T]: which places of x [T, B, F] are in a chain."""
        return torch.arange(len(x), device=x.device) < lengths.unsqueeze(1)

    def convolved(self, x: Tensor, lengths: Tensor) -> Tensor:
        """[T, B, filters]; behind its end a chain is zero for each convolution, as if it stood alone."""
        within = self.within(x, lengths).unsqueeze(1)
        x = x.permute(1, 2, 0)
        for convolution in self.convolutions:
            x = convolution(x).relu() * within
        return x.permute(2, 0, 1)


def graph(model: Model) -> Graph:
    """One-hot residues and profiles, as the network takes them, to logits of three states and of eight behind them."""
    network = modules.expect(model.network, Network)
    if network.convolutions:
        raise ConveyorError("[export] expected a run without --convolutions: there are no nodes for them")
    graph = Graph(features=network.lstm.input_size)
    x = modules.recurrent(graph, 0, network.lstm)
    three = modules.linear(graph, x, network.three)
    if network.eight is not None:
        graph.concat(three, modules.linear(graph, x, network.eight))
    return graph


class Ensemble(nn.Module):
    """Several networks as one: logarithms of the means of their probabilities."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None]:
        """As a network's."""
        three, eight = zip(*(network(x, lengths) for network in self.networks), strict=True)
        return mean_log(three), None if eight[0] is None else mean_log(eight)


def mean_log(logits: Sequence[Tensor]) -> Tensor:
    """The logarithm of the mean of the probabilities."""
    return torch.stack([part.log_softmax(-1) for part in logits]).logsumexp(0) - math.log(len(logits))


def network(config: Config, facts: dict[str, Any]) -> Network:
    """The untrained network."""
    return Network(config, facts)


def ensemble(networks: Sequence[nn.Module]) -> Ensemble:
    """Several trained networks as one."""
    return Ensemble(networks)


def loss(config: Config, network: nn.Module, batch: Batch, carried: None) -> Outcome:
    """Cross-entropies of both outputs, and what there is to count."""
    three, eight = network(batch.x, batch.lengths)
    smoothing = config.label_smoothing if network.training else 0.0
    known = int((batch.ss3 != IGNORE).sum())
    total = nats(three, batch.ss3, smoothing)
    sums: Sums = {"nats": nats(three.detach(), batch.ss3).double(), "residues": known}
    sums |= counts(three.detach(), batch.ss3)
    if eight is not None:
        total = total + config.eight_weight * nats(eight, batch.ss8, smoothing)
        known8 = batch.ss8 != IGNORE
        sums |= {"right8": ((eight.detach().argmax(-1) == batch.ss8) & known8).sum(), "known8": known8.sum()}
    if not network.training:  # too slow for every step
        sums["sov"] = sum_over_chains(three.argmax(-1), batch.ss3, batch.lengths, THREE)
    return Outcome(total / max(known, 1), known, sums)


def nats(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """The sum of -log p over what is known."""
    return cross_entropy(
        logits.flatten(0, 1), target.flatten(), ignore_index=IGNORE, reduction="sum", label_smoothing=smoothing
    )


def counts(logits: Tensor, target: Tensor) -> Sums:
    """True against predicted states [3, 3], and sums over chains of their share of right states."""
    known, predicted = target != IGNORE, logits.argmax(-1)
    pairs = (target * 3 + predicted)[known]
    right = ((predicted == target) & known).sum(0) / known.sum(0).clamp(min=1)
    chains = known.any(0).sum()
    return {"confusion": pairs.bincount(minlength=9).view(3, 3), "q3_of_chains": right.double().sum(), "chains": chains}


def scores(sums: dict[str, Any]) -> dict[str, float]:
    """Nats a residue, percentages of right states."""
    confusion = sums["confusion"]
    found = {
        "loss": sums["nats"] / max(sums["residues"], 1),
        "q3": 100 * (confusion.trace() / confusion.sum().clamp(min=1)).item(),
        "q3_chain": 100 * sums["q3_of_chains"] / max(sums["chains"], 1),
    }
    if sums.get("known8"):
        found["q8"] = 100 * sums["right8"] / sums["known8"]
    if "sov" in sums:
        found["sov99"] = 100 * sums["sov"] / max(sums["chains"], 1)
    return found


# Prediction


@dataclass(kw_only=True)
class PredictOptions:
    """Predict the structure of the chains of a FASTA file, or of a sequence."""


def predict(model: Model, inputs: Sequence[str], options: PredictOptions, bad: BadRecords) -> list[Structure]:
    """One structure a chain: an input is a file that holds some, or the letters of one."""
    chains, kinds = [], kinds_of(model.facts)
    for chain in [chain for given in inputs for chain in chains_of(given, bad)]:
        with bad.record():
            check_profiles(chain, kinds)
            chains.append(chain)
    collate = Collate(chains, model.facts)
    found: list[Structure | None] = [None] * len(chains)
    order = np.argsort([-len(chain.sequence) for chain in chains], kind="stable")
    for begin in range(0, len(order), 16):
        rows = order[begin : begin + 16]
        for n, structure in zip(rows, structures(model.network, collate, rows), strict=True):
            found[n] = structure
    return [structure for structure in found if structure]


@torch.inference_mode()
def steps(model: Model, input: str) -> Iterator[Steps]:
    """A chain, residue by residue, with what each is taken for."""
    chain, *_ = chains_of(input, BadRecords(False, ""))
    check_profiles(chain, kinds_of(model.facts))
    batch = Collate([chain], model.facts)(np.array([0]))
    three, _ = model.network(batch.x, batch.lengths)
    yield Steps([*chain.sequence], [*THREE], lambda: three[:, 0].softmax(-1))


def chains_of(given: str, bad: BadRecords) -> list[Chain]:
    """What an input of `predict` holds."""
    if Path(given).suffix or "/" in given or (len(given) < 256 and Path(given).exists()):
        return proteins.read([Path(given)], bad)
    where = "the sequence to predict from, which is no file"
    return [Chain("sequence", proteins.residues(given, where), where=where)]


@torch.inference_mode()
def structures(network: nn.Module, collate: Collate, rows: np.ndarray | Sequence[int]) -> Iterator[Structure]:
    """Those of some chains, side by side."""
    batch = collate(rows)
    three, eight = network(batch.x, batch.lengths)
    p, states8 = three.softmax(-1), None if eight is None else eight.argmax(-1)
    for b, chain in enumerate(collate.chains[n] for n in rows):
        T = len(chain.sequence)
        ss3 = "".join(THREE[n] for n in p[:T, b].argmax(-1).tolist())
        ss8 = "" if states8 is None else "".join(EIGHT[n] for n in states8[:T, b].tolist())
        probabilities = p[:T, b].tolist()
        yield Structure(chain.name, chain.sequence, ss3, [max(q) for q in probabilities], ss8, probabilities)


def save(results: list[Structure], path: Path) -> None:
    """`.csv`, `.json`, FASTA of structures or of both (`.ss3`, `.ss8`, `.fasta`), else as the terminal shows them."""
    files.write(path, written(results, path.suffix).encode())


def show(model: Model, data: Data, folder: Path) -> str:
    """A test chain that is drawn, and what is taken for what."""
    assert isinstance(data.test, Batches)
    assert isinstance(data.test.collate, Collate)
    collate = data.test.collate
    chosen = int(np.abs(data.test.lengths - 150).argmin())  # of a usual length
    chain, [result] = collate.chains[chosen], structures(model.network, collate, [chosen])
    q3 = np.mean([a == b for a, b in zip(chain.ss3, result.ss3, strict=True) if a != UNKNOWN])
    title = f"{chain.name}: {q3:.1%} of {len(chain.sequence)} residues right"
    picture.draw(folder / "structure.png", title, chain.sequence, chain.ss3, result.ss3, result.confidence)
    confusion = torch.as_tensor(scoring.sums_over(model.task, model.config, model.network, data.test)["confusion"])
    rows = [
        f"| {name} | {' | '.join(f'{n:,}' for n in row)} | {row[k] / max(sum(row), 1):.1%} |"
        for k, (name, row) in enumerate(zip(picture.NAMES.values(), confusion.tolist(), strict=True))
    ]
    head = ["| true \\ predicted | helix | strand | coil | right |", "|---|---|---|---|---|"]
    return "\n".join([f"![{title}](structure.png)\n", *head, *rows, ""])


def smoke(folder: Path) -> Smoke:
    """Chains whose structure follows from their letters: runs of some residues are helices, of others strands."""
    random = np.random.default_rng(0)
    letters = {"H": "AELKMQ", "E": "VIYFWT", "C": "GPNDS"}
    sequences, structure = [], []
    for n in range(60):
        states = "".join(
            str(random.choice([*THREE])) * int(random.integers(4, 12)) for _ in range(random.integers(3, 9))
        )
        residues = "".join(random.choice([*letters[state]]) for state in states)
        sequences.append(f">chain{n}\n{residues}\n")
        structure.append(f">chain{n}\n{states}\n")
    files.write(folder / "made-up.fasta", "".join(sequences).encode())
    files.write(folder / "made-up.ss3", "".join(structure).encode())
    training = TrainingOptions(batch_size=8, epochs=4, learning_rate=0.02)
    reading = ReadingOptions(data=(f"{folder}/made-up.fasta",))
    config = Config(hidden_size=16, layers=1, filters=16, dropout_input=0.0, reading=reading, training=training)
    return Smoke(config, ("AELKKAEMQGPNGSVIYWTVFT", "GPNSDVTYIVGPN"))
