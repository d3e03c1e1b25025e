"""What a user gets to see of an exception: their own frames, the message without its trimmings, and nothing of ours."""

from __future__ import annotations

import pytest
from workspace import Workspace

from onnxbuild.errors import StageError
from onnxbuild.sources import failures

RECIPE = """\
version: 1
name: r
model: {{pytorch: {{factory: "{factory}"}}}}
export:
  exporter: torchscript
  inputs: {{x: {{dtype: float32, shape: [2, 4]}}}}
  outputs: [y]
"""

MODEL = """\
import torch


def licence():
    raise RuntimeError("no licence for this model")


def make():
    return licence()


def reraised():
    try:
        licence()
    except RuntimeError as error:
        raise ValueError("this model can't be made") from error
"""


def fail(workspace: Workspace, factory: str) -> tuple[str, dict]:
    """What a build that fails prints, and the failure of its reference, the first stage that makes the model."""
    workspace.write("models/m.py", MODEL)
    workspace.write("r.yaml", RECIPE.format(factory=factory))
    ran = workspace.run("run", "r.yaml", code=1)
    return ran.err, next(one for one in workspace.report("r")["failures"] if one["stage"] == "reference")


def test_a_factory_that_fails_is_told_once_with_its_own_frames_and_none_of_ours(workspace):
    said, failure = fail(workspace, "models.m:make")

    fact = "the factory models.m:make failed at models/m.py:5: RuntimeError: no licence for this model"
    assert failure["fact"] == fact
    assert [line for line in failure["log"].splitlines() if "^" not in line] == [
        "Traceback (most recent call last):",
        '  File "models/m.py", line 9, in make',
        "    return licence()",
        '  File "models/m.py", line 5, in licence',
        '    raise RuntimeError("no licence for this model")',
        "RuntimeError: no licence for this model",
    ]
    assert said.count(fact) == 1


def test_the_causes_of_an_exception_are_told_as_python_does(workspace):
    _, failure = fail(workspace, "models.m:reraised")

    assert "onnxbuild" not in failure["log"]
    first, _, then = failure["log"].partition("The above exception was the direct cause")
    assert "RuntimeError: no licence" in first
    assert "ValueError: this model can't be made" in then


def test_what_is_wholly_in_the_fact_leaves_no_log(workspace):
    said, failure = fail(workspace, "torch.nn:Linear")

    assert "can't be called so: missing a required argument: 'in_features'" in failure["fact"]
    assert failure["log"] == ""
    assert "log" not in said


def raised(make) -> Exception:
    try:
        make()
    except Exception as error:  # noqa: BLE001  # whatever it is, with its frames
        return error
    raise AssertionError


def test_a_library_that_fails_by_itself_is_told_with_its_deepest_frames(tmp_path, capsys):
    import torch

    found = failures.explain(raised(lambda: torch.nn.Linear(2, 3)(torch.ones(4))), "the model failed", tmp_path)

    assert found.fact.startswith("the model failed: RuntimeError: mat1 and mat2 shapes")
    assert capsys.readouterr().err.count("  File ") == failures.DEEPEST


def test_an_error_of_ours_is_told_as_it_is(tmp_path, capsys):
    error = StageError("the fact", "the hint")

    assert failures.explain(error, "what", tmp_path) is error
    assert capsys.readouterr().err == ""


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_exception_that_cannot_say_what_it_is_is_told_by_its_class(tmp_path):
    assert failures.explain(MuteError(), "the factory failed", tmp_path).fact == "the factory failed: MuteError"


UNSUPPORTED = """\
Unsupported: ONNX export of operator adaptive_avg_pool2d, input size not accessible. Please feel free to request \
support or submit a pull request on PyTorch GitHub: https://github.com/pytorch/pytorch/issues  [Caused by the value \
'x defined in (%x : Float(1, 2, *, *, strides=[288, 144, 12, 1], requires_grad=0, device=cpu) = prim::Param()
)' (type 'Tensor') in the TorchScript graph. The containing node has kind 'prim::Param'.]

    Inputs:
        Empty
    Outputs:
        #0: x defined in (%x : Float(1, 2, *, *, strides=[288, 144, 12, 1], requires_grad=0, device=cpu) = prim::Param()
    )  (type 'Tensor')
"""


@pytest.mark.parametrize(
    ("message", "essence"),
    [
        (
            UNSUPPORTED,
            "Unsupported: ONNX export of operator adaptive_avg_pool2d, input size not accessible.",
        ),
        ("No decomposition. If you need it, please open an issue. Or write one.", "No decomposition."),
        (
            "No such thing\nPlease create an issue at https://github.com/x thank you\nat all",
            "No such thing thank you at all",
        ),
        ("it pleases nobody to open a file", "it pleases nobody to open a file"),
    ],
)
def test_what_a_library_asks_for_is_cut_out_of_its_message(tmp_path, message, essence):
    assert failures.essence(ValueError(message), tmp_path) == f"ValueError: {essence}"


def test_the_line_of_an_installed_model_is_named_where_the_project_has_none(tmp_path):
    site = "/v/lib/python3.11/site-packages"
    frames = [
        (f"{site}/onnx/a.py", 1),
        (f"{site}/transformers/models/bert.py", 7),
        (f"{site}/torch/nn/x.py", 3),
        ("/usr/lib/python3.11/contextlib.py", 2),
    ]
    where = failures.models_line(frames, tmp_path)
    assert where is not None and failures.named(*where, tmp_path) == "transformers/models/bert.py:7"
    own = (str(tmp_path / "models" / "m.py"), 4)
    where = failures.models_line([own, *frames], tmp_path)
    assert where is not None and failures.named(*where, tmp_path) == "models/m.py:4"
    assert failures.models_line([frames[0], frames[2]], tmp_path) is None
