"""Run ``digits.py`` in Ray Train, on two workers of this machine: ``python examples/ray_digits.py``.

Ray starts the workers and their process group, which idist uses; ``digits.py`` is unchanged. Requires ``ray[train]``.
"""

import argparse
from pathlib import Path

import digits
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer


def train(config):
    """Run on each worker."""
    digits.main(None, argparse.Namespace(**config))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30, help="largest number of epochs")
    parser.add_argument("--workers", type=int, default=2, help="processes to train on")
    parser.add_argument("--out", type=Path, default=Path("runs/ray_digits"), help="folder for the results")
    options = parser.parse_args()
    out = options.out.absolute()  # workers have their own working directories
    trainer = TorchTrainer(
        train,
        train_loop_config={"epochs": options.epochs, "patience": 5, "lr": 2e-3, "seed": 0, "smoke": False, "out": out},
        scaling_config=ScalingConfig(num_workers=options.workers),
        run_config=RunConfig(name="digits", storage_path=str(out / "ray")),
    )
    trainer.fit()
