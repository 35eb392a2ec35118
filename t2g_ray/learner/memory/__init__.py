"""What a learner keeps in host memory beside its device's."""
