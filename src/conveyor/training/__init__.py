"""What is common to all tasks: options, the training loop on Lightning, checkpoints, model bundles, reports."""
