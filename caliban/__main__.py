"""``python -m caliban``."""

from caliban.main import main

if __name__ == "__main__":
    main()
