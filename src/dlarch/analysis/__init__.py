"""What to look at after a training; import what you need from the submodules."""
