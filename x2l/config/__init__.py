"""Plain data in: fields of a class checked against annotations, YAML files, overrides."""
