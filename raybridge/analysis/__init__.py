"""What the numbers say: tables in, tables and verdicts out. No torch, nothing written."""
