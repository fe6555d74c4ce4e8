"""A miniature training script: waits, and reports its speed."""

import argparse
import time


def examples_per_second(examples: int, seconds: int) -> float:
    """Return the speed; the first second, a warm-up, does not count."""
    return examples / (seconds - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--foo", type=int, default=1, help="hundreds of examples to train on")
    parser.add_argument("--sleep", type=int, default=2, help="seconds of training")
    args = parser.parse_args()

    print(f"training on {args.foo * 100} examples for {args.sleep} s", flush=True)
    time.sleep(args.sleep)
    print(f"{examples_per_second(args.foo * 100, args.sleep):.0f} examples per second")


if __name__ == "__main__":
    main()
