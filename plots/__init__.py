"""What to show: one file a figure or table."""
