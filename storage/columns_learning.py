"""The columns of the tables of learning: rows to learn from, learning curves, folds, trials of a search."""

from __future__ import annotations

import pyarrow as pa

from storage.fields import EV, LIST_F64, NONE, f64, field, i32, text

_TARGET = "unit of the target"

LEARNING_TABLES: dict[str, tuple[int, list[pa.Field]]] = {
    "examples": (
        1,
        [
            text("material_id", "identifier, unique within its source"),
            text("formula", "reduced formula"),
            text("chemsys", "chemical system: element symbols in alphabetical order, joined by '-'"),
            text("split", "part of the data the row belongs to: train, calibration or validation"),
            field("labels", LIST_F64, _TARGET, "what is to be learned, in the order of the manifest's targets; or NaN"),
        ],
    ),
    "further_columns": (
        1,
        [
            field("row", pa.int64(), NONE, "row of the table of compounds"),
            text("column", "name of a column that the file has and we do not know"),
            f64("value", "unit of the column", "number, 1 and 0 for yes and no"),
        ],
    ),
    "taught": (
        1,
        [
            text("formula", "reduced formula"),
            text("chemsys", "chemical system: element symbols in alphabetical order, joined by '-'"),
            f64("label", _TARGET, "what the teacher predicts"),
        ],
    ),
    "learning_curve": (
        2,  # 2: losses, and error rates of classes
        [
            i32("member", "member of the ensemble, from 0"),
            i32("epoch", "epoch, from 1"),
            f64("learning_rate", NONE, "learning rate at the end of the epoch"),
            f64("train_loss", NONE, "loss of normalised targets on the training rows", null=True),
            f64("validation_loss", NONE, "loss of normalised targets on held-out rows", null=True),
            f64("train_mae", _TARGET, "mean absolute error on the training rows", null=True),
            f64("validation_mae", _TARGET, "mean absolute error on held-out rows", null=True),
            f64("train_error_rate", NONE, "share of training rows with a wrong class", null=True),
            f64("validation_error_rate", NONE, "share of held-out rows with a wrong class", null=True),
        ],
    ),
    "fold": (
        1,
        [
            field("row", pa.int64(), NONE, "row of the table of examples"),
            text("formula", "reduced formula"),
            text("chemsys", "chemical system"),
            f64("truth", _TARGET, "label; for classes 0 or 1"),
            f64("prediction", _TARGET, "prediction; for classes the probability of 1"),
            f64("prediction_std", _TARGET, "standard deviation that goes with it", null=True),
        ],
    ),
    "cross_validation": (
        1,
        [
            text("entry", "what was trained"),
            i32("seed", "seed of its weights"),
            text("fold", "name of the fold"),
            i32("n_train", "rows that were learnt from"),
            i32("n_test", "rows that were measured"),
            f64("mae", _TARGET, "mean absolute error; null for classes", null=True),
            f64("rmse", _TARGET, "root mean squared error", null=True),
            f64("r2", NONE, "share of the variance that is explained", null=True),
            f64("f1", NONE, "harmonic mean of precision and recall, for classes", null=True),
            f64("auc", NONE, "area under the receiver operating characteristic, for classes", null=True),
        ],
    ),
    "stability": (
        1,
        [
            text("entry", "what was trained"),
            i32("seed", "seed of its weights"),
            field("size", pa.int32(), NONE, "training rows that were asked for; null: all of the fold's", null=True),
            text("fold", "name of the fold that the compound was tested in"),
            field("row", pa.int64(), NONE, "row of the table of examples"),
            text("formula", "reduced formula"),
            text("chemsys", "chemical system: element symbols in alphabetical order, joined by '-'"),
            f64("predicted", EV, "predicted decomposition energy"),
            f64("true", EV, "decomposition energy from the true energies of all rows"),
        ],
    ),
    "trials": (
        1,
        [
            i32("trial", "number of the configuration, from 0, in the order in which they were chosen"),
            i32("rung", "rung of successive halving, from 0; each has a larger budget than the one before"),
            field("epochs", pa.int32(), NONE, "budget of the rung; null for what has no epochs", null=True),
            text("configuration", "its hyper-parameters, JSON"),
            f64("value", _TARGET, "mean error on held-out rows, or 1 minus a score; null if it diverged", null=True),
            text("state", "finished, promoted to the next rung, stopped early, or diverged"),
            text("reason", "why it was stopped, or how it diverged", null=True),
        ],
    ),
}
"""Name of a table -> version of its schema and columns."""
