"""Training a router on labels; Lightning stays here."""

TRAINING_VERSION = 1  # data, module, fit: the weights that labels lead to
CALIBRATION_VERSION = 1  # calibrate, replay: thresholds, and what each does to the labels
