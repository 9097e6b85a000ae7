"""Seconds and peak memory of reading a CSV file of a million records; ``python benchmarks/records.py [rows]``."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

PER_SUBJECT = 20


def write(path: Path, rows: int) -> None:
    """Write a study of the usual columns: two doses and eighteen observations a subject."""
    rng = np.random.default_rng(1)
    n = rows // PER_SUBJECT
    within = np.tile(np.arange(PER_SUBJECT), n)
    dose = within % 10 == 0
    text = {
        "ID": np.repeat(np.arange(1, n + 1), PER_SUBJECT),
        "TIME": within * 1.25,
        "EVID": dose.astype(int),
        "AMT": np.where(dose, 100.0, 0.0),
        "CMT": np.where(dose, 1, 2),
        "DV": np.where(dose, ".", np.char.mod("%.4f", rng.lognormal(1, 1, len(within)))),
        "MDV": dose.astype(int),
        "WT": np.repeat(np.round(rng.normal(70, 12, n), 1), PER_SUBJECT),
        "SEX": np.repeat(rng.choice(["F", "M"], n), PER_SUBJECT),
        "OCC": 1 + within // 10,
    }
    pd.DataFrame(text).to_csv(path, index=False)


def read(path: str) -> None:
    """Read the file and print seconds and peak memory (MB) of this process, and what it held before."""
    import nlmewidgets as nw

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start, busy = time.perf_counter(), time.process_time()
    data = nw.Data.read_csv(path)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{len(data)} records: {seconds:.2f} s ({busy:.2f} s of processor time), "
        f"peak {peak:.0f} MB (of which {before:.0f} MB before reading)"
    )


def main() -> None:
    """Write a file and read it in a process of its own, whose memory is nothing else's."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.csv"
        write(path, rows)
        size = path.stat().st_size / 2**20
        print(f"{rows} rows, {size:.0f} MB of text")
        subprocess.run([sys.executable, __file__, "--read", str(path)], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        read(sys.argv[2])
    else:
        main()
