"""Other packages' implementations of our backbones, for ``compare_references.py``."""
