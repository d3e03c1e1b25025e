"""What a run of a model tells of its inputs: the same model, the sizes it really takes, and a recipe that builds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from onnxbuild.contracts import Task
from onnxbuild.errors import StageError
from onnxbuild.sources.pytorch import examples, inspecting, proving
from onnxbuild.sources.pytorch.trials import Example, Trials

FLOAT, INT = "float32", "int64"


def spec(*shape, dtype=FLOAT, **data):
    return {"dtype": dtype, "shape": list(shape), **({"data": data} if data else {})}


@pytest.fixture
def look(monkeypatch, tmp_path):
    """Inspect a model that a function in this process makes."""

    def look(make, example="", **given):
        monkeypatch.setattr("onnxbuild.sources.factories.import_callable", lambda name, _: {"m:m": make}[name])
        if example:
            monkeypatch.setattr(
                examples.factories, "import_callable", lambda name, _: {"m:m": make, "m:e": example}[name]
            )
        options = {"source": {"pytorch": {"factory": "m:m"}}, "given": given, "example": "m:e" if example else ""}
        return inspecting.inspect(Task("inspect", "", options, {}, str(tmp_path), "", ""))

    return look


def shapes(found):
    return {value.name: value.shape for value in (*found.interface.inputs, *found.interface.outputs)}


class UNet(nn.Module):
    """Halves an image three times and doubles it back: multiples of 8 only."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, image):
        x = self.stem(image)
        low = nn.functional.max_pool2d(x, 8)
        return torch.cat([x, nn.functional.interpolate(low, scale_factor=8.0)], 1)


def test_an_image_model_whose_sizes_are_multiples(look):
    found = look(UNet, image=spec(1, 3, 32, 48))
    assert shapes(found) == {"image": ["batch", 3, "height", "width"], "output": ["batch", 8, "height", "width"]}
    dims = found.interface.dims
    assert dims["batch"] == {"min": 1, "max": 16}
    assert dims["height"]["multiple_of"] == dims["width"]["multiple_of"] == 8
    assert dims["height"]["max"] == 64
    assert found.interface.sizes == {"batch": 2, "height": 32, "width": 48}
    assert found.exporter == "dynamo"
    assert 0 < found.atol < 1e-3
    assert any(line.startswith("axis 1 of image stays 3: at 4, RuntimeError: ") for line in found.looked)
    assert any("sizes of 1 made 2" in line for line in found.looked)


class Decoder(nn.Module):
    """Tokens after a cache: the mask is as long as both together."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(12, 8)

    def forward(self, ids, mask, past):
        all_of_it = torch.cat([past, self.words(ids)], 1)
        scores = self.words(ids) @ all_of_it.transpose(1, 2) + (mask[:, None, :] - 1) * 1e4
        return {"logits": scores.softmax(-1) @ all_of_it, "present": all_of_it}


def test_a_mask_of_past_and_present_and_the_values_that_go_into_a_table(look):
    found = look(Decoder, ids=spec(2, 3, dtype=INT), mask=spec(2, 8, dtype=INT), past=spec(2, 5, 8))
    assert shapes(found) == {
        "ids": ["batch", "sequence"],
        "mask": ["batch", "total"],
        "past": ["batch", "past", 8],
        "logits": ["batch", "sequence", 8],
        "present": ["batch", "total", 8],
    }
    dims = found.interface.dims
    assert set(dims["total"].split(" + ")) == {"past", "sequence"}
    assert dims["past"]["min"] == 0
    assert found.data["ids"] == {"integers": {"low": 0, "high": 12}}
    assert found.data["mask"] == {"constant": 1}  # zeros could hide all that a token looks at


class Lstm(nn.Module):
    """The batch is axis 1 of the state; the audio's length and the state's parts are fixed."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(6, 4)

    def forward(self, audio, state):
        hidden, cell = self.cell(audio, (state[0], state[1]))
        return hidden, torch.stack([hidden, cell])


def test_axes_that_move_together_and_what_a_model_makes_nothing_of(look):
    found = look(Lstm, audio=spec(1, 6), state=spec(2, 1, 4))
    assert shapes(found) == {
        "audio": ["batch", 6],
        "state": [2, "batch", 4],  # a third part would be taken, and no output change
        "output_0": ["batch", 4],
        "output_1": [2, "batch", 4],
    }


class Positions(nn.Module):
    """A table of 20 places, and twice as many numbers out as tokens in."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(30, 4), nn.Embedding(20, 4)

    def forward(self, tokens):
        x = self.words(tokens) + self.places(torch.arange(tokens.shape[1]))
        return x.repeat(1, 2, 1)


def test_an_embedding_says_what_goes_in_and_a_table_how_much(look):
    found = look(Positions)
    assert found.data == {"tokens": {"integers": {"low": 0, "high": 30}}}
    assert found.interface.dims["sequence"] == {"min": 1, "max": 20}
    assert shapes(found)["output"] == ["batch", "2*sequence", 4]
    assert any("sequence: runs from 1 to 20; at 21: IndexError" in line for line in found.looked)
    assert any(
        "assumed tokens: int64 [2, 16], as the first layer takes it, words: Embedding(30, 4)" in line
        for line in found.looked
    )


class Loop(nn.Module):
    def forward(self, x):
        total = x[:, 0]
        for step in range(1, int(x.shape[1])):
            total = torch.tanh(total + x[:, step])
        return total


class Branch(nn.Module):
    def forward(self, x):
        return x * 2 if float(x.sum()) > 0 else x - 1


def test_what_torch_export_fixes_is_static_and_what_it_refuses_goes_to_torchscript(look):
    found = look(Loop, x=spec(2, 5))
    assert shapes(found)["x"] == ["batch", 5]
    assert any("axis 1 of x stays 5: torch.export fixes it while it traces" in line for line in found.looked)

    found = look(Branch, x=spec(2, 5))
    assert found.exporter == "torchscript"
    assert shapes(found)["x"] == ["batch", "x_1"]
    found = look(lambda: torch.jit.script(Branch()), x=spec(2, 5))
    assert (found.exporter, shapes(found)["x"]) == ("torchscript", ["batch", "x_1"])


@torch.library.custom_op("onnxbuild_test::double", mutates_args=())
def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@double.register_fake
def _(x):
    return torch.empty_like(x)


class Head(nn.Linear):
    """A layer by another name."""


class Custom(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = Head(4, 3)

    def forward(self, x):
        return double(self.head(x)), 0.5


def test_operators_of_its_own_and_outputs_that_are_no_tensors_are_told(look):
    found = look(Custom)
    assert found.operators == ["onnxbuild_test::double"]
    assert [value.name for value in found.interface.outputs] == ["0"]
    assert "1 of what it returns is no tensor, and left out" in found.looked


def test_an_example_function_by_name_or_in_order(look):
    def example():
        return {"mask": torch.tensor([[1, 0, 1]]), "tokens": torch.arange(3)[None]}

    class Masked(Positions):
        def forward(self, tokens, mask):
            return super().forward(tokens) * mask.repeat(1, 2)[..., None]

    found = look(Masked, example)
    assert [value.name for value in found.interface.inputs] == ["mask", "tokens"]
    assert shapes(found)["tokens"] == ["batch", "sequence"]
    assert found.data["tokens"] == {"integers": {"low": 0, "high": 3}}
    assert shapes(look(Positions, lambda: (torch.ones(2, 4, dtype=torch.int64),)))["tokens"] == ["batch", "sequence"]


def test_a_cache_is_left_out_and_a_causal_mask_is_all_ones(look):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64,
    )  # fmt: skip
    found = look(lambda: transformers.LlamaForCausalLM(config))
    names = ["input_ids", "attention_mask"]
    assert found.interface.arguments == {"kwargs": {**{name: name for name in names}, "use_cache": False}}
    assert found.data == {"input_ids": {"integers": {"low": 0, "high": 50}}, "attention_mask": {"constant": 1}}
    assert shapes(found) == {name: ["batch", "sequence"] for name in names} | {"logits": ["batch", "sequence", 50]}
    assert found.interface.dims["sequence"]["max"] == 64


def test_a_table_of_positions_ends_a_sequence_and_no_row_of_a_mask_hides_everything(look):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=40,
    )  # fmt: skip
    found = look(lambda: transformers.BertModel(config))
    assert found.interface.arguments is None
    assert found.interface.dims["sequence"] == {"min": 2, "max": 40}
    assert found.data["attention_mask"] == {"values": [1, 1, 0]}
    assert shapes(found)["pooler_output"] == ["batch", 16]


class Two(nn.Module):
    def forward(self, left, right, scale: float):
        return left + right


class Pool(nn.Module):
    def forward(self, x):
        return x.mean()


def nothing():
    class Nothing(nn.Module):
        def forward(self, x):
            return {"why": "no tensor"}

    return Nothing()


def nested():
    return {"tokens": [torch.ones(2)]}


@pytest.mark.parametrize(
    ("make", "example", "given", "fact", "hint"),
    [
        (
            Two,
            "",
            {},
            "it has 2 parameters without a default",
            "--input left=float32[2,3,224,224] --input right=float32",
        ),
        (Pool, "", {}, "no layer of it says how wide its input is", "say what it takes, each with its own dtype"),
        (nothing, "", {"x": spec(2)}, "the model returns no tensor", "return a tensor, or a tuple, a mapping"),
        (Positions, nested, {}, "m:e gives a dict that is no example", "let it return a dict of tensors by"),
        (
            Positions,
            lambda: torch.ones(2, dtype=torch.complex64),
            {},
            "tokens is a tensor of a type that no graph takes as an input: torch.complex64",
            "pass real numbers: torch.view_as_real gives those",
        ),
        (UNet, "", {"image": spec(2, 5, 8, 8)}, "the model takes no example that could be made", ""),
        (UNet, lambda: 1 / 0, {}, "the example function m:e failed: ZeroDivisionError", ""),
    ],
)
def test_what_can_not_be_found_out_is_told(look, make, example, given, fact, hint):
    with pytest.raises(StageError) as raised:
        look(make, example, **given)
    assert fact in raised.value.fact
    assert hint in raised.value.hint


def test_a_size_is_run_once(tmp_path):
    calls = []

    class Counted(nn.Module):
        def forward(self, x):
            calls.append(tuple(x.shape))
            return x

    trials = Trials(Counted(), Example({"x": spec(2, 3)}), tmp_path)
    assert trials.run({}) == trials.run({("x", 0): 2})
    trials.run({("x", 1): 4})
    assert calls == [(2, 3), (2, 4)]
    assert trials.why({("x", 0): 1 << 30}).startswith("not tried: ")


def test_both_results_are_compared(tmp_path):
    """What was captured stands beside the model: at the smallest size they must agree."""
    model = nn.Linear(3, 2)
    adapter = proving.Adapter(model, ["input"], ["y"])
    x = torch.ones(2, 3)
    assert proving._apart(adapter, lambda x: (model(x),), (x,)) == ""
    assert proving._apart(adapter, lambda x: (model(x) + 1,), (x,)).startswith("y is ")
    assert proving._apart(adapter, lambda x: (model(x)[:1],), (x,)) == "y is [1, 2], not [2, 2]"
