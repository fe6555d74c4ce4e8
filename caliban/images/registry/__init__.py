"""Container registries: image names, authentication, pushes and their errors."""
