"""BLEU of counts added up is that of all texts at once."""

import pytest
import sacrebleu

from conveyor.training import bleu

WRITTEN = ["A dog runs over the green grass.", "Two men, talking.", "the cat", "A boy in a red shirt jumps high ."]
FIRST = ["A dog is running over green grass.", "Two men are talking.", "The cat sleeps.", "A boy in a red shirt jumps."]
SECOND = ["The dog runs over the grass.", "Two men, who talk.", "a cat", "The boy jumps high in a red shirt."]


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("references", [[FIRST], [FIRST, SECOND]], ids=["one", "two"])
def test_parts_add_up(lowercase: bool, references: list[list[str]]) -> None:
    parts = [
        bleu.counts(WRITTEN[a:b], [some[a:b] for some in references], lowercase=lowercase) for a, b in [(0, 1), (1, 4)]
    ]
    whole = sacrebleu.corpus_bleu(WRITTEN, references, lowercase=lowercase)
    assert bleu.score(parts[0] + parts[1]) == pytest.approx(whole.score)
    assert 5 < whole.score < 95


def test_shorter_n_grams() -> None:
    """By hand: 3 of 4 words match, and 2 of 3 pairs; as long as the reference."""
    counted = bleu.counts(["a b c x"], [["a b c d"]])
    assert bleu.score(counted, 1) == pytest.approx(75)
    assert bleu.score(counted, 2) == pytest.approx(100 * (3 / 4 * 2 / 3) ** 0.5)
