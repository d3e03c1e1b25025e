from __future__ import annotations

import io
import logging
import warnings

import onnx
import onnx.defs
import pytest
import torch
from torch.onnx import _constants

from onnxbuild.recipe.rules import PROVIDERS
from onnxbuild.sources import SOURCES

EXPORTERS = SOURCES["pytorch"].exporters(None)


def test_torchscripts_opsets_are_the_librarys():
    assert EXPORTERS["torchscript"] == (_constants.ONNX_MIN_OPSET, _constants.ONNX_TORCHSCRIPT_EXPORTER_MAX_OPSET)


def test_dynamos_opsets_are_the_librarys():
    from torch.onnx._internal.exporter import _constants as exporter

    assert EXPORTERS["dynamo"] == (exporter.TORCHLIB_OPSET, onnx.defs.onnx_opset_version())


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_both_ends_are_really_given(exporter):
    model, x = torch.nn.Linear(3, 2).eval(), torch.ones(2, 3)
    logging.disable(logging.CRITICAL)
    try:
        for opset in EXPORTERS[exporter]:
            file = io.BytesIO()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # both exporters say much about themselves
                if exporter == "dynamo":
                    graph = torch.onnx.export(model, (x,), dynamo=True, opset_version=opset, verbose=False).model_proto
                else:
                    torch.onnx.export(model, (x,), file, dynamo=False, opset_version=opset)
                    graph = onnx.load_from_string(file.getvalue())
            assert graph.opset_import[0].version == opset
    finally:
        logging.disable(logging.NOTSET)


def test_the_providers_are_onnxruntimes():
    import onnxruntime

    assert set(onnxruntime.get_all_providers()) <= set(PROVIDERS)
