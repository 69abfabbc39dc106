"""A setting becomes requests and requests become rows, each computed once and kept."""
