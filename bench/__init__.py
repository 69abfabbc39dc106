"""What it costs: raybridge beside plain transformers, the same work in one run (`python -m bench`).

`train`, `decode`, `evaluate` and `sweep` are a file each, `plain_*` what they are held against; `card`, `report`, `shapes` and
`turns` are what they share. The other files are scripts with docstrings of their own: `python bench/NAME.py --help`.
"""
