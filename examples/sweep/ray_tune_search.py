"""Ray Tune runs cells side by side, and ASHA stops those that learn slowly.

    pip install "ray[tune]"
    python3 examples/sweep/ray_tune_search.py [TRIALS]

Each trial has a process of its own, which stops with a checkpoint when Ray ends the trial, since
nobody reads it any more.
"""

import json
import pathlib
import subprocess
import sys

from ray import tune
from ray.tune.schedulers import ASHAScheduler

FILE = pathlib.Path(__file__).resolve().with_name("search.toml")
FOLDER = pathlib.Path("runs/ray").absolute()
EPOCHS = 10


def train(settings):
    command = ["lowbit", "sweep", "ask", FILE, "--out", FOLDER, "--threads", "1"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as lowbit:
        # The end of the input is the end of the search for this process, not of the cell.
        print(json.dumps(settings), file=lowbit.stdin)
        lowbit.stdin.close()
        for event in map(json.loads, lowbit.stdout):
            if event["event"] == "epoch":
                held_out = event["held_out"]["accuracy"]
                tune.report({"accuracy": held_out, "epoch": event["epoch"]})
            elif event["event"] == "error":
                raise RuntimeError(event["message"])


tuner = tune.Tuner(
    tune.with_resources(train, {"cpu": 1}),
    param_space={
        "bits": tune.choice([1, 2, 3, 4, 8]),
        "lr": tune.loguniform(1e-3, 1e-1),
        "seed": tune.randint(0, 1000),
    },
    tune_config=tune.TuneConfig(
        metric="accuracy",
        mode="max",
        num_samples=int((sys.argv + ["8"])[1]),
        scheduler=ASHAScheduler(time_attr="epoch", max_t=EPOCHS, grace_period=2),
    ),
)
results = tuner.fit()
best = results.get_best_result()
print(f"best: {best.config}, accuracy {best.metrics['accuracy']:.4f}, of {len(results)} trials")
