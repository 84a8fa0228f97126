"""`python -m audiotokens.cli` is `audiotokens`."""

from audiotokens.cli import main

if __name__ == "__main__":
    main(prog_name="audiotokens")
