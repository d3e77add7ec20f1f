"""Texts read character by character from ink or sound: their errors, and what a language model thinks of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jiwer
import numpy as np
import torch
from torch import Tensor

from conveyor.data import tokenizer
from conveyor.data.written import Written
from conveyor.errors import ConveyorError
from conveyor.nn.ctc import LanguageModel, Prefix, Spelled, align, best_path, prefix_beam_search
from conveyor.training.options import Count, NotNegative, Number, check
from conveyor.training.task import Model, Sums


def errors(written: Sequence[str], said: Sequence[str]) -> Sums:
    """Edits between texts by jiwer, and what they are counted against: characters and words of what was said."""
    if not said:
        return {}
    characters, words = jiwer.process_characters([*said], [*written]), jiwer.process_words([*said], [*written])
    sums: Sums = {"texts": len(said), "texts_right": sum(a == b for a, b in zip(written, said, strict=True))}
    for name, found in (("characters", characters), ("words", words)):
        sums[f"{name}_wrong"] = found.substitutions + found.deletions + found.insertions
        sums[f"{name}_said"] = found.substitutions + found.deletions + found.hits
    return sums


def rates(sums: dict[str, Any]) -> dict[str, float]:
    """Error rates of characters and words in per cent, and the share of texts without any, where some were written."""
    if "texts" not in sums:
        return {}
    return {
        "cer": 100 * sums["characters_wrong"] / sums["characters_said"],
        "wer": 100 * sums["words_wrong"] / sums["words_said"],
        "exact": sums["texts_right"] / sums["texts"],
    }


class CharacterModel:
    """A language model of characters, asked what comes after prefixes in the numbers of a recogniser."""

    def __init__(self, model: Model, target: Written) -> None:
        theirs = tokenizer.from_json(model.facts.get("tokenizer"))
        alphabet, own = (getattr(tokens, "alphabet", None) for tokens in (theirs, target.tokens))
        if alphabet is None or own is None:
            raise ConveyorError("[language model] expected one of characters; train it with --tokens char")
        self.network: Any = model.network
        self.numbers = [alphabet.find(character) + 1 for character in own]
        """Of the recogniser's characters; 0, what was never seen, where it does not know one."""
        start = [alphabet.find("\n") + 1]
        self._known: dict[Prefix, tuple[np.ndarray, Any]] = {}
        self._step([()], [None], start)

    def log_p(self, prefixes: Sequence[Prefix]) -> np.ndarray:
        """Of each token of the recogniser [N, W] behind each of N prefixes; of blank and unknown: as good as never."""
        missing = {prefix[:n] for prefix in prefixes for n in range(len(prefix) + 1)} - self._known.keys()
        while missing:
            ready = sorted(prefix for prefix in missing if prefix[:-1] in self._known)
            before = [self._known[prefix[:-1]][1] for prefix in ready]
            self._step(ready, before, [self._number(prefix[-1]) for prefix in ready])
            missing -= {*ready}
        return np.stack([self._known[prefix][0] for prefix in prefixes])

    def _number(self, token: int) -> int:
        return self.numbers[token - 2] if token > 1 else 0

    @torch.inference_mode()
    def _step(self, prefixes: Sequence[Prefix], states: Sequence[Any], tokens: Sequence[int]) -> None:
        together = None if states[0] is None else tuple(torch.cat(part, 1) for part in zip(*states, strict=True))
        logits, after = self.network(torch.tensor([tokens]), together)
        log_p = logits[0].log_softmax(-1).numpy()
        unseen = np.full((len(prefixes), 2), -50.0)
        found = np.concatenate([unseen, log_p[:, self.numbers]], 1)
        for n, prefix in enumerate(prefixes):
            self._known[prefix] = found[n], tuple(part[:, n : n + 1] for part in after)


@dataclass(kw_only=True)
class SearchOptions:
    """How texts are found."""

    beam: Count = 1
    """Beginnings of a text that are followed side by side; 1 takes the likeliest character of each step."""
    language_model: str = ""
    """The folder of a run of the task language-model, of characters, that a beam asks too."""
    weight: NotNegative = 0.5
    """What the language model counts by."""
    bonus: Number = 0.5
    """For each character, since the language model makes texts shorter."""

    def __post_init__(self) -> None:
        check(self, self._conflicts)

    def _conflicts(self) -> Iterator[str]:
        if self.language_model and self.beam == 1:
            yield "--language-model: expected a --beam of 2 or more"


class Search:
    """What spells distributions over characters, of a recogniser whose `target` they are."""

    def __init__(self, options: SearchOptions, target: Written, model: Model | None) -> None:
        self.width = options.beam
        self.language = model and LanguageModel(CharacterModel(model, target).log_p, options.weight, options.bonus)

    def __call__(self, logits: Tensor, lengths: Tensor) -> list[Spelled]:
        """The text of each row of [T, B, W], and where it stands."""
        if self.width == 1:
            return best_path(logits, lengths)
        found = []
        for b, length in enumerate(lengths.tolist()):
            [(tokens, _), *_] = prefix_beam_search(logits[:, b], length, self.width, self.language)
            found.append(align(logits[:, b], length, tokens))
        return found


def words(target: Written, spelled: Spelled) -> list[tuple[str, int, int]]:
    """The words of a text, each with its first step and the one behind its last."""
    found: list[tuple[str, int, int]] = []
    begun = False
    for token, (first, last) in zip(spelled.tokens, spelled.spans, strict=True):
        character = target.tokens.decode([token - 1])
        if character.isspace():
            begun = False
        elif begun and isinstance(target.tokens, tokenizer.Characters):
            word, start, _ = found[-1]
            found[-1] = (word + character, start, last)
        else:
            found.append((character, first, last))
            begun = True
    return found
