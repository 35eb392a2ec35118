"""What each process of a run holds, on its device and in its machine's memory."""
