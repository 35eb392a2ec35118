"""What a process does when: its start by parts, the phases of a learner's step, profiles."""
