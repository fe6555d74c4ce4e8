"""The names at the top of the build context, where no file of the project is."""

DOCKERFILE = "Dockerfile"
CODE = "code"
EXTRA = "extra"
REQUIREMENTS = "requirements"
CONDA = "conda"
PACKAGING = "packaging"
SKELETON = "skeleton"
"""Has an empty directory for the code, for base images that declare it as a volume: only COPY changes its owner."""

PROJECT_REQUIREMENTS = "project-requirements.txt"
"""In ``PACKAGING``: the dependencies of a project that is not installed itself."""

ALL_PROJECT_REQUIREMENTS = f"all-{PROJECT_REQUIREMENTS}"
"""The same with the directories that pip builds."""
