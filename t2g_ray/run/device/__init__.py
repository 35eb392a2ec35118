"""This machine and its installed packages -> the device that they can use, and its GPUs."""
