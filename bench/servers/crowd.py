"""Another process that computes: what the host makes of a busy neighbour CPU, whoever it is that is busy."""

from __future__ import annotations


def main() -> None:
    print("ready", flush=True)
    while True:
        pass


if __name__ == "__main__":
    main()
