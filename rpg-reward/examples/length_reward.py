#!/usr/bin/env python3
"""A reward command: one JSON object a line in, one a line out, in the same order.

Scores a completion by whether the gold answer occurs in it, and takes a little off for every word.
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
    # Each answer is flushed: the other side waits for it.
    print(json.dumps(answer), flush=True)
