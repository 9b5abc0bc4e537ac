"""Ax proposes widths and learning rates by Bayesian optimization.

    pip install ax-platform
    python3 examples/sweep/ax_search.py [TRIALS]

Run again, it takes up the cells that are in the folder.
"""

import json
import pathlib
import subprocess
import sys

from ax.api.client import Client
from ax.api.configs import RangeParameterConfig

FILE = pathlib.Path(__file__).with_name("search.toml")
FOLDER = "runs/ax"

client = Client(random_seed=0)
client.configure_experiment(
    name="lowbit",
    parameters=[
        RangeParameterConfig(name="bits", parameter_type="int", bounds=(1, 8)),
        RangeParameterConfig(name="lr", parameter_type="float", bounds=(1e-3, 1e-1), scaling="log"),
    ],
)
client.configure_optimization(objective="accuracy")
if pathlib.Path(FOLDER, "sweep.toml").exists():
    known = subprocess.check_output(["lowbit", "sweep", "tell", FOLDER], text=True)
    for cell in map(json.loads, known.splitlines()):
        if cell["event"] == "result":
            index = client.attach_trial(parameters=cell["settings"])
            accuracy = cell["result"]["held_out"]["last"]["accuracy"]
            client.complete_trial(index, raw_data={"accuracy": accuracy})
command = ["lowbit", "sweep", "ask", FILE, "--out", FOLDER]
with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as lowbit:
    for _ in range(int((sys.argv + ["8"])[1])):
        for index, settings in client.get_next_trials(max_trials=1).items():
            print(json.dumps(settings), file=lowbit.stdin, flush=True)
            for event in map(json.loads, lowbit.stdout):
                if event["event"] == "result":
                    accuracy = event["result"]["held_out"]["last"]["accuracy"]
                    client.complete_trial(index, raw_data={"accuracy": accuracy})
                    print(f"trial {index}: {settings}, accuracy {accuracy:.4f}")
                    break
                if event["event"] == "error":
                    client.mark_trial_failed(index)
                    break
    lowbit.stdin.close()
settings, prediction, index, _ = client.get_best_parameterization(use_model_predictions=False)
print(f"best: {settings}, trial {index}, accuracy {prediction['accuracy'][0]:.4f}")
