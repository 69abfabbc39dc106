"""`python -m raybridge.plots`."""

from raybridge.plots import app

app()
