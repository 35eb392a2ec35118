"""The same work by this product and by others, in one run."""
