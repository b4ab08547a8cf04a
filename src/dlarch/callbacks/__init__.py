"""What people see of a run, and what keeps it safe; import what you need from the submodules."""
