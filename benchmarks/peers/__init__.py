"""The same work done by this product and by others, in one run."""
