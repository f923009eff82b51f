"""Show how often each word was heard: kws-edge listen --json | python dashboard.py"""

import json
import sys
from collections import Counter

heard: Counter[str] = Counter()
for line in sys.stdin:
    heard[json.loads(line)["keyword"]] += 1
    rows = [f"{keyword:<8}{count:>4} {'#' * count}" for keyword, count in heard.most_common()]
    print("\033[2J\033[H" + "\n".join(rows), flush=True)
