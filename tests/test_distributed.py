"""In one process every collective is the identity; in two, they do what they say. See also training/test_ranks.py."""

import pytest
import torch

from diptych import distributed


def test_one_process_is_the_identity(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert not distributed.setup()
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    rows = torch.randn(3, 2, requires_grad=True)
    assert distributed.gather_with_grad(rows) is rows
    assert distributed.first_row(3) == 0
    total = distributed.all_sum(rows)
    assert torch.equal(total, rows)
    assert not total.requires_grad
    assert distributed.all_numbers([1, 2.5]) == [[1.0, 2.5]]
    assert distributed.all_objects("a") == ["a"]
    distributed.barrier()
    distributed.teardown()


@pytest.mark.skipif(torch.cuda.is_available(), reason="the answer without a GPU")
def test_the_local_device_without_a_gpu():
    assert distributed.local_device() == torch.device("cpu")
