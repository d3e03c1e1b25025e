"""Estimators of scikit-learn, LightGBM and XGBoost: built by recipes, and held against their own results on real data."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from workspace import Workspace

from onnxbuild import recipe
from onnxbuild.errors import StageError, UserError
from onnxbuild.graphs import interface
from onnxbuild.parity.comparators import allclose
from onnxbuild.recipe import importables
from onnxbuild.sources import sklearn as source

pytest.importorskip("skl2onnx")
pytest.importorskip("onnxmltools")

ZOO = '''
import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA, FastICA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

NUMBERS = ["alcohol", "hue", "od280/od315_of_diluted_wines", "proline"]


def wine():
    """The 13 features in float32, scaled, and the cultivar."""
    features, cultivar = load_wine(return_X_y=True)
    return StandardScaler().fit_transform(features).astype(np.float32), cultivar


def frame():
    """Four features and a class of colour, with their names, and the cultivar in words."""
    wine = load_wine(as_frame=True)
    features = wine.data[NUMBERS].copy()
    features["colour"] = np.where(wine.data.color_intensity > 4, "deep", "pale")
    return features, wine.target_names[wine.target]


def logistic():
    return LogisticRegression().fit(*wine())


def table(last=None):
    head = ColumnTransformer([("numbers", StandardScaler(), NUMBERS), ("words", OneHotEncoder(), ["colour"])])
    return Pipeline([("head", head), ("tail", last or LogisticRegression(max_iter=1000))]).fit(*frame())


def forest():
    return RandomForestClassifier(10, random_state=0).fit(*wine())


def hist():
    return HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(*wine())


def neighbours():
    return make_pipeline(PCA(3), KNeighborsClassifier(3)).fit(*wine())


def regressor():
    features, cultivar = wine()
    return LinearRegression().fit(features, np.stack([cultivar, features[:, 0]], 1))


def transformer():
    return make_pipeline(StandardScaler(), PCA(3)).fit(wine()[0])


def columns():
    """Names, but nothing that picks columns by them."""
    features, cultivar = frame()
    return RandomForestClassifier(5, random_state=0).fit(features[NUMBERS], cultivar)


def machine(**kwargs):
    features, cultivar = wine()
    return SVC(**kwargs).fit(features, cultivar > 0)


def unknown():
    return Pipeline([("scale", StandardScaler()), ("sources", FastICA(3, max_iter=2000))]).fit(wine()[0])


def unfitted():
    return Pipeline([("scale", StandardScaler().fit(wine()[0])), ("classify", LogisticRegression())])


def light(cls="LGBMClassifier"):
    import lightgbm

    made = getattr(lightgbm, cls)(n_estimators=5, verbose=-1, n_jobs=1, deterministic=True, force_col_wise=True)
    return made.fit(*wine())


def extreme(cls="XGBClassifier", names=False):
    import xgboost

    features, cultivar = wine()
    if names:
        import pandas

        features = pandas.DataFrame(features, columns=[f"f {number}" for number in range(13)])
    return getattr(xgboost, cls)(n_estimators=5, n_jobs=1).fit(features, cultivar)


def booster():
    return light().booster_


def ranking():
    import lightgbm

    features, cultivar = wine()
    data = lightgbm.Dataset(features, cultivar / 2)
    return lightgbm.train({"objective": "cross_entropy_lambda", "verbose": -1, "num_threads": 1}, data, 2)


def counted():
    import xgboost

    features, cultivar = wine()
    data = xgboost.DMatrix(features, label=cultivar, group=[89, 89])
    return xgboost.train({"objective": "rank:pairwise", "nthread": 1}, data, 2)


def labels():
    from sklearn.multioutput import MultiOutputClassifier

    features, cultivar = wine()
    return MultiOutputClassifier(LogisticRegression()).fit(features, np.stack([cultivar, cultivar > 1], 1))


def documents():
    from sklearn.feature_extraction.text import CountVectorizer

    return make_pipeline(CountVectorizer(), LogisticRegression()).fit(["one two", "three four"], [0, 1])


def nothing():
    return {"model": 1}
'''
MATRIX = """\
version: 1
name: {name}
model: {{sklearn: {{{options}}}}}
export:
  opset: {opset}
  inputs: {{X: {{dtype: float32, shape: [4, 13]}}}}
  outputs: [{outputs}]
  dynamic_axes: {axes}
  dims: {{rows: {{min: 1, max: 64}}}}
parity: {{rtol: 1.0e-4, atol: 1.0e-5}}
"""
# Types, shapes, outputs and axes are left out, and asked of the model.
TABLE = """\
version: 1
name: table
model: {sklearn: {factory: "models.zoo:table"}}
export:
  opset: 21
  inputs:
    alcohol: {data: {uniform: {low: 11, high: 15}}}
    hue: {data: {uniform: {low: 0.5, high: 1.7}}}
    od280/od315_of_diluted_wines: {data: {uniform: {low: 1.2, high: 4}}}
    proline: {data: {uniform: {low: 280, high: 1700}}}
    colour: {data: {values: [deep, pale, pale]}}
  dims: {batch: {min: 1, max: 64}}
"""
BUILT = {
    "logistic": ('factory: "models.zoo:logistic", zipmap: columns', "label, first, second, third", 22),
    "forest": ('factory: "models.zoo:forest"', "label, probabilities", 18),
    "hist": ('factory: "models.zoo:hist", options: {raw_scores: true}', "probabilities, label", 18),
    "neighbours": ('factory: "models.zoo:neighbours"', "label, probabilities", 20),
    "regressor": ('factory: "models.zoo:regressor"', "both", 18),
    "saved": ("path: saved.skops", "principal", 18),
    "light": ("path: light.txt", "label, probabilities", 15),
    "extreme": ("path: extreme.json", "label, probabilities", 15),
}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Workspace:
    """A project with the factories, and the files of three libraries; nothing is built in it yet."""
    workspace = Workspace.make(tmp_path_factory.mktemp("zoo") / "project")
    workspace.write("models/zoo.py", ZOO)
    workspace.write("models/__init__.py", "")
    code = """\
        import skops.io
        from models import zoo
        skops.io.dump(zoo.transformer(), "saved.skops")
        skops.io.dump(zoo.hist(), "hist.skops")
        zoo.light().booster_.save_model("light.txt")
        zoo.extreme().save_model("extreme.json")
        zoo.extreme(names=True).save_model("named.ubj")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=workspace.root, check=True, capture_output=True)
    return workspace


@pytest.fixture(scope="module")
def built(zoo) -> Workspace:
    """All of them built in one run."""
    zoo.write("table.yaml", TABLE)
    for name, (options, outputs, opset) in BUILT.items():
        axes = ", ".join(f"{one}: {{0: rows}}" for one in ("X", *outputs.split(", ")))
        text = MATRIX.format(name=name, options=options, outputs=outputs, opset=opset, axes=f"{{{axes}}}")
        zoo.write(f"{name}.yaml", text)
    zoo.run("run", "table.yaml", *(f"{name}.yaml" for name in BUILT))
    return zoo


@pytest.fixture
def models(zoo, monkeypatch):
    """The factories, in this process."""
    monkeypatch.syspath_prepend(zoo.root)
    import models.zoo

    yield models.zoo
    for name in ("models.zoo", "models"):
        del sys.modules[name]


def results(workspace: Workspace, name: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    path = workspace.root / f"build/{name}/model.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return dict(zip([one.name for one in session.get_outputs()], session.run(None, feeds), strict=True))


def test_a_table_with_words_gives_the_pipelines_own_labels_on_the_real_wines(built, models):
    features, _ = models.frame()
    feeds = {name: features[[name]].to_numpy(np.float32) for name in models.NUMBERS}
    feeds["colour"] = features[["colour"]].to_numpy(object)
    got = results(built, "table", feeds)
    own = models.table()

    assert (got["label"] == own.predict(features)).all()
    np.testing.assert_allclose(got["probabilities"], own.predict_proba(features), atol=1e-5)
    model = onnx.load(built.root / "build/table/model.onnx")
    assert interface.signature(model)["inputs"] == [
        *({"name": name, "dtype": "float32", "shape": ["batch", 1]} for name in models.NUMBERS),
        {"name": "colour", "dtype": "string", "shape": ["batch", 1]},
    ]
    assert [value["dtype"] for value in interface.signature(model)["outputs"]] == ["string", "float32"]
    assert {one.domain: one.version for one in model.opset_import}[""] == 21


def test_labels_are_equal_and_scores_close_on_the_real_wines(built, models):
    features, _ = models.wine()
    got = {name: results(built, name, {"X": features}) for name in BUILT}
    own = models.logistic()
    assert (got["logistic"]["label"] == own.predict(features)).all()
    np.testing.assert_allclose(got["logistic"]["second"], own.predict_proba(features)[:, 1], atol=1e-5)
    hist = models.hist()
    assert list(got["hist"]) == ["probabilities", "label"]
    np.testing.assert_allclose(got["hist"]["probabilities"], hist.decision_function(features), atol=1e-5)
    for name, own in (
        ("forest", models.forest()),
        ("neighbours", models.neighbours()),
        ("light", models.light()),
        ("extreme", models.extreme()),
    ):
        assert (got[name]["label"] == own.predict(features)).all(), name
        np.testing.assert_allclose(got[name]["probabilities"], own.predict_proba(features), atol=1e-5)
    np.testing.assert_allclose(got["regressor"]["both"], models.regressor().predict(features), atol=1e-4)
    np.testing.assert_allclose(got["saved"]["principal"], models.transformer().transform(features), atol=1e-4)


def test_what_is_published_is_what_was_asked(built):
    for name, (_, outputs, opset) in BUILT.items():
        model = onnx.load(built.root / f"build/{name}/model.onnx")
        onnx.checker.check_model(model, full_check=True)
        assert [one.domain for one in model.opset_import] == ["", "ai.onnx.ml"]
        assert interface.opset(model) == opset
        signature = interface.signature(model)
        assert [value["name"] for value in signature["outputs"]] == outputs.split(", ")
        assert {value["shape"][0] for value in signature["outputs"]} == {"rows"}
    notes = [note for stage in built.report("light")["stages"] for note in stage["notes"]]
    assert "onnxmltools gave opset 9: brought to 15 by ONNX's own converter" in notes
    assert {row["status"] for row in built.report("forest")["parity"]} == {"passed"}


@pytest.mark.parametrize("labels", [[0, 1, 2], ["a", "b", "c"]])
def test_a_wrong_label_fails_whatever_the_tolerance(labels):
    reference = np.array(labels, np.int64 if isinstance(labels[0], int) else object)
    facts = allclose.measure(reference[[0, 2, 1]], reference)
    judged = allclose.judge({**facts, "shape": [3], "dtype": "int64"}, allclose.Options(rtol=0.9, atol=100.0))
    assert judged.kind == "unequal"


CONVERT = """\
import hashlib, sys
from pathlib import Path
from models import zoo
from onnxbuild.graphs import normalise
from onnxbuild.sources.sklearn import converting
names = sys.argv[1].split(",")
for name in names:
    asked = {"inputs": {"X": {"dtype": "float32", "shape": [4, 13]}}, "exporter": "skl2onnx", "opset": 21}
    asked["outputs"] = ["y"] if name in ("regressor", "transformer") else ["label", "probabilities"]
    made, _ = converting.convert(getattr(zoo, name)(), {}, asked, Path())
    normalise.normalise(made)
    print(name, hashlib.sha256(made.SerializeToString(deterministic=True)).hexdigest())
"""


def test_the_same_bytes_in_other_processes_and_after_other_conversions(zoo):
    """skl2onnx names values after what it converted before, and after the order of sets."""
    names = ["logistic", "neighbours", "forest", "hist", "regressor", "transformer", "light", "extreme"]
    said = set()
    for seed, order in (("1", names), ("2", ["neighbours", *reversed(names)])):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(zoo.root), *sys.path])}
        command = [sys.executable, "-W", "ignore", "-c", CONVERT, ",".join(order)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        said |= set(done.stdout.splitlines())
    assert sorted(line.partition(" ")[0] for line in said) == sorted(names)


def convert(model, section=None, exporter="skl2onnx", **asked):
    """Convert in this process, by a recipe for a matrix unless `asked` says otherwise."""
    from onnxbuild.sources.sklearn import converting

    whole = {
        "inputs": {"X": {"dtype": "float32", "shape": [4, 13]}},
        "outputs": ["label", "probabilities"],
        "opset": 18,
        "dynamic_axes": {"X": {"0": "rows"}},
    }
    return converting.convert(model, section or {}, {**whole, "exporter": exporter, **asked}, Path())[0]


@pytest.mark.filterwarnings("ignore")
class TestInThisProcess:
    """What a stage says, without the run around it."""

    def test_columns_that_nothing_picks_by_name_are_joined(self, models):
        inputs = {name: {"dtype": "float32", "shape": [3, 1]} for name in reversed(models.NUMBERS)}
        made = convert(models.columns(), inputs=inputs)
        features, _ = models.frame()
        session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
        got = session.run(["label"], {name: features[[name]].to_numpy(np.float32)[:3] for name in inputs})[0]
        assert [value.name for value in made.graph.input] == list(inputs)
        assert (got == models.columns().predict(features[models.NUMBERS])[:3]).all()

    def test_numbers_in_float64_stay_so(self, models):
        inputs = {"X": {"dtype": "float64", "shape": [4, 13]}}
        made = convert(models.regressor(), inputs=inputs, outputs=["y"])
        assert interface.signature(made)["outputs"] == [{"name": "y", "dtype": "float64", "shape": ["rows", 2]}]

    @pytest.mark.parametrize("name", ["LGBMRegressor", "XGBRegressor"])
    def test_boosted_numbers_by_both_exporters(self, models, name):
        model = models.light(name) if name[0] == "L" else models.extreme(name, names=True)
        features, _ = models.wine()
        for exporter, opset in (("skl2onnx", 22), ("onnxmltools", 15)):
            made = convert(model, exporter=exporter, opset=opset, outputs=["y"])
            session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
            expected = model.predict(features).reshape(-1, 1)
            np.testing.assert_allclose(session.run(None, {"X": features})[0], expected, atol=1e-5)

    def test_boosted_trees_inside_a_pipeline(self, models):
        made = convert(
            models.table(models.light().set_params(min_child_samples=5)), inputs=of_table(), exporter="skl2onnx"
        )
        assert "TreeEnsembleClassifier" in {node.op_type for node in made.graph.node}

    def test_files_of_boosters(self, zoo, models):
        from onnxbuild.sources.sklearn import describing, loading

        named = loading.model({}, zoo.root / "named.ubj", zoo.root)
        features, _ = models.wine()
        assert (named.predict(features) == models.extreme().predict(features)).all()
        found = describing.interface({}, zoo.root / "light.txt", zoo.root)
        assert msgspec.to_builtins(found)["outputs"] == [
            {"name": "label", "dtype": "int64", "shape": ["batch"]},
            {"name": "probabilities", "dtype": "float32", "shape": ["batch", 3]},
        ]

    def test_what_init_is_told(self, zoo, models):
        from onnxbuild.sources.sklearn import describing

        found = describing.inspection({"factory": "models.zoo:table"}, None, zoo.root)
        assert found.data == {"colour": {"values": ["deep", "pale"]}}
        assert source.recognised(zoo.root / "extreme.json", "extreme.json") == {"path": "extreme.json"}
        assert source.recognised(zoo.root / "named.ubj", "named.ubj") == {"path": "named.ubj"}
        assert source.recognised(zoo.root / "light.txt", "light.txt") == {"path": "light.txt"}
        assert source.recognised(zoo.root / "saved.skops", "saved.skops") == {"path": "saved.skops"}
        assert source.recognised(zoo.write("other.json", '{"a": 1}'), "other.json") is None

    @pytest.mark.parametrize(
        ("made", "changes", "fact", "hint"),
        [
            (
                "logistic",
                {"inputs": {"X": {"dtype": "float32", "shape": [4, 12]}}},
                "has 12 columns, and the model was fitted on 13",
                "shape: [4, 13]",
            ),
            (
                "logistic",
                {"inputs": {"X": {"dtype": "float32", "shape": [4]}}},
                "has the shape [4], and an estimator takes rows",
                "shape: [batch, 13]",
            ),
            (
                "logistic",
                {"inputs": {"X": {"dtype": "uint8", "shape": [4, 13]}}},
                "is uint8, for which skl2onnx has no type",
                "it has float32",
            ),
            (
                "logistic",
                {"outputs": ["y"]},
                "the model has 2 outputs (label, probabilities), the recipe names 1",
                "known here: label, probabilities",
            ),
            (
                "logistic",
                {"inputs": {name: {"dtype": "float32", "shape": [4, 1]} for name in "ab"}},
                "the recipe has 2 inputs, and the model was fitted on 13 features without names",
                "declare one matrix [batch, 13], or a column for each in order",
            ),
            (
                "logistic",
                {"section": {"options": {"raw_score": True}}},
                "no option 'raw_score'",
                "did you mean 'raw_scores'?",
            ),
            (
                "logistic",
                {"section": {"options": {"LogisticRegresion": {"nocl": True}}}},
                "no step or class 'LogisticRegresion'",
                "did you mean 'LogisticRegression'?",
            ),
            (
                "logistic",
                {"exporter": "onnxmltools", "opset": 15},
                "onnxmltools converts models of LightGBM and XGBoost, and the model is a LogisticRegression",
                "use exporter: skl2onnx",
            ),
            (
                "light",
                {"exporter": "onnxmltools", "section": {"options": {"nocl": True}}},
                "'options' is skl2onnx's, and the exporter is onnxmltools",
                "use exporter: skl2onnx",
            ),
            ("machine", {}, "the model is a SVC fitted without probability", "options: {raw_scores: true}"),
            (
                "labels",
                {},
                "the model is a MultiOutputClassifier of several labels, whose scores are a sequence",
                "build a model for each label",
            ),
            (
                "documents",
                {},
                "the model begins with CountVectorizer: it takes documents",
                "put it behind a ColumnTransformer, fitted on a table",
            ),
            (
                "unknown",
                {},
                "the step 'sources' is a FastICA, which skl2onnx has no converter for",
                "choose an estimator that it has, or register one in the factory: skl2onnx.update_registered_converter",
            ),
            (
                "table",
                {},
                "the model picks columns by name ('alcohol'), and the recipe has one matrix, 'X'",
                "declare an input [batch, 1] for each: alcohol, hue",
            ),
            (
                "table",
                {"inputs": lambda: of_table(hue=None, Hue={"dtype": "float32", "shape": [4, 1]})},
                "it was fitted on hue, which the recipe lacks; the recipe has Hue, which it never saw",
                "did you mean 'hue'?",
            ),
            (
                "table",
                {"inputs": lambda: of_table(colour={"dtype": "float32", "shape": [4, 1]})},
                "input 'colour' is float32, and the model learned text there: deep, pale",
                "dtype: string",
            ),
            (
                "table",
                {"inputs": lambda: of_table(hue={"dtype": "string", "shape": [4, 1]})},
                "input 'hue' is a string, and the model takes numbers there",
                "dtype: float32",
            ),
        ],
    )
    def test_what_can_not_be_converted_is_told(self, models, made, changes, fact, hint):
        changes = {name: value() if callable(value) else value for name, value in changes.items()}
        if made == "table" and "inputs" not in changes:
            changes["inputs"] = {"X": {"dtype": "float32", "shape": [4, 5]}}
        with pytest.raises(StageError) as told:
            convert(getattr(models, made)(), **changes)
        assert fact in told.value.fact
        assert hint in told.value.hint

    def test_a_booster_is_no_estimator(self, zoo):
        from onnxbuild.sources.sklearn import loading

        made = loading.model({"factory": "models.zoo:booster"}, None, zoo.root)
        with pytest.raises(StageError, match="skl2onnx converts estimators, and this is a booster") as told:
            convert(made)
        assert told.value.hint == "use exporter: onnxmltools"
        assert convert(made, exporter="onnxmltools", opset=15).graph.output[0].name == "label"

    @pytest.mark.parametrize(
        ("file", "content", "fact", "hint"),
        [
            (
                "m.skops",
                pickle.dumps(1),
                "m.skops is no .skops file but a pickle",
                "skops.io.dump(joblib.load('m.skops'), 'm.skops')",
            ),
            (
                "m.skops",
                b"PK\x03\x04 and nothing else",
                "is no .skops file but a pickle or another archive",
                "if you trust it",
            ),
            ("m.skops", b"plain", "m.skops is no .skops file", "write it with skops.io.dump"),
            ("m.json", b"{}", "m.json is not a model that XGBoost can read", "save it with save_model of the library"),
            (
                "m.txt",
                b"tree\nrest",
                "m.txt is not a model that LightGBM can read",
                "save it with save_model of the library",
            ),
        ],
    )
    def test_files_that_are_no_models(self, tmp_path, file, content, fact, hint):
        from onnxbuild.sources.sklearn import loading

        (tmp_path / file).write_bytes(content)
        with pytest.raises(StageError) as told:
            loading.model({}, tmp_path / file, tmp_path)
        assert fact in told.value.fact
        assert hint in told.value.hint

    @pytest.mark.parametrize(
        ("factory", "objective"), [("ranking", "cross_entropy_lambda"), ("counted", "rank:pairwise")]
    )
    def test_objectives_that_have_no_converter(self, zoo, factory, objective):
        from onnxbuild.sources.sklearn import loading

        with pytest.raises(StageError) as told:
            loading.model({"factory": f"models.zoo:{factory}"}, None, zoo.root)
        assert f"has the objective {objective}, which onnxmltools has no converter for" in told.value.fact
        assert "it converts objectives that begin with " in told.value.hint

    @pytest.mark.parametrize(
        ("section", "said"),
        [({"black_op": ["MatMul"]}, "is black listed"), ({"white_op": ["Cast"]}, "is not white listed")],
    )
    def test_operators_that_may_not_be_used(self, models, section, said):
        from onnxbuild.sources.sklearn import failing

        with pytest.raises(RuntimeError, match=said) as told:
            convert(models.neighbours(), section)
        explained = failing.explain(told.value, "", Path())
        assert explained.hint == "allow it in white_op or black_op, or choose an estimator that needs none"

    def test_a_file_of_something_else(self, tmp_path):
        import skops.io

        from onnxbuild.sources.sklearn import loading

        skops.io.dump({"a": 1}, tmp_path / "m.skops")
        with pytest.raises(StageError, match=r"m\.skops holds a dict, not an estimator") as told:
            loading.model({}, tmp_path / "m.skops", tmp_path)
        assert told.value.hint == "save the estimator itself"

    def test_types_that_are_not_trusted_are_named_and_can_be(self, zoo):
        from onnxbuild.sources.sklearn import loading

        with pytest.raises(StageError, match=r"holds types that are not trusted: .*TreePredictor") as told:
            loading.model({}, zoo.root / "hist.skops", zoo.root)
        listed = told.value.hint.partition("if you trust who made it, say so: trusted: ")[2]
        made = loading.model({"trusted": listed.strip("[]").split(", ")}, zoo.root / "hist.skops", zoo.root)
        assert type(made).__name__ == "HistGradientBoostingClassifier"

    @pytest.mark.parametrize(
        ("factory", "fact", "hint"),
        [
            (
                "unfitted",
                "the step 'classify' is a LogisticRegression, which is not fitted",
                "fit it before it is returned or saved",
            ),
            (
                "nothing",
                "the factory models.zoo:nothing gave a dict, not an estimator",
                "return the fitted estimator or pipeline itself",
            ),
        ],
    )
    def test_factories_that_give_no_fitted_estimator(self, zoo, factory, fact, hint):
        from onnxbuild.sources.sklearn import loading

        with pytest.raises(StageError) as told:
            loading.model({"factory": f"models.zoo:{factory}"}, None, zoo.root)
        assert (told.value.fact, told.value.hint) == (fact, hint)


def of_table(**changes):
    names = ("alcohol", "hue", "od280/od315_of_diluted_wines", "proline")
    inputs = {name: {"dtype": "float32", "shape": [4, 1]} for name in names}
    inputs["colour"] = {"dtype": "string", "shape": [4, 1], "data": {"values": ["deep", "pale"]}}
    return {name: spec for name, spec in {**inputs, **changes}.items() if spec is not None}


WRONG = """\
version: 1
name: m
model: {{sklearn: {options}}}
export: {{inputs: {{X: {{dtype: float32, shape: [4, 13]}}}}, outputs: [y]}}
"""


@pytest.mark.parametrize(
    ("options", "place", "fact", "hint"),
    [
        (
            "{}",
            "model.sklearn",
            "it has neither 'path' nor 'factory'",
            "path is a fitted model's file, factory a function that gives one",
        ),
        (
            "{path: light.txt, factory: 'models.zoo:light'}",
            "model.sklearn.factory",
            "a model comes from a file or from a factory, and 'path' is given too",
            "remove one of them",
        ),
        (
            "{path: m.pkl}",
            "model.sklearn.path",
            "'m.pkl' is a pickle, and reading one runs whatever code is in it",
            source.conversion("m.pkl"),
        ),
        (
            "{path: m.bin}",
            "model.sklearn.path",
            "the name 'm.bin' does not say what kind of model it is",
            "name it .skops (scikit-learn), .json or .ubj (XGBoost) or .txt (LightGBM)",
        ),
        (
            "{path: light.txt, kwargs: {a: 1}}",
            "model.sklearn.kwargs",
            "'kwargs' is for a factory",
            "remove it: a file holds the fitted model",
        ),
        (
            "{factory: 'models.zoo:logistic', options: {LogisticRegression: {zipmap: true}}}",
            "model.sklearn.options",
            "with zipmap the scores are a sequence of maps, and only tensors can be built",
            "zipmap: columns beside `options` gives an output for each class, nothing one matrix",
        ),
        (
            "{path: light.txt, black_op: [Scaler]}",
            "model.sklearn.black_op",
            "'black_op' is skl2onnx's, and onnxmltools converts this file",
            "remove it",
        ),
        ("{path: light.txt, trusted: [a.b]}", "model.sklearn.trusted", "'trusted' is of .skops files", "remove it"),
        (
            "{factory: 'models.zoo:forest', options: {decision_leaf: true}}",
            "model.sklearn.options",
            "the option 'decision_leaf' adds an output that scikit-learn has no result for to be held against",
            "leave 'decision_leaf' out",
        ),
        (
            "{factory: 'models.zoo:forest', package: a}",
            "model.sklearn.package",
            "'package' is of a file, and there is no 'path'",
            "add path, or remove it",
        ),
    ],
)
def test_what_is_known_to_be_wrong_before_anything_is_built(zoo, options, place, fact, hint):
    zoo.write("wrong.yaml", WRONG.format(options=options))
    with pytest.raises(UserError) as told:
        recipe.load(zoo.root / "wrong.yaml")
    found = [(problem.where, problem.fact, problem.hint) for problem in told.value.problems]
    assert (place, fact, hint) in found


def test_the_line_that_converts_a_pickle_does_so(zoo, tmp_path):
    import joblib

    joblib.dump({"a": 1}, tmp_path / "m.pkl")
    command = source.conversion("m.pkl").partition("python -c ")[2].partition(", and set path to 'm.skops'")[0]
    subprocess.run([sys.executable, "-c", command.strip('"')], cwd=tmp_path, check=True)
    assert (tmp_path / "m.skops").is_file()
    assert source.conversion("m.pkl").startswith("if you trust it, convert it once: ")


def test_an_extra_that_is_missing_is_named_before_anything_is_built(zoo, monkeypatch):
    found = importables.folder_of
    monkeypatch.setattr(importables, "folder_of", lambda name: None if name in ("skops", "lightgbm") else found(name))
    for path, package, extra in (("saved.skops", "skops", "sklearn"), ("light.txt", "lightgbm", "boosters")):
        zoo.write("wrong.yaml", WRONG.format(options=f"{{path: {path}}}"))
        with pytest.raises(UserError, match=f"it needs {package}, which is not installed") as told:
            recipe.load(zoo.root / "wrong.yaml")
        assert f"pip install 'onnxbuild[{extra}]'" in str(told.value)


def test_an_unknown_estimator_is_named_with_its_step_by_the_command(zoo):
    zoo.write("unknown.yaml", 'version: 1\nname: unknown\nmodel: {sklearn: {factory: "models.zoo:unknown"}}\n')
    ran = zoo.run("run", "unknown.yaml", code=2)
    assert "model: the step 'sources' is a FastICA, which skl2onnx has no converter for" in ran.err


def test_a_word_that_the_model_never_saw_is_told_with_the_data(zoo):
    zoo.write("words.yaml", TABLE.replace("name: table", "name: words").replace("[deep, pale, pale]", "[blue]"))
    ran = zoo.run("run", "words.yaml", code=1)
    assert "Found unknown categories ['blue'] in column 0" in ran.err
    assert "give the input data that the model was fitted for, as in data: {values: [red, white]}" in ran.err
