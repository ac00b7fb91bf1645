"""The panels of the page. Each draws itself, connects its own events and imports no other panel."""
