"""Text to token numbers and back: characters, words, or byte-pair pieces. A tokenizer is saved as plain JSON."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from conveyor.errors import ConveyorError

UNKNOWN, END = "<unk>", "<eos>"


class Tokenizer(Protocol):
    """What every tokenizer does; `decode(encode(text))` is the text, as far as the vocabulary reaches."""

    def __len__(self) -> int: ...
    def encode(self, text: str) -> np.ndarray: ...
    def decode(self, ids: Sequence[int]) -> str: ...
    def to_json(self) -> dict[str, Any]: ...


class Characters:
    """One token a character (code point); what training never saw is number 0, shown as U+FFFD."""

    def __init__(self, alphabet: str) -> None:
        self.alphabet = alphabet
        self._codes = _code_points(alphabet)

    @classmethod
    def learn(cls, text: str) -> Characters:
        """Every character of `text`, in the order of their code points."""
        return cls("".join(map(chr, np.unique(_code_points(text)).tolist())))

    def __len__(self) -> int:
        return 1 + len(self.alphabet)

    def encode(self, text: str) -> np.ndarray:
        codes = _code_points(text)
        places = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        return np.where(self._codes[places] == codes, places + 1, 0)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.alphabet[i - 1] if i else "\ufffd" for i in ids)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "char", "alphabet": self.alphabet}


class Words:
    """Words between white space, `<eos>` for a newline, `<unk>` beyond the vocabulary: Mikolov's convention."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self._numbers = {word: number for number, word in enumerate(self.words)}

    @classmethod
    def learn(cls, text: str, size: int) -> Words:
        """The `size` most frequent words of `text`, most frequent first, `<unk>` and `<eos>` among them."""
        counts = Counter({UNKNOWN: 0, END: 0})
        counts.update(_words(text))
        rest = sorted(counts.keys() - {UNKNOWN, END}, key=lambda word: (-counts[word], word))[: size - 2]
        return cls(sorted([UNKNOWN, END, *rest], key=lambda word: (-counts[word], word)))

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, text: str) -> np.ndarray:
        unknown = self._numbers[UNKNOWN]
        return np.fromiter((self._numbers.get(word, unknown) for word in _words(text)), dtype=np.int64)

    def decode(self, ids: Sequence[int]) -> str:
        return re.sub(f" ?{END} ?", "\n", " ".join(self.words[i] for i in ids))

    def to_json(self) -> dict[str, Any]:
        return {"kind": "word", "words": self.words}


class Pieces:
    """Byte-pair encoding over bytes (Sennrich et al. 2016): frequent strings are one token, and nothing is unknown."""

    def __init__(self, model: tokenizers.Tokenizer) -> None:
        self.model = model

    @classmethod
    def learn(cls, text: str, size: int) -> Pieces:
        """At most `size` pieces; the 256 bytes are always among them."""
        model = tokenizers.Tokenizer(models.BPE())
        model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
        model.train_from_iterator(text.splitlines(keepends=True), trainer)
        return cls(model)

    def __len__(self) -> int:
        return int(self.model.get_vocab_size())

    def encode(self, text: str) -> np.ndarray:
        lines = self.model.encode_batch_fast(text.splitlines(keepends=True))
        return np.fromiter((number for line in lines for number in line.ids), dtype=np.int64)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.model.decode(list(ids)))

    def to_json(self) -> dict[str, Any]:
        return {"kind": "bpe", "model": json.loads(self.model.to_str())}


def learn(kind: str, text: str, size: int) -> Tokenizer:
    """A tokenizer of `kind` "char", "word" or "bpe" with the vocabulary of `text`; characters know no bound."""
    if not text:
        raise ConveyorError("[tokenizer] there is no text to learn a vocabulary from; give more")
    if kind == "char":
        return Characters.learn(text)
    return Words.learn(text, size) if kind == "word" else Pieces.learn(text, size)


def from_json(description: Any) -> Tokenizer:
    """The tokenizer that `to_json` described."""
    match description:
        case {"kind": "char", "alphabet": str(alphabet)} if alphabet:
            return Characters(alphabet)
        case {"kind": "word", "words": [*words]} if _are_words(words):
            return Words(words)
        case {"kind": "bpe", "model": dict(model)} if pieces := _pieces(model):
            return pieces
    raise ConveyorError("[tokenizer] expected the description of a char, word or bpe tokenizer; copy the file again")


def _are_words(words: list[Any]) -> bool:
    return all(isinstance(word, str) for word in words) and {UNKNOWN, END} <= set(words)


def _pieces(description: dict[str, Any]) -> Pieces | None:
    """The tokenizer described, if it is one, and its pieces are numbered without gaps."""
    try:
        model = tokenizers.Tokenizer.from_str(json.dumps(description))
    except Exception as error:
        if type(error) is not Exception:  # tokenizers raises that very class for a description that is none
            raise
        return None
    numbers = model.get_vocab().values()
    return Pieces(model) if sorted(numbers) == [*range(len(numbers))] and numbers else None


def _words(text: str) -> Iterable[str]:
    return text.replace("\n", f" {END} ").split()


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
