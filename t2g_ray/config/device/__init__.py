"""The device -> the settings that follow from it, beneath those that were written."""
