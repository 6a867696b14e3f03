"""Ray Data jobs; each file offers run(settings, ...) -> Report."""
