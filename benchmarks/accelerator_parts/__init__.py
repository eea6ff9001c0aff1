"""What benchmarks/accelerator.py measures, a file a part, most important first.

A part has a TITLE, a sentence WHY, and `run(record)`, which measures case after case
through `recorder.Recorder.case`.
"""

PARTS = {
    "floor": 0.06,
    "job": 0.12,
    "training": 0.24,
    "ensembles": 0.12,
    "kernels": 0.16,
    "sampling": 0.06,
    "precision": 0.10,
    "map": 0.14,
}
"""Parts in their order, and their shares of the time; what one leaves, others get."""
