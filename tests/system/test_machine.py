"""What decides how numbers are rounded has a name that is the same wherever they are the same."""

from __future__ import annotations

import pytest

from onnxbuild.system import machine

CARD = "NVIDIA H100 PCIe, NVIDIA H100 PCIe; visible: all; NVRM version: NVIDIA UNIX x86_64 Kernel Module 550.54.15"


@pytest.mark.parametrize(
    ("kind", "flags", "gpu", "name"),
    [
        ("x86_64", "avx avx2 avx512f fma", "", "linux-x86_64-avx512"),
        ("x86_64", "avx avx2 fma", "", "linux-x86_64-avx2"),
        ("x86_64", "sse2", "", "linux-x86_64"),
        ("aarch64", "asimd sve avx2", "", "linux-aarch64"),
        ("x86_64", "avx2", CARD, "linux-x86_64-avx2+nvidia-h100-pcie"),
        ("x86_64", "avx2", "none seen", "linux-x86_64-avx2"),
    ],
)
def test_a_platform_by_its_kernels(monkeypatch, kind, flags, gpu, name):
    monkeypatch.setattr(machine, "machine", lambda: kind)
    monkeypatch.setattr(machine, "cpu_flags", lambda: flags)
    monkeypatch.setattr(machine, "gpu", lambda: gpu)
    monkeypatch.setattr(machine.sys, "platform", "linux")

    assert machine.platform(gpu_too=bool(gpu)) == name


def test_this_machine_has_one():
    assert machine.platform().startswith(f"{machine.sys.platform}-{machine.machine()}")
