"""Rival servers for the benchmarks, each a process of its own, with the same encoder as ours."""
