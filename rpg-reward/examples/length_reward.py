#!/usr/bin/env python3
"""A reward command: one JSON object per line in, one per line out, in the same order.

Scores a completion by whether the gold answer occurs in it, minus a little for every word.
"""

import json
import sys

for line in sys.stdin:
    item = json.loads(line)
    found = float(item["gold"] in item["completion"])
    brevity = -0.001 * len(item["completion"].split())
    answer = {
        "id": item["id"],
        "score": found + brevity,
        "parts": {"found": found, "brevity": brevity},
    }
    # Flush each answer, because the caller waits for it.
    print(json.dumps(answer), flush=True)
