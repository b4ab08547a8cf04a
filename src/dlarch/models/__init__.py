"""One architecture per file, one folder per family."""
