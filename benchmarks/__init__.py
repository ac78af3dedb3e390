"""Ratios against baselines measured in the same run: `make bench`. Not part of the application, not in the wheel.

One file a subject; what each row means and what it gave is in docs/performance.md.
"""
