"""The command-line interface for single runs and batches."""
