"""Native layouts of public data sets -> records, a module a layout."""
