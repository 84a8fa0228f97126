"""Two processes that merge their statistics learn what one does from the whole batch.

Run as a script, this file is one of the processes: FILE RANK FOLDER.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from audiotokens.quantizers import (
    EMALearning,
    GradientLearning,
    GumbelConfig,
    OnlineClustering,
    Quantizer,
    QuantizerConfig,
    RVQConfig,
    VectorConfig,
    all_reduce_statistics,
    build_quantizer,
)

EXPIRING = VectorConfig(codebook_size=32, learning=EMALearning(decay=0.5, expire_below=1.0))
CONFIGS: dict[str, QuantizerConfig] = {
    "vector": EXPIRING,
    "vector sphere": VectorConfig(
        codebook_size=32, metric="sphere", learning=EMALearning(decay=0.5, smoothing=1e-3, expire_below=1.0)
    ),
    "vector learned": VectorConfig(
        codebook_size=32, codebook_dim=4, learning=GradientLearning(decay=0.5, expire_below=1.0)
    ),
    "vector clustered": VectorConfig(codebook_size=32, clustering=OnlineClustering(sharpness=5.0)),
    "gumbel": GumbelConfig(codebook_size=32),
    "rvq": RVQConfig(num_codebooks=3, inner=EXPIRING),
}
DIM, STEPS = 8, 4


def batch(step: int) -> Tensor:
    latents = torch.randn(4, DIM, 50, generator=torch.Generator().manual_seed(step))
    return latents * torch.arange(1, 5)[:, None, None] + 0.3 * step


def everything(quantizer: Quantizer) -> dict[str, Tensor]:
    tensors = {**dict(quantizer.named_parameters()), **dict(quantizer.named_buffers())}
    return {key: value.detach().contiguous() for key, value in tensors.items()}


def trained(config: QuantizerConfig, part: slice) -> dict[str, Tensor]:
    """All tensors after a few updates; without a process group there is nothing to merge."""
    torch.manual_seed(0)
    quantizer = build_quantizer(config, DIM).train()
    for step in range(STEPS):
        statistics = quantizer(batch(step)[part]).statistics
        quantizer.update(all_reduce_statistics(statistics) if dist.is_initialized() else statistics)
    return everything(quantizer)


def process(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for name, config in CONFIGS.items():
        # Parts of unequal size.
        tensors = trained(config, slice(0, 1) if rank == 0 else slice(1, 4))
        save_file(tensors, folder / f"{name} {rank}.safetensors")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("processes")
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    commands = [[sys.executable, __file__, str(rank), str(path)] for rank in (0, 1)]
    started = [
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for command in commands
    ]
    ends = [one.communicate(timeout=120)[1] for one in started]
    assert [one.returncode for one in started] == [0, 0], ends
    return path


@pytest.mark.parametrize("name", CONFIGS)
def test_two_processes_learn_what_one_does(name: str, folder: Path) -> None:
    first, second = (load_file(folder / f"{name} {rank}.safetensors") for rank in (0, 1))
    expected = trained(CONFIGS[name], slice(None))
    assert first.keys() == second.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], value, rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    process(int(sys.argv[1]), Path(sys.argv[2]))
