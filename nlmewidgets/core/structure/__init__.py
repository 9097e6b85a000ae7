"""How a prediction is computed: one file each."""
