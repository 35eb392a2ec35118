"""Offline only: native layouts or teachers -> records, inspected, selected and described."""
