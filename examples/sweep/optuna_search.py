"""Optuna proposes widths and learning rates, and prunes by the accuracy of each epoch.

    pip install optuna
    python3 examples/sweep/optuna_search.py [TRIALS]

Run again, it takes up the cells that are in the folder.
"""

import json
import pathlib
import subprocess
import sys

import optuna

FILE = pathlib.Path(__file__).with_name("search.toml")
FOLDER = "runs/optuna"
SPACE = {
    "bits": optuna.distributions.IntDistribution(1, 8),
    "lr": optuna.distributions.FloatDistribution(1e-3, 1e-1, log=True),
}


def train(trial):
    """The accuracy of a trial's cell, or none if it is pruned."""
    print(json.dumps(trial.params), file=lowbit.stdin, flush=True)
    pruned = False
    for event in map(json.loads, lowbit.stdout):
        if event["event"] == "epoch":
            trial.report(event["held_out"]["accuracy"], event["epoch"])
            if not pruned and trial.should_prune():
                print(json.dumps({"stop": event["cell"]}), file=lowbit.stdin, flush=True)
                pruned = True
        elif event["event"] == "result":
            return event["result"]["held_out"]["last"]["accuracy"]
        elif event["event"] == "stopped":
            return None
        else:
            sys.exit(event["message"])


pruner = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=2)
study = optuna.create_study(direction="maximize", pruner=pruner)
if pathlib.Path(FOLDER, "sweep.toml").exists():
    lines = subprocess.check_output(["lowbit", "sweep", "tell", FOLDER], text=True)
    for cell in map(json.loads, lines.splitlines()):
        if cell["event"] == "result":
            accuracy = cell["result"]["held_out"]["last"]["accuracy"]
            known = {"params": cell["settings"], "value": accuracy}
            study.add_trial(optuna.create_trial(distributions=SPACE, **known))
command = ["lowbit", "sweep", "ask", FILE, "--out", FOLDER]
with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as lowbit:
    for _ in range(int((sys.argv + ["8"])[1])):
        trial = study.ask(SPACE)
        accuracy = train(trial)
        state = optuna.trial.TrialState.PRUNED if accuracy is None else None
        study.tell(trial, accuracy, state)
        print(f"trial {trial.number}: {trial.params}, {accuracy or 'pruned'}")
    lowbit.stdin.close()
print(f"best: {study.best_params}, accuracy {study.best_value:.4f}, of {len(study.trials)} trials")
