"""Training a router on labels; Lightning stays here."""

TRAINING_VERSION = 1  # data, module, fit: the weights that labels lead to
CALIBRATION_VERSION = 3  # calibrate, replay: thresholds, and what each does to the labels

AT_BEST_EPOCH = ("auroc", "average_precision")  # figures of validation that need no threshold

# Divergent validation tokens from which on a recall is chosen by: of 50, 95 % are 48, whose 95 %
# (Clopper-Pearson) interval goes from 86 to 99.5 %, and below that one outlier sets the threshold.
FEW = 50
# Routed instead: so many times the share of divergent tokens (nano takes 2.5 times for a recall of
# 0.97), and a tenth at least, since few labels make weak routers: of a real pair's 105 divergent
# tokens one had learned to find a quarter among 8 % of the tokens, and none among 1 %.
SHARE_OF_FEW, LEAST_OF_FEW = 3, 0.1


def share_of_few(divergent: float) -> float:
    """The share of the tokens to route where a share ``divergent`` of them is, but too few."""
    return min(1.0, max(LEAST_OF_FEW, SHARE_OF_FEW * divergent))


def few(divergent: int) -> bool:
    """Whether so many divergent validation tokens are too few to choose a recall by."""
    return divergent < FEW
