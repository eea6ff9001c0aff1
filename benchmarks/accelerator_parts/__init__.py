"""What benchmarks/accelerator.py measures, a file a part, most important first.

A part has a TITLE, a sentence WHY, and `run(record)`, which measures case after case
through `recorder.Recorder.case`.
"""

PARTS = {
    "floor": 0.07,
    "job": 0.08,
    "training": 0.30,
    "kernels": 0.16,
    "ensembles": 0.10,
    "sampling": 0.03,
    "precision": 0.14,
    "map": 0.12,
}
"""Parts in their order, and their shares of the time; what one leaves, others get."""
