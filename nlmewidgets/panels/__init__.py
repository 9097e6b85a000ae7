"""Widgets: state, view, and calls into diagnostics."""
