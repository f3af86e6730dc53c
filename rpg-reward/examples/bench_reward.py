"""Math-Verify on a file of cases, for comparison with bench_reward.rs.

    python bench_reward.py CASES.jsonl [--passes N] [--hostile]

Runs in the main thread with the package's own time limits: `parse` and `verify` set an alarm for five seconds
each, and a case that exceeds it has no answer or is not equal. Gold answers are LaTeX or plain text without
the dollar signs that `parse` looks for, so these are added, as the package's README asks for.
"""

import json
import logging
import sys
import time
from importlib.metadata import version

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

# The source of cases that are made to break a grader; they are timed separately.
HOSTILE = "adversarial"

CONFIG = [LatexExtractionConfig(), ExprExtractionConfig()]


def grade(case):
    gold = case["gold"]
    if not any(mark in gold for mark in ("$", "\\(", "\\[", "\\boxed")):
        gold = f"${gold}$"
    return verify(parse(gold, CONFIG), parse(case["pred"], CONFIG))


def run(cases):
    """The seconds of the run, and the result of each case."""
    results = []
    start = time.perf_counter()
    for case in cases:
        began = time.perf_counter()
        correct = grade(case)
        results.append((case, correct, time.perf_counter() - began))
    return time.perf_counter() - start, results


def summary(results):
    slowest = max(results, key=lambda result: result[2])
    judged = [
        (case["expect"], correct)
        for case, correct, _ in results
        if case.get("expect") is not None
    ]
    return {
        "cases": len(results),
        "judged": len(judged),
        "agree": sum(expect == correct for expect, correct in judged),
        "false_positives": sum(correct and not expect for expect, correct in judged),
        "false_negatives": sum(expect and not correct for expect, correct in judged),
        "slowest_ms": 1e3 * slowest[2],
        "slowest": str(slowest[0].get("id", "")),
    }


def peak_mib():
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return float(line.split()[1]) / 1024
    except OSError:
        return None


def main():
    # Timeouts and parse errors are warnings with a backtrace; the counts include them.
    logging.disable(logging.WARNING)
    path = sys.argv[1]
    n_passes = int(sys.argv[sys.argv.index("--passes") + 1]) if "--passes" in sys.argv else 3
    with open(path, encoding="utf-8") as file:
        all_cases = [json.loads(line) for line in file if line.strip()]
    hostile = [case for case in all_cases if case.get("source", "").startswith(HOSTILE)]
    cases = [case for case in all_cases if not case.get("source", "").startswith(HOSTILE)]
    first, results = run(cases)
    # After the first pass the caches of SymPy and the parser contain these cases: the best pass is the
    # fastest that the package can be.
    best = first
    for _ in range(n_passes - 1):
        seconds, again = run(cases)
        if seconds < best:
            best, results = seconds, again
    answer = {
        "version": version("math-verify"),
        "cases_per_second": len(cases) / best,
        "first_cases_per_second": len(cases) / first,
        "peak_mib": peak_mib(),
        "ordinary": summary(results),
    }
    if "--hostile" in sys.argv and hostile:
        answer["hostile"] = summary(run(hostile)[1])
        answer["hostile_peak_mib"] = peak_mib()
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
