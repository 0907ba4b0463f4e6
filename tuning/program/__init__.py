"""What `check`, `apply`, `revert` and `measure` share. Python 3.8 or later, standard library."""
