"""The command line: one file for each command. Nothing heavy is imported before a command runs."""

from x2l.cli.app import main as main
