"""Names and URLs of models -> folders on this machine."""
