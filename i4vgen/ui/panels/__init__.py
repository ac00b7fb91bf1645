"""The panels of the page. Each draws itself and connects its own events; none knows another."""
