"""How thresholds start."""

from . import hook, ignore, init, kl, max, sd
from .hook import add_hook, add_hook_general, get_hook, hook_handler, remove_hook, remove_hookout
from .init import init_3sd, init_kl_j, init_max, init_network, qsigned
from .kl import entropy_calibration
from .max import threshold_activation_max, threshold_bias_max, threshold_weight_max
from .sd import threshold_activation_3sd, threshold_bias_3sd, threshold_weight_3sd

__all__ = [
    "add_hook",
    "add_hook_general",
    "entropy_calibration",
    "get_hook",
    "hook",
    "hook_handler",
    "ignore",
    "init",
    "init_3sd",
    "init_kl_j",
    "init_max",
    "init_network",
    "kl",
    "max",
    "qsigned",
    "remove_hook",
    "remove_hookout",
    "sd",
    "threshold_activation_3sd",
    "threshold_activation_max",
    "threshold_bias_3sd",
    "threshold_bias_max",
    "threshold_weight_3sd",
    "threshold_weight_max",
]
