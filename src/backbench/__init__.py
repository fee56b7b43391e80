"""Backbench: which sequence backbone makes the best decision maker, and at what cost?"""

__version__ = "0.2.0"
