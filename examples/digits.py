"""Train a small CNN on the 1,797 handwritten digits that scikit-learn brings along: ``python examples/digits.py``.

Validates after each epoch, stops when the accuracy no longer improves, and leaves in ``runs/digits/``: the best model,
the metrics of each epoch as JSON lines, and their curves.
"""

import argparse
import json
import os
from pathlib import Path

import matplotlib
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from ignite_contrib.loggers import ProgressBar
from ignite_core.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite_core.metrics import Accuracy, Loss, RunningAverage

matplotlib.use("agg")
from matplotlib import pyplot as plt


def loaders(seed, device):
    """Four fifths of the images to train on, the others to validate; pixels between 0 and 1."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32, device=device).unsqueeze(1) / 16
    labels = torch.tensor(digits.target, device=device)
    generator = torch.Generator().manual_seed(seed)
    train, valid = random_split(TensorDataset(images, labels), [0.8, 0.2], generator)
    return DataLoader(train, batch_size=64, shuffle=True), DataLoader(valid, batch_size=256)


def small_cnn():
    """Two convolutions and a linear layer, for images of 8 x 8 pixels."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 4 * 4, 10)),
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


def main(options):
    """Train, validate and report."""
    torch.set_num_threads(1)  # the images are so small that more threads only wait for each other
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    train_loader, valid_loader = loaders(options.seed, options.device)
    model = small_cnn().to(options.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)
    loss_fn = nn.CrossEntropyLoss()

    trainer = create_supervised_trainer(model, optimizer, loss_fn, device=options.device)
    evaluator = create_supervised_evaluator(
        model, metrics={"accuracy": Accuracy(), "loss": Loss(loss_fn)}, device=options.device
    )
    RunningAverage(alpha=0.9, output_transform=lambda loss: loss).attach(trainer, "train_loss")
    ProgressBar(persist=True).attach(trainer, ["train_loss"])

    history = []
    (options.out / "metrics.jsonl").unlink(missing_ok=True)

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate():
        metrics = {**trainer.state.metrics, **evaluator.run(valid_loader).metrics}
        history.append({"epoch": trainer.state.epoch, **metrics})
        with (options.out / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(history[-1]) + "\n")

    @trainer.on(Events.EPOCH_COMPLETED)
    def keep_the_best_and_stop_when_there_is_no_better():
        best = max(history, key=lambda line: line["accuracy"])
        if best is history[-1]:
            save_safely(lambda path: torch.save(model.state_dict(), path), options.out / "best_model.pt")
        elif trainer.state.epoch - best["epoch"] >= options.patience:
            trainer.terminate()

    @trainer.on(Events.COMPLETED)
    def report():
        draw_curves(history, options.out / "curves.png")
        best = max(history, key=lambda line: line["accuracy"])
        print(f"best validation accuracy {best['accuracy']:.4f} in epoch {best['epoch']}; see {options.out}/")

    trainer.run(train_loader, max_epochs=options.epochs, epoch_length=3 if options.smoke else None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30, help="at most so many")
    parser.add_argument("--patience", type=int, default=5, help="epochs without a better accuracy before it stops")
    parser.add_argument("--lr", type=float, default=2e-3, help="learning rate of Adam")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the weights and the order of the images")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, …")
    parser.add_argument("--out", type=Path, default=Path("runs/digits"), help="folder for what the run leaves")
    parser.add_argument("--smoke", action="store_true", help="two epochs of three batches, to see that it works")
    options = parser.parse_args()
    if options.smoke:
        options.epochs = 2
    main(options)
