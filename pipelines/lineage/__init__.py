"""Where a feature set, a run or a registered version comes from, and whether every link of that chain holds."""
