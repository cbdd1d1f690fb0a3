"""Device, precision and memory format from what the machine has."""

import pytest
import torch

from diptych import machine
from diptych.types import InputError


def test_a_device_that_is_not_there_is_one_sentence():
    assert machine.best_device("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match='expected "auto", "cpu"'):
        machine.best_device("fridge")
    with pytest.raises(InputError, match=r"'cuda:99' was asked for, this machine has \d+ CUDA devices"):
        machine.best_device("cuda:99")


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="the answer without a GPU")
def test_without_a_gpu_the_best_device_is_the_cpu():
    assert machine.best_device() == torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "pays"), [({"avx2", "avx512f"}, False), ({"avx512_bf16"}, True), ({"amx_bf16"}, True), (set(), False)]
)
def test_bf16_on_a_cpu_only_where_it_is_native(monkeypatch, flags, pays):
    monkeypatch.setattr(machine, "_cpu_flags", lambda: frozenset(flags))
    assert machine.bf16_pays("cpu") is pays
    assert machine.uses_bf16("cpu", "auto") is pays
    assert machine.uses_bf16("cpu", "bf16")
    assert not machine.uses_bf16("cpu", "fp32")
    a = torch.ones(2, 2)
    for precision, expected in (
        ("auto", torch.bfloat16 if pays else torch.float32),
        ("fp32", torch.float32),
        ("bf16", torch.bfloat16),
    ):
        with machine.autocast("cpu", precision):
            assert (a @ a).dtype == expected


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match='expected "auto", "fp32" or "bf16"'):
        machine.autocast("cpu", "fp16")


def test_the_flags_come_from_the_system():
    assert all(isinstance(flag, str) for flag in machine._cpu_flags())
    assert machine.channels_last_pays("cpu")
    assert not machine.channels_last_pays("mps")
