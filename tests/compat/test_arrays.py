"""Arrays with torch's methods give torch's numbers, and NumPy's functions NumPy's."""

import pickle

import numpy as np
import pytest

from tandem.compat import arrays, tensors
from tandem.compat.arrays import Array
from tandem.compat.refusals import NotCoveredError

PLAIN = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)

# What scripts write after the ten lines, and what it means in NumPy.
SAME = {
    "x.softmax(dim=1)": "np.exp(x) / np.exp(x).sum(1, keepdims=True)",
    "x.softmax(dim=0)": "np.exp(x) / np.exp(x).sum(0, keepdims=True)",
    "(100.0 * x @ x.T).softmax(dim=-1).argmax(dim=-1)": "(x @ x.T).argmax(-1)",
    "x / x.norm(dim=-1, keepdim=True)": "x / np.linalg.norm(x, axis=-1, keepdims=True)",
    "x.norm(p=2, dim=1)": "np.linalg.norm(x, axis=1)",
    "x.sigmoid()": "1 / (1 + np.exp(-x))",
    "x.sum(dim=0)": "x.sum(0)",
    "x.mean(1, keepdim=True)": "x.mean(1, keepdims=True)",
    "x.std()": "x.std(ddof=1)",
    "x.std(dim=0)": "x.std(0, ddof=1)",
    "x.var()": "x.var(ddof=1)",
    "x.var(1, keepdim=True)": "x.var(1, ddof=1, keepdims=True)",
    "x.max(dim=1).values": "x.max(1)",
    "x.max(dim=1)[1]": "x.argmax(1)",
    "x.min(0, keepdim=True).values": "x.min(0, keepdims=True)",
    "x.max()": "x.max()",
    "x[0].topk(2).indices": "np.argsort(-x[0])[:2]",
    "x[1].topk(2)[0]": "np.sort(x[1])[::-1][:2]",
    "x[1].topk(2, largest=False).values": "np.sort(x[1])[:2]",
    "x.topk(2, dim=0).values": "-np.sort(-x, axis=0)[:2]",
    "x.topk(2, dim=0).indices": "np.argsort(-x, axis=0)[:2]",
    "x.sort(descending=True).values": "-np.sort(-x, axis=-1)",
    "x.sort(dim=0).values": "np.sort(x, axis=0)",
    "x[0].argsort(descending=True)": "np.argsort(-x[0])",
    "x.argsort(dim=0)": "np.argsort(x, axis=0)",
    "x.transpose(0, 1)": "x.T",
    "x.permute(1, 0).t()": "x",
    "x.unsqueeze(0)": "x[None]",
    "x.unsqueeze(0).squeeze(0)": "x",
    "x.squeeze(1)": "x",
    "x.view(-1)": "x.reshape(-1)",
    "x.view(2, 6)": "x.reshape(2, 6)",
    "x.repeat(2, 1)": "np.concatenate([x, x])",
    "x.cumsum(dim=1)": "x.cumsum(1)",
    "x.detach().cpu().float().numpy()": "x",
    "x.to('cpu').clone().exp().log()": "x",
    "x.mm(x.t())": "x @ x.T",
    "np.sort(x)": "np.sort(np.array(x))",
    "np.max(x, axis=1)": "x.max(1)",
    "np.std(x, axis=0)": "x.std(0)",
    "np.var(x, axis=0)": "x.var(0)",
    "np.repeat(x, 2, axis=0)": "np.repeat(x, 2, axis=0)",
    "np.argsort(x, axis=0)": "np.argsort(x, axis=0)",
    "np.transpose(x, (0, 1))": "x",
    "np.squeeze(x[:, :1])": "x[:, 0]",
    "np.linalg.norm(x)": "np.linalg.norm(x)",
}


@pytest.mark.parametrize("code", SAME)
def test_methods(code: str) -> None:
    found = eval(code, {"np": np, "x": PLAIN.copy().view(Array)})
    np.testing.assert_allclose(np.asarray(found), eval(SAME[code], {"np": np, "x": PLAIN.copy()}), rtol=1e-5, atol=1e-6)


def test_shapes_and_single_numbers() -> None:
    x = PLAIN.view(Array)
    assert (x.size(), x.size(0), x.size == 12, x.dim(), x.numel()) == ((3, 4), 3, True, 2, 12)
    assert f"{x[0, 0]:.3f} {x[0].max():.2f}" == f"{PLAIN[0, 0]:.3f} {PLAIN[0].max():.2f}"
    assert x[0][1].item() == PLAIN[0, 1]
    assert "abcd"[x[0].argmax()] == "abcd"[PLAIN[0].argmax()]
    assert [type(each) for each in x[0]] == [Array] * 4
    x = x.copy()
    x /= x.norm(dim=-1, keepdim=True)
    assert type(x) is Array
    assert type(pickle.loads(pickle.dumps(x))) is Array


def test_what_wants_gradients_or_means_two_things_is_refused() -> None:
    x = PLAIN.view(Array)
    for wrong in (x.backward, x.requires_grad_, x.nonzero, lambda: x.norm(p=1)):
        with pytest.raises(NotCoveredError):
            wrong()


def test_torch_takes_them_and_other_methods_are_torchs() -> None:
    torch = pytest.importorskip("torch")
    x, t = PLAIN.view(Array), torch.from_numpy(PLAIN.copy())
    for found, expected in (
        (torch.softmax(x, dim=1), torch.softmax(t, dim=1)),
        (torch.stack([x, x]), torch.stack([t, t])),
        (torch.tensor(2.0) * x, 2 * t),
        (x @ t.T, t @ t.T),
        (x.logsumexp(dim=1), t.logsumexp(dim=1)),
        (x.to(torch.float64), t.double()),
        (torch.as_tensor(x), t),
    ):
        assert isinstance(found, torch.Tensor)
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected)


def test_without_torch_other_methods_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "has_torch", lambda: False)
    x = PLAIN.view(Array)
    with pytest.raises(NotCoveredError, match=r"logsumexp: .*pip install torch"):
        x.logsumexp(dim=1)
    assert not hasattr(x, "logsumexp")
    with pytest.raises(NotCoveredError, match="pip install torch"):
        x.to("cuda")


def test_tensors_are_torchs_where_the_script_has_imported_it(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    assert type(arrays.tensor(PLAIN)) is torch.Tensor
    assert type(arrays.tensor(PLAIN, like=PLAIN)) is Array  # NumPy's question has NumPy's answer
    monkeypatch.setattr(tensors, "uses_torch", lambda: False)
    assert type(arrays.tensor(PLAIN)) is Array


@pytest.mark.parametrize("with_torch", [False, True])
def test_attributes_are_computed_when_asked_for_and_go_no_further(
    monkeypatch: pytest.MonkeyPatch, with_torch: bool
) -> None:
    if with_torch:
        pytest.importorskip("torch")
    monkeypatch.setattr(tensors, "uses_torch", lambda: with_torch)
    asked: list[int] = []
    value = arrays.tensor(PLAIN.copy())
    found = arrays.with_attributes(value, {"states": lambda: asked.append(1) or len(asked)})
    assert asked == []
    assert (found.states, found["states"], asked) == (1, 1, [1])
    np.testing.assert_array_equal(np.asarray(found[0]), PLAIN[0])
    half = found / 2
    assert not hasattr(half, "states")
    assert not hasattr(found, "no_such_attribute")
