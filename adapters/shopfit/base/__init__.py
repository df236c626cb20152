"""The base model: its files, loading, fingerprint, tokenization, prompts and scoring. It knows no adapters."""
