"""Characters spread over frames, against loops."""

import pytest
import torch

from conveyor.nn.voice import NEAR, PLACES, FrameReader, frames_of, lasting

DURATIONS = torch.tensor([[2, 1], [3, 4], [1, 0]])


def test_which_character_each_frame_is_of() -> None:
    assert lasting(DURATIONS).T.tolist() == [[0, 0, 1, 1, 1, 2], [0, 1, 1, 1, 1, 2]]


def test_what_a_frame_sees() -> None:
    embedded = torch.randn(3, 2, 4)
    found = frames_of(embedded, DURATIONS)
    assert found.shape == (6, 2, (2 * NEAR + 1) * 4 + PLACES)
    for b, length in enumerate(DURATIONS.sum(0).tolist()):
        t = 0
        for u, count in enumerate(DURATIONS[:, b].tolist()):
            for n in range(count):
                near = [embedded[v, b] if 0 <= v < 3 else torch.zeros(4) for v in range(u - NEAR, u + NEAR + 1)]
                into = (n + 0.5) / count
                places = torch.tensor([into, 1 - into, torch.tensor(float(count)).log()])
                torch.testing.assert_close(found[t, b], torch.cat([*near, places]))
                t += 1
        assert t == length


@pytest.mark.parametrize(("E", "H", "out"), [(32, 128, 43), (8, 16, 5)])
def test_both_kinds_have_as_many_weights(E: int, H: int, out: int) -> None:
    counts = [sum(w.numel() for w in FrameReader(E, H, out, 0.1, kind, "lstm").parameters()) for kind in (True, False)]
    assert counts[1] == pytest.approx(counts[0], rel=0.03)


def test_the_feedforward_one_sees_each_frame_alone() -> None:
    torch.manual_seed(0)
    embedded, lengths = torch.randn(3, 2, 4), DURATIONS.sum(0)
    for recurrent in (True, False):
        reader = FrameReader(4, 6, 5, 0.0, recurrent, "lstm").eval()
        text = torch.cat([embedded, torch.randn(9, 2, 4)])
        long = torch.cat([DURATIONS, torch.ones(9, 2, dtype=torch.int64)])
        other = text.clone()
        other[-1] += 1
        one, two = (reader(part, long, lengths + 9) for part in (text, other))
        assert torch.equal(one[0], two[0]) != recurrent
