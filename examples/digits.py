"""Train a small CNN on the 1,797 handwritten digits that scikit-learn brings along: ``python examples/digits.py``.

Validates after each epoch, stops when the accuracy no longer improves, and leaves in ``runs/digits/``: the best model,
the metrics of each epoch as JSON lines, and their curves. It runs on many processes as it is:
``torchrun --nproc-per-node 2 examples/digits.py``.
"""

import argparse
import json
import os
from pathlib import Path

import matplotlib
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset, random_split

import ignite_core.distributed as idist
from ignite_contrib.loggers import ProgressBar
from ignite_core.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite_core.metrics import Accuracy, Loss, RunningAverage

matplotlib.use("agg")
from matplotlib import pyplot as plt


def loaders(seed):
    """Four fifths of the images to train on, the others to validate; pixels between 0 and 1."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    generator = torch.Generator().manual_seed(seed)
    train, valid = random_split(TensorDataset(images, labels), [0.8, 0.2], generator)
    return (
        idist.auto_dataloader(train, batch_size=64, shuffle=True, drop_last=True),  # 64 over all ranks together
        idist.auto_dataloader(valid, batch_size=256, pad=False),  # each image on one rank, so the metrics are exact
    )


def small_cnn():
    """Two convolutions and a linear layer, for images of 8 x 8 pixels; nothing in it depends on the rest of a batch."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.GroupNorm(8, 32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.GroupNorm(8, 64), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64 * 4 * 4, 10)),
    )


def save_safely(write, path):
    """Let ``write`` make the file beside its place, then move it there: what was there is whole until then."""
    beside = path.with_name(f"new-{path.name}")
    write(beside)
    os.replace(beside, path)


def draw_curves(history, path):
    """Draw losses and accuracy by epoch."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    epochs = [line["epoch"] for line in history]
    for name in ("train_loss", "loss"):
        left.plot(epochs, [line[name] for line in history], label=name)
    right.plot(epochs, [line["accuracy"] for line in history], color="tab:green", label="accuracy")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.legend()
    save_safely(figure.savefig, path)
    plt.close(figure)


def main(local_rank, options):
    """Train, validate and report; the same on every rank, but for what only one of them should write."""
    torch.set_num_threads(1)  # the images are so small that more threads only wait for each other
    torch.manual_seed(options.seed)
    train_loader, valid_loader = loaders(options.seed)
    model = idist.auto_model(small_cnn())
    optimizer = idist.auto_optim(torch.optim.Adam(model.parameters(), lr=options.lr))
    loss_fn = nn.CrossEntropyLoss()

    device = idist.device()
    trainer = create_supervised_trainer(model, optimizer, loss_fn, device=device)
    evaluator = create_supervised_evaluator(
        model, metrics={"accuracy": Accuracy(), "loss": Loss(loss_fn)}, device=device
    )
    RunningAverage(alpha=0.9, output_transform=lambda loss: loss).attach(trainer, "train_loss")
    if idist.get_rank() == 0:
        ProgressBar(persist=True).attach(trainer, ["train_loss"])
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "metrics.jsonl").unlink(missing_ok=True)

    history = []

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate():
        train_loss = idist.all_reduce(float(trainer.state.metrics["train_loss"])) / idist.get_world_size()
        metrics = evaluator.run(valid_loader).metrics
        history.append({"epoch": trainer.state.epoch, "train_loss": train_loss, **metrics})

    @trainer.on(Events.EPOCH_COMPLETED)
    @idist.one_rank_only()
    def write_and_keep_the_best():
        with (options.out / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(history[-1]) + "\n")
        if best() is history[-1]:
            weights = getattr(model, "module", model).state_dict()
            save_safely(lambda path: torch.save(weights, path), options.out / "best_model.pt")

    @trainer.on(Events.EPOCH_COMPLETED)
    def stop_when_there_is_no_better():
        if trainer.state.epoch - best()["epoch"] >= options.patience:
            trainer.terminate()

    @trainer.on(Events.COMPLETED)
    @idist.one_rank_only()
    def report():
        draw_curves(history, options.out / "curves.png")
        print(f"best validation accuracy {best()['accuracy']:.4f} in epoch {best()['epoch']}; see {options.out}/")

    def best():
        return max(history, key=lambda line: line["accuracy"])

    trainer.run(train_loader, max_epochs=options.epochs, epoch_length=3 if options.smoke else None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30, help="at most so many")
    parser.add_argument("--patience", type=int, default=5, help="epochs without a better accuracy before it stops")
    parser.add_argument("--lr", type=float, default=2e-3, help="learning rate of Adam")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the weights and the order of the images")
    parser.add_argument("--backend", default="gloo", help="what the ranks talk through: gloo, or nccl for GPUs")
    parser.add_argument("--out", type=Path, default=Path("runs/digits"), help="folder for what the run leaves")
    parser.add_argument("--smoke", action="store_true", help="two epochs of three batches, to see that it works")
    options = parser.parse_args()
    if options.smoke:
        options.epochs = 2
    with idist.Parallel(backend=options.backend) as parallel:
        parallel.run(main, options)
