"""Downloads and reads model files (checkpoints, LoRAs, tokenizers), and parses prompts."""
