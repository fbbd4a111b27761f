"""Training a router on labels; Lightning stays here."""

TRAINING_VERSION = 1  # data, module, fit: the weights that labels lead to
CALIBRATION_VERSION = 2  # calibrate, replay: thresholds, and what each does to the labels

# Divergent validation tokens from which on a recall is chosen by: of 50, 95 % are 48, whose 95 %
# (Clopper-Pearson) interval goes from 86 to 99.5 %, and below that one outlier sets the threshold.
FEW = 50
SHARE_OF_FEW = 3  # times the share of divergent tokens are routed instead


def few(divergent: int) -> bool:
    """Whether so many divergent validation tokens are too few to choose a recall by."""
    return divergent < FEW
