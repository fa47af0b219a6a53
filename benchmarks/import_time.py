"""How long `import mcm` takes beyond numpy and Pillow: `python -m benchmarks.import_time`.

Runs `python -X importtime` in fresh processes with numpy and PIL.Image imported first, and adds up the
own time of every module that `import mcm` loads after them, less those of numpy and Pillow.
"""

import statistics
import subprocess
import sys

RUNS = 7
SHOWN = 10
BUDGET_MS = 150
NOT_OURS = ("numpy", "PIL")
CODE = "import numpy, PIL.Image, sys; sys.stderr.write('-- mcm --\\n'); import mcm"


def own_times_ms() -> dict[str, float]:
    """Module -> its own import time in milliseconds, in one fresh process."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", CODE], capture_output=True, text=True, check=True
    )
    times: dict[str, float] = {}
    for line in done.stderr.partition("-- mcm --\n")[2].splitlines():
        own, _, name = line.removeprefix("import time:").split("|")
        if name.strip().partition(".")[0] not in NOT_OURS:
            times[name.strip()] = int(own) / 1000
    return times


def main() -> None:
    runs = sorted((own_times_ms() for _ in range(RUNS)), key=lambda run: sum(run.values()))
    totals = [sum(run.values()) for run in runs]
    print(f"import mcm beyond numpy and Pillow: median {statistics.median(totals):.1f} ms of {RUNS} runs")
    print(f"  (from {totals[0]:.1f} to {totals[-1]:.1f} ms; budget {BUDGET_MS} ms)")
    slowest = sorted(runs[RUNS // 2].items(), key=lambda item: -item[1])
    for name, own_ms in slowest[:SHOWN]:
        print(f"{own_ms:8.1f} ms  {name}")


if __name__ == "__main__":
    main()
