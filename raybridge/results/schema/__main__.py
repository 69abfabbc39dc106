"""`python -m raybridge.results.schema > docs/schema.md`."""

import sys

from raybridge.results.schema import FILES, described

TITLE = """# What is in ray_results/

Every file, and every column or key in it. Tables are parquet, lines of JSON end in .jsonl. A column that no row measured is
absent or missing, never 0. A file without a column that has a star is refused. Each JSON object and each line of JSON has a
key `checksum` besides: CRC-32 of the others. Printed by `python -m raybridge.results.schema`.
"""

if __name__ == "__main__":
    sys.stdout.write(f"{TITLE}\n{described(FILES)}")
