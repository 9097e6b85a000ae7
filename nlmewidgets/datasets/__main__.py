"""Write the simulated data sets again: ``python -m nlmewidgets.datasets``."""

from pathlib import Path

from nlmewidgets.datasets.simulated import write

write(Path(__file__).parent)
