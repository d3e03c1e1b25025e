"""What vouches for a build: provenance.json, bom.cdx.json, and a signature over the folder."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from small import small
from workspace import Workspace

FOLDER = "build/small"
FILES = ("provenance.json", "bom.cdx.json")
TARGET = "targets: {ort: {optimization_level: basic}}\n"


def project(folder: Path) -> Workspace:
    made = small(Workspace.make(folder), external=False)
    made.write("small.yaml", made.read("small.yaml") + TARGET)
    return made


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    made = project(tmp_path_factory.mktemp("provenance") / "project")
    made.run("lock", "small.yaml")
    return made


def read(workspace: Workspace, name: str) -> dict:
    return json.loads(workspace.read(f"{FOLDER}/{name}"))


def stats(workspace: Workspace) -> list[tuple[int, int]]:
    found = [(workspace.root / FOLDER / name).stat() for name in FILES]
    return [(stat.st_ino, stat.st_mtime_ns) for stat in found]


def digests(workspace: Workspace) -> dict[str, str]:
    return {one["name"]: one["digest"]["sha256"] for one in read(workspace, "provenance.json")["subject"]}


def test_the_statement_is_in_totos_and_its_predicate_slsas(built):
    json_format = pytest.importorskip("google.protobuf.json_format")
    attestation = pytest.importorskip("in_toto_attestation.v1.statement", reason="the extra dev brings it")
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.v1 import statement_pb2

    told = read(built, "provenance.json")
    statement = json_format.ParseDict(told, statement_pb2.Statement())
    attestation.Statement.copy_from_pb(statement).validate()
    predicate = json_format.ParseDict(told["predicate"], provenance_pb2.Provenance())

    assert told["predicateType"] == "https://slsa.dev/provenance/v1"
    assert predicate.build_definition.build_type == "pkg:generic/onnxbuild#recipe/v1"
    assert predicate.run_details.builder.id == "pkg:generic/onnxbuild"
    assert (
        0
        <= predicate.run_details.metadata.finished_on.seconds - predicate.run_details.metadata.started_on.seconds
        < 300
    )


def test_it_names_what_was_built_of_what(built):
    definition = read(built, "provenance.json")["predicate"]["buildDefinition"]
    report = built.report("small")
    folder = built.root / FOLDER

    assert digests(built) == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("model.onnx", "ort/model.ort", "ort/required_operators_and_types.config", "bom.cdx.json")
    }
    assert definition["externalParameters"] == {
        "recipe": {"name": "small", "path": "small.yaml", "sha256": report["recipe"]["resolved_sha256"]}
    }
    source, *packages = definition["resolvedDependencies"]
    assert source == {
        "name": "m.onnx",
        "digest": {"sha256": hashlib.sha256((built.root / "m.onnx").read_bytes()).hexdigest()},
    }
    urls = {one["name"]: one["uri"] for one in packages}
    tools = {name: version for name, version in report["tools"].items() if name != "python"}
    assert {name: urls[name] for name in tools} == {
        name: f"pkg:pypi/{name}@{version.replace('+', '%2B')}" for name, version in tools.items()
    }
    assert urls["cpython"] == f"pkg:generic/cpython@{report['tools']['python'].split()[1]}"


def test_the_bill_of_materials_is_valid_and_names_packages_with_licences(built):
    validation = pytest.importorskip("cyclonedx.validation.json", reason="the extra dev brings it")
    from cyclonedx.schema import SchemaVersion

    assert validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(built.read(f"{FOLDER}/bom.cdx.json")) is None


def test_the_model_card_says_what_a_build_knows(built):
    bill, report = read(built, "bom.cdx.json"), built.report("small")
    model = bill["metadata"]["component"]

    assert (model["type"], model["name"]) == ("machine-learning-model", "small")
    assert model["hashes"][0]["content"] == digests(built)["model.onnx"]
    assert model["modelCard"]["modelParameters"] == {
        "inputs": [{"format": "x: float32[N, 16]"}],
        "outputs": [{"format": "y: float32[N, 32]"}],
    }
    (metric,) = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    last = [row["max_abs"] for row in report["parity"] if row["stage"] == "parity/1-onnxoptimizer"]
    assert float(metric["value"]) == max(last) and metric["slice"].startswith("output y, case ")
    facts = {one["name"]: one["value"] for one in model["properties"]}
    assert facts["onnxbuild:parameters"] == "512"
    assert facts["onnxbuild:recipe_sha256"] == report["recipe"]["resolved_sha256"]
    parts = {one["name"]: one for one in bill["components"]}
    assert parts["m.onnx"]["type"] == "data"
    assert parts["onnx"]["licenses"] == [{"expression": "Apache-2.0"}]
    unknown = [name for name, one in parts.items() if one["type"] == "library" and "licenses" not in one]
    assert unknown == []
    (dependency,) = bill["dependencies"]
    assert dependency["ref"] == model["bom-ref"]
    assert dependency["dependsOn"] == [one["bom-ref"] for one in bill["components"]]


def test_times_stand_in_the_provenance_alone_and_no_path_of_the_machine(built):
    clock = re.compile(r"20\d\d-\d\d-\d\dT|timestamp")
    folder = built.root / FOLDER

    assert clock.search((folder / "provenance.json").read_text())
    for name in ("bom.cdx.json", "manifest.json"):
        assert not clock.search((folder / name).read_text()), name
    for name in FILES:
        assert str(built.root.parent) not in (folder / name).read_text()


def test_equal_builds_differ_in_times_alone(built, tmp_path):
    other = project(tmp_path / "somewhere/else")
    other.run("run", "-j", "1", "small.yaml")

    assert other.read(f"{FOLDER}/bom.cdx.json") == built.read(f"{FOLDER}/bom.cdx.json")
    one, two = (read(workspace, "provenance.json") for workspace in (built, other))
    times = [statement["predicate"]["runDetails"].pop("metadata") for statement in (one, two)]
    assert one == two and times[0] != times[1]


def test_with_nothing_to_do_both_stay_and_what_was_lost_or_edited_comes_back(edited):
    before = {name: edited.read(f"{FOLDER}/{name}") for name in FILES}
    edited.run("run", "small.yaml")
    there = stats(edited)
    for workspace in (edited, edited.thought_over()):
        workspace.run("run", "small.yaml")
    edited.run("verify", "small.yaml")
    assert stats(edited) == there

    for name in FILES:
        path = edited.root / FOLDER / name
        for spoil in (path.unlink, lambda path=path: path.write_text(path.read_text().replace("m.onnx", "n.onnx"))):
            spoil()
            assert name in edited.run("verify", "small.yaml", code=1).out
            edited.run("run", "small.yaml")
            assert edited.built("small") == set()
            edited.run("verify", "small.yaml")
    now = {name: edited.read(f"{FOLDER}/{name}") for name in FILES}
    assert now["bom.cdx.json"] == before["bom.cdx.json"]
    old, new = (json.loads(side["provenance.json"])["predicate"]["runDetails"] for side in (before, now))
    assert new["metadata"] == old["metadata"], (
        "the times of the run that built it, and not of those that found nothing to do"
    )


def test_a_recipe_that_says_the_same_in_other_words_is_the_same(edited):
    before, model = [edited.read(f"{FOLDER}/{name}") for name in FILES], digests(edited)["model.onnx"]
    edited.write("small.yaml", f"# a comment\n{edited.read('small.yaml')}parity: {{rtol: 1.0e-3}}\n")  # the default
    edited.run("run", "small.yaml")

    assert edited.built("small") == set()
    assert [edited.read(f"{FOLDER}/{name}") for name in FILES] == before and digests(edited)["model.onnx"] == model


def test_a_recipe_that_says_something_else_is_named_by_the_same_model(edited):
    """It is stamped anew, and nothing else is built; a lock loses nothing of what it expects on other platforms."""
    platform = edited.report("small")["run"]["machine"]
    lock = edited.read("small.lock.yaml")
    block = lock.partition(f"  {platform}:\n")[2]
    edited.write("small.lock.yaml", f"{lock}  plan9-mips:\n{block}")
    before, times = digests(edited), read(edited, "provenance.json")["predicate"]["runDetails"]["metadata"]
    edited.write("small.yaml", edited.read("small.yaml") + "description: another\n")
    edited.run("lock", "small.yaml")
    now = digests(edited)

    assert edited.built("small") == {"package"}
    assert {name for name in before if before[name] != now[name]} == {"model.onnx", "bom.cdx.json"}
    assert read(edited, "provenance.json")["predicate"]["runDetails"]["metadata"] != times
    after = edited.read("small.lock.yaml")
    assert "plan9-mips:" in after
    digest = re.compile("recipe_sha256: .*")
    assert digest.sub("", after) == digest.sub("", f"{lock}  plan9-mips:\n{block}")
    edited.run("run", "--locked", "small.yaml")
    edited.run("verify", "small.yaml")


def test_a_build_that_failed_has_neither(edited):
    edited.replace("small.yaml", "shape: [2, 16]", "shape: [2, 8]")
    edited.run("run", "small.yaml", code=1)

    assert (edited.root / FOLDER / "model.onnx").exists()
    assert [name for name in FILES if (edited.root / FOLDER / name).exists()] == []


def test_the_folder_is_signed_with_a_key_and_every_change_shows(edited):
    signing = pytest.importorskip("model_signing.signing", reason="the extra sign brings it")
    import model_signing.verifying
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, folder = ec.generate_private_key(ec.SECP256R1()), edited.root / FOLDER
    private, public, signature = (edited.root / name for name in ("key.pem", "key.pub", "small.sig"))
    pem, bare = serialization.Encoding.PEM, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, bare))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))

    def verify() -> None:
        model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public).verify(folder, signature)

    edited.run("run", "small.yaml")  # the report has its last word
    signing.Config().use_elliptic_key_signer(private_key=private).sign(folder, signature)
    verify()
    edited.run("run", "small.yaml")
    verify()  # with nothing to do, nothing is written
    for name in ("model.onnx", "ort/model.ort", "provenance.json"):
        path = folder / name
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(ValueError, match=re.escape(path.name)):
            verify()
        path.write_bytes(good)
    verify()
