from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from onnxbuild.errors import StageError
from onnxbuild.sources.pytorch import loading

# The project's nets.py scripts a function, as models do.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

PROJECT = Path(__file__).resolve().parent / "project"


@pytest.fixture(autouse=True)
def _import_path(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])


def build(factory="nets:Conv", checkpoint=None, seed=0, kwargs=None, **options):
    source = {"factory": factory, "kwargs": kwargs or {}, "seed": seed, "checkpoint": options}
    return loading.build(source, {"checkpoint": str(checkpoint)} if checkpoint else {}, PROJECT)[:2]


@pytest.fixture
def weights():
    """The state dict of a model made from another seed."""
    return build(seed=9)[0].state_dict()


def same(model, weights):
    return all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_seeded_in_eval_mode():
    first, second, other = (build(seed=seed)[0] for seed in (1, 1, 2))

    assert same(first, second.state_dict())
    assert not same(first, other.state_dict())
    assert not any(module.training for module in first.modules())


def test_keyword_arguments_reach_the_factory():
    assert build(kwargs={"channels": 4})[0].fc.in_features == 4


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy", "torchscript"])
def test_every_kind_of_checkpoint(tmp_path, weights, kind):
    path = tmp_path / "weights.bin"
    if kind == "safetensors":
        safetensors.torch.save_file(weights, path)
    elif kind == "torchscript":
        model = build()[0]
        model.load_state_dict(weights)
        torch.jit.script(model).save(path)
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=kind == "zip")

    model, notes = build(checkpoint=path)

    assert same(model, weights)
    assert notes == []
    assert not model.training


def test_key_and_prefix(tmp_path, weights):
    path = tmp_path / "w.pt"
    torch.save({"epoch": 3, "model": {f"net.{name}": tensor for name, tensor in weights.items()}}, path)

    assert same(build(checkpoint=path, key="model", prefix="net.")[0], weights)
    with pytest.raises(StageError) as no_key:
        build(checkpoint=path)
    assert no_key.value.hint == "set checkpoint.key to 'model'"
    with pytest.raises(StageError) as no_prefix:
        build(checkpoint=path, key="model")
    assert no_prefix.value.hint == "set checkpoint.prefix to 'net.'"
    with pytest.raises(StageError, match="no name in the file starts with 'module"):
        build(checkpoint=path, key="model", prefix="module.")
    with pytest.raises(StageError, match="has no entry 'ema'"):
        build(checkpoint=path, key="ema")


def test_what_is_missing_or_unexpected_is_listed(tmp_path, weights):
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"other": torch.ones(2), **{n: t for n, t in weights.items() if n != "fc.bias"}}, path)

    with pytest.raises(StageError, match=r"not in the file: fc\.bias; not in the model: other"):
        build(checkpoint=path)
    model, notes = build(checkpoint=path, strict=False)
    assert torch.equal(model.fc.weight, weights["fc.weight"])
    assert notes == [
        "w.safetensors: weights not in the file: fc.bias",
        "w.safetensors: weights not in the model: other",
    ]


def test_another_shape_is_refused_even_where_not_strict(tmp_path, weights):
    path = tmp_path / "w.pt"
    torch.save({**weights, "fc.bias": torch.ones(3)}, path)

    with pytest.raises(StageError, match=r"fc\.bias: \[3\] in the file, \[40\] in the model"):
        build(checkpoint=path, strict=False)


def test_a_file_of_another_model_is_refused_even_where_not_strict(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"a": torch.ones(3)}, path)

    with pytest.raises(StageError, match="does not fit the model"):
        build(checkpoint=path, strict=False)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(("content", "fact", "hint"), [(b"", "empty", "again"), (POINTER, "Git LFS", "git lfs pull")])
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_what_stands_in_a_checkpoints_place_is_told(tmp_path, name, content, fact, hint):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(StageError, match=rf"{name} is .*{fact}") as caught:
        build(checkpoint=tmp_path / name)

    assert hint in caught.value.hint


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
@pytest.mark.parametrize("kept", [40, 0.5, -1])
def test_a_checkpoint_that_is_cut_short_is_told_as_such(tmp_path, weights, kind, kept):
    path = tmp_path / "w.bin"
    if kind == "safetensors":
        safetensors.torch.save_file(weights, path)
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])

    with pytest.raises(StageError, match=r"w\.bin is cut short: ") as caught:
        build(checkpoint=path)

    assert caught.value.hint == "copy or download it again"


def test_what_follows_the_tensors_of_a_safetensors_file_is_not_cut_short(tmp_path, weights):
    path = tmp_path / "w.bin"
    safetensors.torch.save_file(weights, path)
    path.write_bytes(path.read_bytes() + b"more")

    with pytest.raises(StageError, match="not a readable safetensors file"):
        build(checkpoint=path)


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("never-made"),)


def test_a_pickle_that_calls_code_is_refused_unopened(tmp_path, weights, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({**weights, "evil": Evil()}, "w.pt")

    with pytest.raises(StageError, match="needs the pickle global getattr,") as caught:
        build(checkpoint=tmp_path / "w.pt")

    assert caught.value.hint == "save the model's state_dict() alone, best to a safetensors file"
    assert not Path("never-made").exists()


@pytest.mark.parametrize("content", [b"", b"not weights", pickle.dumps([1, 2])])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "w.pt"
    path.write_bytes(content)

    with pytest.raises(StageError, match=r"w\.pt"):
        build(checkpoint=path)


def test_a_file_of_no_known_form_says_which_form_is_read(tmp_path):
    path = tmp_path / "w.pt"
    path.write_bytes(b"not weights")

    with pytest.raises(StageError, match=r"^w\.pt is neither safetensors nor a file that torch\.load reads") as caught:
        build(checkpoint=path)

    assert caught.value.hint == "save the model's state_dict() to a safetensors file"


@pytest.mark.parametrize(
    ("factory", "fact", "hint"),
    [
        ("nets:Cinv", "nets:Cinv: 'Cinv' is not there", "did you mean 'Conv'?"),
        ("nats:Conv", "nats:Conv: there is no module 'nats'", "from the project root"),
        ("nets:torch", "nets:torch is a module, which can't be called", ""),
        ("nets:not_a_module", "the factory nets:not_a_module gave an int, not a torch.nn.Module", "checkpoint"),
    ],
)
def test_factories_that_are_wrong(factory, fact, hint):
    with pytest.raises(StageError) as caught:
        build(factory)

    assert caught.value.fact == fact
    assert hint in caught.value.hint


def test_a_factory_that_takes_something_else_is_told_what():
    with pytest.raises(StageError, match=r"the factory nets:Conv\(channels=8\) can't be called so: .*'colour'"):
        build(kwargs={"colour": 1})


def test_a_factory_that_gives_no_model_and_weights_of_another_one_say_what_to_do():
    with pytest.raises(StageError) as caught:
        build("collections:OrderedDict")
    assert caught.value.hint == (
        "return the model itself, or a torch.export.ExportedProgram; its weights can come from `checkpoint`"
    )
    hint = loading._fit_hint(["conv.weight"], ["other.bias"])
    assert hint == "check the factory's kwargs, `key` and `prefix`; `strict: false` takes what fits"
