from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from src.algorithms.inversion.encoder import TextEncoder

TEXTS = ["a red cat", "the old man sits under a tree", "dog", "two cats on the table"]
KINDS = ("causal", "bidirectional", "padded", "stripped")


@pytest.mark.parametrize("kind", KINDS)
def test_cut_at_the_end_equals_padded(kind: str, make_encoder: Callable[..., TextEncoder]) -> None:
    encoder = make_encoder(kind)
    cut = encoder.encode_ids([encoder.tokenize(t) for t in TEXTS])
    padded = encoder.encode_text(TEXTS)
    assert torch.allclose(cut, padded, atol=2e-6)
    assert not torch.allclose(cut[0], cut[1], atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_batching_changes_nothing(kind: str, make_encoder: Callable[..., TextEncoder]) -> None:
    ids = [make_encoder(kind).tokenize(t) for t in TEXTS * 3]
    small, large = make_encoder(kind, batch_size=2), make_encoder(kind, batch_size=64)
    assert torch.allclose(small.encode_ids(ids), large.encode_ids(ids), atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_equal_finite_differences(
    kind: str, make_encoder: Callable[..., TextEncoder]
) -> None:
    encoder = make_encoder(kind)
    encoder.model.double()
    ids = encoder.tokenize("a red cat sits")
    target = F.normalize(
        torch.randn(1, encoder.dim, generator=torch.manual_seed(0)).double(), dim=-1
    )
    rows = encoder.rows([ids])
    gradient, _ = encoder.gradients(rows, target)
    x = encoder.embedding.weight[rows].detach()
    step = 1e-4
    for place, unit in ((1, 0), (2, 7), (4, 31)):
        change = torch.zeros_like(x)
        change[0, place, unit] = step
        with torch.no_grad():
            up = (encoder.encode_embeddings(x + change, rows).double() * target).sum()
            down = (encoder.encode_embeddings(x - change, rows).double() * target).sum()
        # Embeddings come back in float32, so differences are good to some 1e-4.
        assert float(gradient[0, place, unit]) == pytest.approx(
            float(up - down) / (2 * step), abs=2e-3, rel=2e-2
        )


@pytest.mark.parametrize("kind", KINDS)
def test_every_sequence_is_counted(kind: str, make_encoder: Callable[..., TextEncoder]) -> None:
    encoder = make_encoder(kind, batch_size=2)
    seen = 0

    def count(module: torch.nn.Module, args: tuple[torch.Tensor, ...], out: object) -> None:
        nonlocal seen
        seen += len(args[0])

    handle = encoder.embedding.register_forward_hook(count)
    encoder.encode_ids([encoder.tokenize(t) for t in TEXTS])
    encoder.encode_text(TEXTS)
    assert encoder.evaluations == seen == 2 * len(TEXTS)
    z = encoder.encode_text(TEXTS[:1])
    encoder.gradients(encoder.rows([encoder.tokenize(TEXTS[0])]), z)
    handle.remove()
    # A pass forward and backward is three evaluations.
    assert encoder.evaluations == 2 * len(TEXTS) + 1 + 3


@pytest.mark.parametrize("kind", KINDS)
def test_text_survives_the_round_trip(kind: str, make_encoder: Callable[..., TextEncoder]) -> None:
    encoder = make_encoder(kind)
    ids = encoder.tokenize("  The   Red CAT ")
    assert encoder.decode(ids) == "the red cat"
    assert encoder.canonical(ids) == ids
    assert encoder.tokenize("") == ()


def test_a_token_sees_what_the_mask_says(make_encoder: Callable[..., TextEncoder]) -> None:
    assert {kind: make_encoder(kind).causal for kind in KINDS} == {
        kind: kind == "causal" for kind in KINDS
    }


def test_tokens_that_are_read_as_nothing_are_left_out(
    make_encoder: Callable[..., TextEncoder],
) -> None:
    encoder = make_encoder("causal")
    allowed = TextEncoder.allowed_ids(encoder)
    decoder = encoder.tokenizer.decoder
    lost = set(range(len(decoder))) - set(allowed)
    assert encoder.prefix[0] in lost
    assert encoder.tokenizer.encoder[encoder.tokenizer.byte_encoder[0]] in lost  # \x00
    assert all(encoder.tokenize(encoder.decode([t])) for t in allowed[::97])
    assert all(not encoder.canonical([t]) for t in lost - {*encoder.prefix, *encoder.suffix})
    assert len(lost) < 100


@pytest.mark.parametrize("kind", ["bidirectional", "padded"])
def test_low_precision_is_near(kind: str, make_encoder: Callable[..., TextEncoder]) -> None:
    low, full = (make_encoder(kind, precision=p) for p in ("bfloat16", "float32"))
    ids = [low.tokenize(t) for t in TEXTS]
    assert (low.encode_ids(ids) * full.encode_ids(ids)).sum(-1).min() > 0.99
    # Identity is decided in float32 all the same.
    target = full.encode_text(TEXTS)
    assert torch.equal(low.encode_text(TEXTS), target)
    rows = low.rows(ids[:1])
    gradients = [encoder.gradients(rows, target[1:2])[0].flatten() for encoder in (low, full)]
    assert F.cosine_similarity(*gradients, dim=0) > 0.95


@pytest.mark.gpu
def test_cpu_and_gpu_agree(make_encoder: Callable[..., TextEncoder]) -> None:
    encoder = make_encoder("causal")
    ids = [encoder.tokenize(t) for t in TEXTS]
    here = encoder.encode_ids(ids)
    encoder.model.cuda()
    assert torch.allclose(here, encoder.encode_ids(ids).cpu(), atol=1e-4)
