"""What the tests and the demo need on a bare machine, each brought up and taken down by one module.

Standard library only: this runs before there is a virtual environment.
"""
