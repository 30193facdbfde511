"""Train a small CNN on the 1,797 handwritten digits of scikit-learn: ``python examples/digits.py``.

It validates after each epoch, stops when the accuracy no longer improves, and writes to ``runs/digits/``: the best
model, the metrics of each epoch as CSV, their curves, and TensorBoard files (``tensorboard --logdir runs/digits``). The
learning rate has a warm-up and a cosine decay. Ctrl-C ends the run after the current step; the same command then
resumes it bit for bit. On several processes: ``torchrun --nproc-per-node 2 examples/digits.py``.

Measured with the default options on two CPU cores: 99.16 % of the 359 validation images are correct after epoch 7,
without improvement in the next five epochs; 12 epochs in 14 s.
"""

import argparse
import threading
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset, random_split

import ignite_core.distributed as idist
from ignite_contrib.curves import read_curves
from ignite_contrib.defaults import Defaults
from ignite_contrib.loggers import TensorboardLogger
from ignite_core.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite_core.handlers import ParamScheduler, StopOnSignal, create_lr_scheduler_with_warmup
from ignite_core.handlers.schedules.curves import cosine
from ignite_core.metrics import Accuracy, Loss


def loaders(seed):
    """Four fifths of the images for training, the others for validation; pixels between 0 and 1."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    generator = torch.Generator().manual_seed(seed)
    train, valid = random_split(TensorDataset(images, labels), [0.8, 0.2], generator)
    return (
        idist.auto_dataloader(train, batch_size=64, shuffle=True, drop_last=True),  # 64 over all ranks
        idist.auto_dataloader(valid, batch_size=256, pad=False),  # each image on one rank, so the metrics are exact
    )


def small_cnn():
    """Two convolutions and a linear layer, for images of 8 x 8 pixels; samples of a batch do not affect each other."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.GroupNorm(8, 32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.GroupNorm(8, 64), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64 * 4 * 4, 10)),
    )


def main(local_rank, options):
    """Train, validate and report; the same on every rank."""
    torch.set_num_threads(1)  # for such small images, more threads are slower
    torch.manual_seed(options.seed)
    train_loader, valid_loader = loaders(options.seed)
    model = idist.auto_model(small_cnn())
    optimizer = idist.auto_optim(torch.optim.Adam(model.parameters(), lr=options.lr))
    loss_fn = nn.CrossEntropyLoss()
    epoch_length = 3 if options.smoke else len(train_loader)

    device = idist.device()
    trainer = create_supervised_trainer(model, optimizer, loss_fn, device=device)
    evaluator = create_supervised_evaluator(
        model, metrics={"accuracy": Accuracy(), "loss": Loss(loss_fn)}, device=device
    )

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate():
        evaluator.run(valid_loader)

    falling = ParamScheduler(optimizer, "lr", curve=cosine(options.lr, 0.0, steps=options.epochs * epoch_length))
    schedule = create_lr_scheduler_with_warmup(falling, warmup_start_value=0.0, warmup_duration=epoch_length)
    schedule.attach(trainer)

    defaults = Defaults(options.out, metric="accuracy", patience=options.patience)
    print_once(defaults.attach(trainer, evaluator, to_save={"schedule": schedule}))
    if threading.current_thread() is threading.main_thread():  # other threads, as in Ray Train, cannot catch signals
        StopOnSignal(save=defaults.checkpoint).attach(trainer, evaluator)
    log_to_tensorboard(options.out, trainer, evaluator, optimizer)

    trainer.run(train_loader, max_epochs=options.epochs, epoch_length=epoch_length, seed=options.seed)
    report(options.out)


def log_to_tensorboard(folder, trainer, evaluator, optimizer):
    """Loss and learning rate every few iterations, the metrics of each validation."""
    logger = TensorboardLogger(log_dir=folder / "tensorboard")
    often = Events.ITERATION_COMPLETED(every=5)
    logger.attach_output_handler(trainer, often, "training", output_transform=lambda loss: {"loss": loss})
    logger.attach_opt_params_handler(trainer, often, optimizer)
    logger.attach_output_handler(evaluator, Events.COMPLETED, "validation", metric_names="all")


@idist.one_rank_only()
def report(folder):
    """Print the best accuracy, also of a run that had already ended."""
    accuracy = read_curves(folder / "metrics.csv")["validation/accuracy"]
    best = max(accuracy, key=accuracy.get)
    print(f"best validation accuracy {accuracy[best]:.4f} in epoch {best}; see {folder}/")


@idist.one_rank_only()
def print_once(what):
    """Print on rank 0."""
    print(what)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30, help="largest number of epochs")
    parser.add_argument("--patience", type=int, default=5, help="epochs without improvement before it stops")
    parser.add_argument("--lr", type=float, default=2e-3, help="largest learning rate of Adam")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split, the weights and the order")
    parser.add_argument("--backend", default="gloo", help="backend of the ranks: gloo, or nccl for GPUs")
    parser.add_argument("--out", type=Path, default=Path("runs/digits"), help="folder for the results")
    parser.add_argument("--smoke", action="store_true", help="two epochs of three batches, as a test")
    options = parser.parse_args()
    if options.smoke:
        options.epochs = 2
    with idist.Parallel(backend=options.backend) as parallel:
        parallel.run(main, options)
