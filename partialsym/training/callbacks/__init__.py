"""Lightning callbacks: checkpoints, the progress bar and the detection of divergence."""
