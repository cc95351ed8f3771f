"""Every name a built-in recipe can use; loaded by entry point, imported by nobody."""
