"""Names of older releases, which scripts, packages and files still use."""
