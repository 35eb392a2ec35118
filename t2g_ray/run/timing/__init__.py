"""What a process does when: its start by parts, and which steps are profiled."""
